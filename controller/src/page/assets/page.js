// Keeps the System Overview up to date. The server sends the parts that changed, as HTML; each is
// one element with an id, which is put in place of its older self with focus, open rows, scroll and
// filter as they were. Without signs of life from the server the page greys itself out.
"use strict";

const OLD_AFTER = 4000;
const AGAIN_AFTER = 8000;
const body = document.body;
const find = (id) => document.getElementById(id);

// Times

let lead = 0; // how far the server's clock is ahead of ours
const now = () => Date.now() + lead;

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 100) return `${s} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

const two = (number) => String(number).padStart(2, "0");

function words(time) {
  const at = new Date(time.dateTime);
  if (time.dataset.how === "for") return `for ${span(now() - at)}`;
  if (time.dataset.how === "in") return `in ${span(at - now())}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const today = new Date(now()).toDateString() === at.toDateString();
  return today ? clock : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

function tell(time) {
  const text = words(time);
  if (time.textContent !== text) time.textContent = text;
  const title = new Date(time.dateTime).toLocaleString();
  if (time.title !== title) time.title = title;
}

function tellTimes(root) {
  for (const word of root.querySelectorAll(".unscripted")) word.remove();
  for (const time of root.querySelectorAll("time")) tell(time);
}

// Putting parts in place

// What a person or this script has set stays as it is.
const OWN = new Set(["open", "hidden", "aria-current"]);

function attributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (!OWN.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!OWN.has(name) && name !== "title" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}

const same = (old, fresh) =>
  old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");

function children(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  let at = old.firstChild;
  for (const want of [...fresh.childNodes]) {
    const own = want.id && known.get(want.id);
    if (own) {
      if (own === at) at = at.nextSibling;
      else old.insertBefore(own, at);
      known.delete(want.id);
      morph(own, want);
    } else if (at && !at.id && same(at, want)) {
      const next = at.nextSibling;
      morph(at, want);
      at = next;
    } else {
      old.insertBefore(want, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  // Real servers that were fetched already may be others now.
  if (fresh.dataset.from && !old.dataset.from) return void fetchServers(old, fresh.dataset.from);
  attributes(old, fresh);
  if (old.nodeName === "TIME") tell(old);
  else children(old, fresh);
}

// Real servers are fetched when their row is opened. What the stream says of them before they are
// there is missed, and so they are fetched again.
let missed = new Set();

async function fetchServers(list, from) {
  const own = `server:${from.split("/").slice(2).join("/")}/`;
  do {
    missed = new Set([...missed].filter((id) => !id.startsWith(own)));
    const answer = await fetch(from, { headers: { "X-Gantry-Part": "1" } }).catch(() => null);
    if (!answer || !answer.ok) return;
    const box = document.createElement("template");
    box.innerHTML = await answer.text();
    tellTimes(box.content);
    list.removeAttribute("data-from");
    children(list, box.content.firstElementChild);
  } while ([...missed].some((id) => id.startsWith(own)));
}

document.addEventListener("toggle", (event) => {
  const list = event.target.open && event.target.querySelector("[data-from]");
  if (list) fetchServers(list, list.dataset.from);
}, true);

function put(html) {
  const box = document.createElement("template");
  box.innerHTML = html;
  tellTimes(box.content);
  const said = [];
  for (const fresh of [...box.content.children]) {
    const old = find(fresh.id);
    if (!old) {
      missed.add(fresh.id);
      continue;
    }
    const summaries = old.matches("summary") ? [old] : [];
    const before = summaries.map((row) => row.dataset.word);
    morph(old, fresh);
    summaries.forEach((row, at) => {
      if (row.dataset.word !== before[at]) {
        said.push(`${row.dataset.name} is ${row.dataset.word}`);
        flash(row);
      }
    });
  }
  if (said.length) find("says").textContent = said.slice(0, 5).join(". ");
  document.title = `${find("counts").dataset.title} · System Overview · Gantry`;
  filter();
}

function flash(row) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const tone = { good: "good", bad: "bad", warning: "warning" }[row.dataset.tone] || "idle";
  const ground = getComputedStyle(row).getPropertyValue(`--${tone}-ground`);
  row.animate([{ backgroundColor: ground }, {}], 1600);
}

// The filter

const query = new URLSearchParams(location.search);
let chosen = query.get("state") || "";
const box = find("q");

function filter() {
  const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let all = 0;
  let shown = 0;
  for (const service of document.querySelectorAll(".service")) {
    const tone = service.querySelector("summary").dataset.tone;
    const hide = (chosen && chosen !== tone) || !wanted.every((word) => service.dataset.find.includes(word));
    if (service.hidden !== Boolean(hide)) service.hidden = Boolean(hide);
    all += 1;
    shown += hide ? 0 : 1;
  }
  const count = chosen || wanted.length ? `${shown} of ${all}` : "";
  if (find("shown").textContent !== count) find("shown").textContent = count;
  find("none").hidden = shown > 0 || all === 0;
  for (const tile of document.querySelectorAll(".tile")) {
    if (tile.dataset.state === chosen) tile.setAttribute("aria-current", "true");
    else tile.removeAttribute("aria-current");
  }
}

function remember() {
  const parts = new URLSearchParams();
  if (chosen) parts.set("state", chosen);
  if (box.value) parts.set("q", box.value);
  history.replaceState(null, "", parts.size ? `/?${parts}` : "/");
  filter();
}

box.addEventListener("input", remember);
find("filter").addEventListener("submit", (event) => event.preventDefault());

// Questions

const dialog = find("dialog");
let asker = null;

async function ask(link) {
  asker = link.id ? link : { again: link.getAttribute("href") };
  const answer = await fetch(link.href, { headers: { "X-Gantry-Part": "1" } });
  if (answer.status === 401) return ended();
  show(await answer.text());
  if (!dialog.open) dialog.showModal();
  const primary = dialog.querySelector("#comment") || dialog.querySelector("button");
  if (primary) primary.focus();
}

function show(html) {
  dialog.innerHTML = html;
  tellTimes(dialog);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

dialog.addEventListener("input", () => {
  const code = dialog.querySelector("[data-command]");
  if (!code) return;
  const after = dialog.querySelector("#halt_after");
  const comment = dialog.querySelector("#comment").value.trim();
  let line = code.dataset.command;
  if (after && after.value) line += ` --halt-after ${after.value}`;
  if (comment) line += ` -m ${quoted(comment)}`;
  code.textContent = line;
});

dialog.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector(".primary");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { "X-Gantry-Part": "1" },
      body: new URLSearchParams(new FormData(form)),
    });
    const html = await answer.text();
    if (answer.status === 401) return ended();
    if (!answer.ok) return show(html);
    dialog.close();
    const made = document.createElement("template");
    made.innerHTML = html;
    say(made.content.textContent);
  } catch {
    button.disabled = false;
    say("The controller does not answer. Whether it was done is not known: look again.");
    dialog.close();
  }
});

