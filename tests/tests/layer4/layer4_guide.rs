//! docs/deployment-guide.md is true: its commands are typed in order, on the appliance and on the real
//! servers that it names, they answer what it shows, and then there is the traffic that it promises.
//!
//! All up to the heading "With two arms" is read with one arm, the rest with two. A block of shell whose
//! first line is `# on NAME and NAME` is for these hosts. A block of text right below one of shell is
//! its answer, line by line, with blanks as they may be and `…` for anything. Blocks of YAML make up
//! `site.yaml`; one that says `name:` begins it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use gantry_tests::lab::{Client, Server};
use gantry_tests::process::Ran;
use libtest_mimic::Trial;

use crate::hospital::{Hospital, OPERATOR};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_guide_with_one_arm_does_what_it_says,
        layer4_guide_with_two_arms_does_what_it_says,
    ]
}

const SECOND: &str = "## With two arms\n";

/// What is between two fences.
#[derive(Debug)]
struct Block<'a> {
    heading: &'a str,
    kind: &'a str,
    text: String,
    /// What is shown below it.
    answer: Option<String>,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deployment-guide.md");
    std::fs::read_to_string(path).unwrap()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut heading) = (Vec::<Block<'_>>::new(), "");
    let mut lines = text.lines();
    // Whether only blank lines were since a block of shell.
    let mut below_shell = false;
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            heading = if line.starts_with('#') { line } else { heading };
            below_shell &= line.is_empty();
            continue;
        };
        let content: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = content.join("\n") + "\n";
        match blocks.last_mut().filter(|_| kind == "text" && below_shell) {
            Some(shell) => shell.answer = Some(text),
            None => blocks.push(Block { heading, kind, text, answer: None }),
        }
        below_shell = kind == "sh";
    }
    blocks
}

/// Whether each line that is shown is in the answer, in the same order.
fn shows(shown: &str, answered: &str) -> bool {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut answered = answered.lines().map(squeeze);
    shown.lines().map(squeeze).all(|line| line == "…" || answered.any(|it| fits(&line, &it)))
}

/// Whether a line is as shown, where `…` stands for anything.
fn fits(shown: &str, answered: &str) -> bool {
    let parts: Vec<_> = shown.split('…').map(str::trim).collect();
    let (Some((first, rest)), false) = (parts.split_first(), parts.len() == 1) else {
        return shown == answered;
    };
    let Some(mut left) = answered.strip_prefix(first) else { return false };
    let (last, middle) = rest.split_last().expect("there are two at least");
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// Who follows the document.
struct Reader<'a> {
    hospital: &'a Hospital,
    site_yaml: String,
}

impl<'a> Reader<'a> {
    fn new(hospital: &'a Hospital) -> Self {
        let folder = hospital.folder(OPERATOR);
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        std::os::unix::fs::symlink(examples, folder.join("examples")).unwrap();
        Self { hospital, site_yaml: String::new() }
    }

    fn follow(&mut self, block: &Block<'_>) {
        match block.kind {
            "sh" => self.carry_out(block),
            "yaml" => {
                if block.text.starts_with("name:") {
                    self.site_yaml.clear();
                }
                self.site_yaml += &block.text;
                let file = self.hospital.folder(OPERATOR).join("site.yaml");
                std::fs::write(file, &self.site_yaml).unwrap();
            }
            _ => {}
        }
    }

    /// What only looks may have to wait for what is shown.
    fn carry_out(&self, block: &Block<'_>) {
        let changes = ["create", "set", "drain", "halt", "online", "apply"];
        let changes = changes.iter().any(|word| block.text.contains(&format!("gantry {word} ")));
        let mut last = String::new();
        for attempt in 0..if changes { 1 } else { 20 } {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            let all = self.run(&block.text);
            let shown = block.answer.as_deref();
            let is_good = |ran: &Ran| {
                ran.status.success() && shown.is_none_or(|shown| shows(shown, &ran.out))
            };
            if all.iter().all(is_good) {
                return;
            }
            last.clear();
            all.iter().for_each(|ran| write!(last, "{}{}", ran.out, ran.err).unwrap());
        }
        let shown = block.answer.as_deref().unwrap_or_default();
        panic!("{}\n{}shows\n{shown}and the answer is\n{last}", block.heading, block.text);
    }

    fn run(&self, text: &str) -> Vec<Ran> {
        let Some(whom) = text.lines().next().and_then(|line| line.strip_prefix("# on ")) else {
            let text = text.replace("\\\n", "");
            return text.lines().map(|line| self.type_in(line)).collect();
        };
        let names = whom.split(',').next().unwrap().split(" and ");
        names.map(|name| self.hospital.node(name).run("bash", &["-ec", text])).collect()
    }

