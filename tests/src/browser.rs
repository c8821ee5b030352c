//! Chromium, driven by a small script: what an operator's browser shows, and what comes of a click.
//!
//! `GANTRY_PLAYWRIGHT` is the folder of the npm package playwright-core, and `GANTRY_CHROMIUM` the
//! browser. With `GANTRY_SHOTS` set to a folder, [`Browser::shot`] leaves pictures there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::process::program;
use crate::wait::{eventually, soon};

/// One browser with one page. Dropped, it is gone.
#[derive(Debug)]
pub struct Browser {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// What kind of screen, and whether scripts run.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub script: bool,
}

pub const DESK: Screen = Screen { width: 1440, height: 900, dark: false, script: true };
pub const PHONE: Screen = Screen { width: 390, height: 844, ..DESK };

impl Browser {
    pub async fn start(screen: Screen) -> Self {
        let set =
            |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
        let cache = set("HOME", PathBuf::new()).join(".cache/gantry/playwright");
        let playwright = set("GANTRY_PLAYWRIGHT", cache.join("node_modules/playwright-core"));
        assert!(
            playwright.exists(),
            "{} is missing: `cargo xtask test` installs it, or set GANTRY_PLAYWRIGHT",
            playwright.display()
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/browser.mjs");
        let mut child = Command::new(program("node", "nodejs"))
            .arg(script)
            .env("GANTRY_PLAYWRIGHT", playwright)
            .env("GANTRY_CHROMIUM", set("GANTRY_CHROMIUM", program("chromium", "chromium")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let answers = BufReader::new(answers).lines();
        let mut browser = Self { commands, answers, _child: child };
        browser.fresh(screen).await;
        browser
    }

    /// Begins anew: no cookies, an empty page.
    pub async fn fresh(&mut self, screen: Screen) {
        let Screen { width, height, dark, script } = screen;
        self.command(json!({
            "do": "fresh", "width": width, "height": height, "dark": dark, "script": script,
        }))
        .await;
    }

    pub async fn go(&mut self, url: &str) {
        self.command(json!({ "do": "go", "url": url })).await;
    }

    pub async fn fill(&mut self, at: &str, text: &str) {
        self.command(json!({ "do": "fill", "at": at, "text": text })).await;
    }

    pub async fn click(&mut self, at: &str) {
        self.command(json!({ "do": "click", "at": at })).await;
    }

    pub async fn press(&mut self, key: &str) {
        self.command(json!({ "do": "press", "key": key })).await;
    }

    /// The text that is to be seen at a place.
    pub async fn text(&mut self, at: &str) -> String {
        let text = self.command(json!({ "do": "text", "at": at })).await;
        text.as_str().unwrap().to_owned()
    }

    /// The value of an expression in the page.
    pub async fn look(&mut self, code: &str) -> Value {
        self.command(json!({ "do": "look", "code": code })).await
    }

    /// Waits until an expression in the page is true.
    pub async fn sees(&mut self, what: &str, code: &str) {
        eventually(what, async || {
            let command = json!({ "do": "look", "code": code });
            // While a page gives way to the next there is nothing to look at.
            let answer = self.ask(command).await.ok()?;
            (answer == Value::Bool(true)).then_some(())
        })
        .await;
    }

    pub async fn size(&mut self, width: u32, height: u32) {
        self.command(json!({ "do": "size", "width": width, "height": height })).await;
    }

    /// What the browser complained of.
    pub async fn errors(&mut self) -> Value {
        self.command(json!({ "do": "errors" })).await
    }

    pub async fn cookies(&mut self) -> Value {
        self.command(json!({ "do": "cookies" })).await
    }

    /// Takes a picture of the whole page, if pictures are wanted.
    pub async fn shot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("GANTRY_SHOTS") else { return };
        let path = Path::new(&folder).join(format!("{name}.png"));
        self.command(json!({ "do": "shot", "path": path })).await;
    }

    async fn command(&mut self, command: Value) -> Value {
        let told = command.to_string();
        self.ask(command).await.unwrap_or_else(|error| panic!("{told}: {error}"))
    }

    async fn ask(&mut self, command: Value) -> Result<Value, String> {
        let line = format!("{command}\n");
        self.commands.write_all(line.as_bytes()).await.unwrap();
        let answer = soon("the browser answers", self.answers.next_line()).await.unwrap();
        let answer: Value = serde_json::from_str(&answer.expect("an answer")).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["ok"].clone()),
        }
    }
}
