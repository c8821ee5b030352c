// A browser that a test drives: one command a line on standard input, as JSON, and one answer a line
// on standard output. `GANTRY_PLAYWRIGHT` is the folder of playwright-core, `GANTRY_CHROMIUM` the
// browser.

import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { chromium } = await import(pathToFileURL(join(process.env.GANTRY_PLAYWRIGHT, "index.mjs")));
const browser = await chromium.launch({
  executablePath: process.env.GANTRY_CHROMIUM,
  // Tests may run as root, where Chromium has no sandbox.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

let page;
const errors = [];

const commands = {
  // A browser that knows nothing of earlier ones.
  async fresh({ width, height, dark, script }) {
    if (page) await page.context().close();
    const context = await browser.newContext({
      ignoreHTTPSErrors: true,
      javaScriptEnabled: script,
      colorScheme: dark ? "dark" : "light",
      viewport: { width, height },
    });
    page = await context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (line) => {
      if (line.type() === "error") errors.push(line.text());
    });
  },
  go: ({ url }) => page.goto(url, { waitUntil: "load" }).then(() => null),
  fill: ({ at, text }) => page.fill(at, text, { timeout: 50000 }),
  // What it leads to has to be waited for.
  click: ({ at }) => page.click(at, { timeout: 50000 }),
  press: ({ key }) => page.keyboard.press(key),
  // The value of an expression in the page.
  look: ({ code }) => page.evaluate(code),
  text: ({ at }) => page.locator(at).first().innerText({ timeout: 50000 }),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  // The whole page, unless it is very long.
  async shot({ path }) {
    const height = await page.evaluate(() => document.documentElement.scrollHeight).catch(() => 0);
    await page.screenshot({ path, fullPage: height < 1800 });
  },
  cookies: () => page.context().cookies(),
  // What the browser complained of so far, a broken content security policy included.
  errors: () => errors,
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