dialog.addEventListener("close", () => {
  dialog.replaceChildren();
  const again = asker && asker.again && document.querySelector(`a[href="${CSS.escape(asker.again)}"]`);
  if (again) again.focus({ preventScroll: true });
});

let quiet = 0;
function say(text) {
  find("notice").textContent = text;
  find("notice").hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => (find("notice").hidden = true), 8000);
}

document.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const link = event.target.closest("a");
  if (!link) return;
  if (link.matches("[data-dialog]")) {
    event.preventDefault();
    ask(link).catch(() => say("The controller does not answer."));
  } else if (link.matches("[data-cancel]") && dialog.open) {
    event.preventDefault();
    dialog.close();
  } else if (link.matches(".tile")) {
    event.preventDefault();
    chosen = chosen === link.dataset.state ? "" : link.dataset.state;
    remember();
  } else if (link.matches("[data-all]")) {
    event.preventDefault();
    chosen = "";
    box.value = "";
    remember();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, dialog")) {
    event.preventDefault();
    box.focus();
  }
});

// The stream, and how old what is shown is

let stream = null;
let heard = Date.now();
let opened = 0;
let over = false;

function open() {
  if (stream) stream.close();
  opened = Date.now();
  stream = new EventSource(`/stream?frame=${encodeURIComponent(body.dataset.frame)}`);
  stream.addEventListener("tick", (event) => alive(event.data));
  stream.addEventListener("parts", (event) => {
    const end = event.data.indexOf("\n");
    put(event.data.slice(end + 1));
    body.dataset.frame = event.lastEventId;
    alive(event.data.slice(0, end));
  });
  stream.addEventListener("ended", ended);
  stream.addEventListener("error", async () => {
    if (stream.readyState !== EventSource.CLOSED || over) return;
    const answer = await fetch("/session").catch(() => null);
    if (answer && answer.status === 401) ended();
  });
}

function alive(time) {
  heard = Date.now();
  lead = Number(time) - heard;
  age();
}

function ended() {
  over = true;
  if (stream) stream.close();
  if (dialog.open) dialog.close();
  age();
}

function age() {
  const silent = Date.now() - heard;
  const old = over || silent > OLD_AFTER;
  const root = document.documentElement;
  root.classList.toggle("old", old);
  root.classList.toggle("following", !old);
  const banner = find("banner");
  if (old) {
    const [what, since, link] = banner.children;
    const text = over ? "Logged out" : "Not connected";
    if (what.textContent !== text) what.textContent = text;
    since.textContent = `: what you see is ${span(silent)} old. `;
    link.hidden = !over;
  }
  banner.hidden = !old;
  const live = find("live").querySelector("span");
  const state = old ? `${span(silent)} old` : "live";
  if (live.textContent !== state) live.textContent = state;
}

let last = Date.now();
setInterval(() => {
  const late = Date.now() - last > 2500;
  last = Date.now();
  age();
  tellTimes(document);
  // This page itself was asleep or busy: what was sent meanwhile is about to be heard.
  if (late) return;
  if (!over && Date.now() - heard > OLD_AFTER && Date.now() - opened > AGAIN_AFTER) open();
  else if (!over && stream.readyState === EventSource.CLOSED && Date.now() - opened > 1000) open();
}, 1000);

// A person who does something keeps the session; the stream alone does not.

let touched = Date.now();
for (const deed of ["pointerdown", "keydown", "wheel"]) {
  document.addEventListener(deed, () => {
    if (over || Date.now() - touched < 60000) return;
    touched = Date.now();
    fetch("/session", { method: "POST" }).catch(() => null);
  }, { passive: true });
}

document.documentElement.classList.add("scripted");
tellTimes(document);
filter();
age();
open();
