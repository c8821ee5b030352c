//! docs/api.md is true: every call in it is run, in order, and answers what it shows; and every call
//! there is stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use gantry_tests::backend::Backend;
use gantry_tests::process::{Ran, program};
use gantry_tests::wait::soon;
use gantry_tests::{Process, Site, buf, eventually};
use prost::Message;
use serde_json::Value;

/// A block of shell, and the answer that is shown below it.
#[derive(Debug)]
struct Block {
    line: usize,
    shell: String,
    answer: Option<Value>,
}

impl Block {
    /// `Service/Method`, if it calls one.
    fn method(&self) -> Option<&str> {
        let call = self.shell.lines().find_map(|line| line.strip_prefix("call "))?;
        call.split_whitespace().next().filter(|method| method.contains('/'))
    }
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    std::fs::read_to_string(path).unwrap()
}

/// What is between the fences, of those that count.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence: Option<(&str, usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut fence, line.strip_prefix("```")) {
            (None, Some(kind)) => fence = Some((kind, at + 1, String::new())),
            (Some((_, _, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (Some(_), Some(_)) => {
                let (kind, line, content) = fence.take().unwrap();
                match kind {
                    "sh" => blocks.push(Block { line, shell: content, answer: None }),
                    "json" => {
                        let answer = serde_json::from_str(&content);
                        let answer = answer.unwrap_or_else(|error| panic!("line {line}: {error}"));
                        blocks.last_mut().unwrap().answer = Some(answer);
                    }
                    _ => {}
                }
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Every call of operators, and whether it streams.
fn methods() -> BTreeMap<String, bool> {
    let files = prost_types::FileDescriptorSet::decode(gantry_proto::DESCRIPTORS).unwrap();
    let own = files.file.iter().filter(|file| file.package() == "gantry.v1");
    let services = own.flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let name = |method: &str| format!("{}/{method}", service.name());
            service.method.iter().map(move |it| (name(it.name()), it.server_streaming()))
        })
        .collect()
}

/// Whether all that is shown is in what was answered.
fn shows(shown: &Value, answered: &Value) -> bool {
    match (shown, answered) {
        (Value::Object(shown), Value::Object(answered)) => shown
            .iter()
            .all(|(key, value)| answered.get(key).is_some_and(|answer| shows(value, answer))),
        (Value::Array(shown), Value::Array(answered)) => {
            let mut rest = answered.iter();
            shown.iter().all(|value| rest.any(|answer| shows(value, answer)))
        }
        (Value::String(shown), Value::String(answered)) => fits(shown, answered),
        (shown, answered) => shown == answered,
    }
}

/// Whether a text is as shown, where `…` stands for anything.
fn fits(shown: &str, answered: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = answered.strip_prefix(first) else { return false };
    if first.len() == shown.len() {
        return rest.is_empty();
    }
    let parts: Vec<_> = parts.collect();
    let (last, middle) = parts.split_last().unwrap();
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The document, carried out on a site.
struct Reader {
    site: Site,
    prelude: String,
    /// The token of the newest page.
    token: String,
}

impl Reader {
    fn command(&self, shell: &str) -> Vec<String> {
        let host = self.site.url.strip_prefix("https://").unwrap();
        let identity = self.site.operator();
        let folder = buf::program().parent().unwrap().to_str().unwrap().to_owned();
        let environment = format!(
            "HOST={host}; IDENTITY={}; PATH={folder}:$PATH; cd {}\n",
            identity.to_str().unwrap(),
            self.site.folder("reader").to_str().unwrap()
        );
        let [a, b, c, _] = self.site.block.address(0).octets();
        let text =
            format!("{}{shell}", self.prelude).replace("127.12.1.", &format!("{a}.{b}.{c}."));
        vec!["-c".to_owned(), environment + &text.replace("TOKEN", &self.token)]
    }

    async fn run(&self, shell: &str) -> Ran {
        let bash = program("bash", "bash");
        gantry_tests::process::run(&bash, self.command(shell), self.site.dir()).await
    }

    /// The answer as shown, in the addresses of this site.
    fn shown(&self, block: &Block) -> Value {
        let answer = block.answer.as_ref().unwrap_or_else(|| panic!("no answer: {block:?}"));
        let [a, b, c, _] = self.site.block.address(0).octets();
        let text = answer.to_string().replace("127.12.1.", &format!("{a}.{b}.{c}."));
        serde_json::from_str(&text).unwrap()
    }

    /// Carries out one block; its answer is as shown. What only reads may have to wait for it.
    async fn carry_out(&mut self, block: &Block) {
        let shown = self.shown(block);
        let method = block.method().unwrap().split('/').nth(1).unwrap();
        let reads = ["Get", "List", "Export", "Plan"].iter().any(|word| method.starts_with(word));
        for attempt in 0.. {
            let ran = self.run(&block.shell).await;
            let fails = shown.get("code").is_some();
            let text = if fails { &ran.err } else { &ran.out };
            let answer: Value = serde_json::from_str(text).unwrap_or_default();
            if ran.status.success() != fails && shows(&shown, &answer) {
                if let Some(token) = answer["nextPageToken"].as_str() {
                    token.clone_into(&mut self.token);
                }
                return;
            }
            let line = block.line;
            assert!(
                reads && attempt < 40,
                "docs/api.md:{line} shows\n{shown:#}\nand the answer is\n{}{}",
                ran.out,
                ran.err
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Follows a stream until it says what is shown.
    async fn follow(&self, block: &Block) {
        let shown = self.shown(block);
        let command = self.command(&block.shell);
        let bash = program("bash", "bash");
        let stream = Process::start("stream", &bash, command, &self.site.folder("reader"));
        let what = format!("docs/api.md:{} is answered as it shows", block.line);
        eventually(&what, async || {
            let log = stream.log();
            let answers = serde_json::Deserializer::from_str(&log).into_iter::<Value>();
            answers.map_while(Result::ok).find(|answer| shows(&shown, answer))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_docs_show_calls_that_work_and_what_they_answer() {
    let site = Site::with_page().await;
    let mut archives = Vec::new();
    for last in [11, 12, 13] {
        archives.push(Backend::start("pacs", site.block.socket(last, 104)).await);
    }
    let mut reader = Reader { site, prelude: String::new(), token: String::new() };
    let methods = methods();
    for block in blocks(&document()) {
        match block.method() {
            None if block.shell.contains("call() {") => reader.prelude = block.shell,
            None => drop(reader.run(&block.shell).await.output()),
            Some(method) if methods[method] => {
                soon("a stream is followed", reader.follow(&block)).await;
            }
            Some(_) => reader.carry_out(&block).await,
        }
    }
}

#[test]
fn api_docs_have_every_call_there_is() {
    let shown: BTreeSet<_> =
        blocks(&document()).iter().filter_map(|block| block.method().map(str::to_owned)).collect();
    let all: BTreeSet<_> = methods().into_keys().collect();
    let missing: Vec<_> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "docs/api.md does not show {missing:?}");
    let unknown: Vec<_> = shown.difference(&all).collect();
    assert!(unknown.is_empty(), "docs/api.md shows {unknown:?}, which is no call");
}

#[test]
fn api_docs_answers_are_compared_by_what_is_shown() {
    let answered = serde_json::json!({"a": "one two three", "b": [{"c": 1}, {"c": 2, "d": 3}]});
    for (shown, fits) in [
        (serde_json::json!({}), true),
        (serde_json::json!({"a": "one…"}), true),
        (serde_json::json!({"a": "…three"}), true),
        (serde_json::json!({"a": "one…two…three"}), true),
        (serde_json::json!({"a": "one"}), false),
        (serde_json::json!({"a": "two…"}), false),
        (serde_json::json!({"b": [{"d": 3}]}), true),
        (serde_json::json!({"b": [{"c": 2}, {"c": 1}]}), false),
        (serde_json::json!({"e": 1}), false),
    ] {
        assert_eq!(shows(&shown, &answered), fits, "{shown}");
    }
}