    /// A busy emulated machine may not take a connection in time: then nothing was done, and it is
    /// typed again.
    fn type_in(&self, line: &str) -> Ran {
        let type_once = || self.hospital.shell(line);
        let is_unheard = |ran: &Ran| ran.err.contains("cannot reach the controller");
        let first = type_once();
        if is_unheard(&first) { type_once() } else { first }
    }
}

fn layer4_guide_with_one_arm_does_what_it_says() {
    let hospital = Hospital::one_arm();
    hospital.start_archives();
    let _repositories = [("arr1", "10.12.1.190:514"), ("arr2", "10.12.1.191:514")]
        .map(|(name, at)| Server::udp(hospital.node(name), name, &[at.parse().unwrap()]));
    let document = document();
    let (first, _) = document.split_once(SECOND).unwrap();
    let mut reader = Reader::new(&hospital);
    for block in blocks(first) {
        reader.follow(&block);
    }
    // Direct routing shows the archive who asks; the modality is at the same archive at both ports.
    let archive = hospital.echo(104).expect("an archive answers");
    assert_eq!(hospital.echo(11112), Some(archive));
    assert!(hospital.has_seen(archive, "10.12.2.110"));
    let seen_as = |to: &str| {
        let mut client = hospital.connect(111, to).unwrap();
        client.echoes().unwrap();
        client.seen_as.to_string()
    };
    assert_eq!(seen_as("10.12.1.140:17035"), "10.12.1.140");
    assert!(seen_as("10.12.1.160:443").starts_with("10.12.1."));
    let to = "10.12.1.180:514".parse().unwrap();
    let answer = Client::ask_udp(hospital.node("ct1"), None, to).unwrap();
    assert_eq!(answer.seen_as.to_string(), "10.12.1.180");
    // What a neighbour remembers is the appliance, and nobody has found another.
    let viewer = hospital.node("viewer1");
    Client::connect(viewer, None, "10.12.1.100:6514".parse().unwrap()).unwrap_err();
    let hardware = |host: &str, arguments: &[&str]| {
        let shown = hospital.node(host).run("ip", arguments).output();
        let words: Vec<_> = shown.split_whitespace().map(str::to_owned).collect();
        let at = words.iter().position(|word| word == "lladdr" || word == "link/ether");
        words[at.unwrap_or_else(|| panic!("{shown}")) + 1].clone()
    };
    let remembered = hardware("viewer1", &["neigh", "show", "10.12.1.100"]);
    assert_eq!(remembered, hardware("lb1", &["link", "show", "dev", "eth0"]));
    let told = hospital.gantry(&["describe", "dicom-modalities"]).output();
    assert!(!told.contains("ADDRESS_CONFLICT"), "{told}");
}

fn layer4_guide_with_two_arms_does_what_it_says() {
    let hospital = Hospital::two_arms();
    hospital.start_archives();
    let mut reader = Reader::new(&hospital);
    let document = document();
    let (first, second) = document.split_once(SECOND).unwrap();
    // The archives are made ready as the first part says.
    for block in blocks(first).iter().filter(|block| block.text.starts_with("# on dicom1 and")) {
        reader.follow(block);
    }
    let mut held = None;
    let mut heading = "";
    let registry = "10.12.1.140:17035";
    let blocks = blocks(second);
    for block in &blocks {
        if heading != block.heading {
            heading = block.heading;
            match heading {
                "### All of it as one document" => held = hospital.connect(111, registry).ok(),
                "## When something is red" => hospital.kill("viewer1"),
                _ => {}
            }
        }
        reader.follow(block);
    }
    let mut held = held.expect("the registry serves when the appliance is its servers' gateway");
    held.echoes().unwrap();
    assert_eq!(held.seen_as.to_string(), "10.12.2.111");
    // Drained and back, halted and back: both serve.
    let clients: Vec<_> =
        (112..=115).map(|last| hospital.connect(last, registry).unwrap()).collect();
    let by: BTreeSet<_> = clients.iter().map(|client| client.arrived_at).collect();
    assert_eq!(by.len(), 2, "{by:?}");
    // In failover mode all go to the first.
    for last in 110..=115 {
        assert_eq!(hospital.connect(last, "10.12.1.120:2575").unwrap().served_by, "hl71");
    }
    let viewer = "10.12.1.160:443";
    assert_eq!(hospital.connect(110, viewer).unwrap().served_by, "viewer2");
    hospital.kill("viewer2");
    assert_eq!(hospital.connect(110, viewer).unwrap().served_by, "notice");
    assert!(hospital.echo(104).is_some());
}
