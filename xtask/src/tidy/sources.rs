//! Rules about single files: who may use what, how long files are, what must not be written.

use super::{Finding, Source};

/// Lines that a Rust file may have, and from when on it is told.
const BUDGET: usize = 700;
const LONG: usize = 400;

/// Where there is no input, no output, no task and no clock.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "SystemTime",
    "Instant",
];

/// What must not stand in code, where, and the way out. A path ending in a slash is a folder.
struct Ban {
    words: &'static [&'static str],
    /// Where it holds; empty is everywhere.
    within: &'static str,
    except: &'static [&'static str],
    way_out: &'static str,
}

const BANS: [Ban; 6] = [
    Ban {
        words: &[
            "Status::new(",
            "Status::with_",
            "Status::ok(",
            "Status::cancelled(",
            "Status::unknown(",
            "Status::invalid_argument(",
            "Status::deadline_exceeded(",
            "Status::not_found(",
            "Status::already_exists(",
            "Status::permission_denied(",
            "Status::resource_exhausted(",
            "Status::failed_precondition(",
            "Status::aborted(",
            "Status::out_of_range(",
            "Status::unimplemented(",
            "Status::internal(",
            "Status::unavailable(",
            "Status::data_loss(",
            "Status::unauthenticated(",
        ],
        within: "controller/src/",
        except: &["controller/src/api/error.rs"],
        way_out: "answers are made in controller/src/api/error.rs: return one of its errors",
    },
    Ban {
        words: &["sqlx"],
        within: "",
        except: &["controller/src/store.rs", "controller/src/store/", "xtask/src/tidy/"],
        way_out: "only controller/src/store speaks SQL: give the store a method",
    },
    Ban {
        words: IMPURE,
        within: "model/src/",
        except: &[],
        way_out: "the model is pure: let the caller read it and hand it in",
    },
    Ban {
        words: IMPURE,
        within: "medical/src/",
        except: &[],
        way_out: "what is known of protocols is pure: let the caller read it and hand it in",
    },
    Ban {
        // Clippy refuses those of the standard library; tokio's is paused in tests.
        words: &["Timestamp::now(", "Zoned::now("],
        within: "",
        except: &["runtime/src/clock.rs", "xtask/src/tidy/"],
        way_out: "runtime::clock is the only place that reads a clock",
    },
    Ban {
        words: &["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "unimplemented!("],
        within: "",
        except: &["xtask/src/tidy/"],
        way_out: "finish it, or write an issue",
    },
];

/// What no file may say: places of one machine, and hosts that a build must not depend on.
const PRIVATE: [&str; 8] = [
    "/work/",
    "/root/",
    "/tmp/",
    "/Users/",
    "index.crates.io",
    "static.crates.io",
    "registry.npmjs.org",
    "proxy.golang.org",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.ends_with(".rs") {
        findings.extend(head(source));
        findings.extend(budget(source));
        findings.extend(BANS.iter().flat_map(|ban| ban.check(source)));
    }
    findings.extend(private(source));
    findings.extend(white_space(source));
    findings
}

/// A note on a file that grows out of hand.
pub(super) fn long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let long = source.path.ends_with(".rs") && lines > LONG && lines <= BUDGET;
    long.then(|| format!("{} has {lines} lines: think of splitting it", source.path))
}

impl Ban {
    fn check(&self, source: &Source) -> Vec<Finding> {
        let path = &source.path;
        let excepted =
            |except: &&str| path == except || except.ends_with('/') && path.starts_with(*except);
        if !path.starts_with(self.within) || self.except.iter().any(excepted) {
            return Vec::new();
        }
        let code = source.text.lines().enumerate().filter(|(_, line)| !is_comment(line));
        code.filter_map(|(at, line)| {
            let word = self.words.iter().find(|word| has_word(line, word))?;
            let what = format!("{:?} in code", word.trim_end_matches('('));
            Some(Finding { path: path.clone(), line: at + 1, what, way_out: self.way_out })
        })
        .collect()
    }
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    // Unfinished work is unfinished in comments too.
    line.starts_with("//") && !["TODO", "FIXME", "XXX"].iter().any(|word| has_word(line, word))
}

/// Whether `word` stands in `line` and does not begin in the middle of another.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

/// Every Rust file begins by saying what it is for; files of tests say it by their names.
fn head(source: &Source) -> Option<Finding> {
    let path = &source.path;
    let is_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    let missing = !is_tests && !source.text.starts_with("//!");
    let module = path.ends_with("/mod.rs");
    let (what, way_out) = match (missing, module) {
        (_, true) => ("it is called mod.rs", "name it after its folder, beside it"),
        (true, _) => ("it has no head", "begin with //! and what the file is for"),
        _ => return None,
    };
    Some(Finding { path: path.clone(), line: 0, what: what.to_owned(), way_out })
}

fn budget(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    (lines > BUDGET).then(|| Finding {
        path: source.path.clone(),
        line: 0,
        what: format!("{lines} lines, more than {BUDGET}"),
        way_out: "split it by what its parts are for",
    })
}

fn private(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("xtask/src/tidy/") || source.path == "Cargo.lock" {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let found = lines.filter_map(|(at, line)| {
        let word = PRIVATE.iter().find(|word| is_place(line, word))?;
        Some(Finding {
            path: source.path.clone(),
            line: at + 1,
            what: format!("{word:?} is one machine's own"),
            way_out: "use a relative path, a temporary folder of the test, or an option",
        })
    });
    found.collect()
}

/// Whether `word` is in `line` as the beginning of a path or host, and not as the middle of one.
fn is_place(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let inside =
            before.is_some_and(|before| before.is_alphanumeric() || ".-_}".contains(before));
        !(inside && word.starts_with('/'))
    })
}

fn white_space(source: &Source) -> Vec<Finding> {
    // What a terminal shows is compared byte by byte.
    if source.path.contains("/golden/") || source.path.ends_with("LICENSE") {
        return Vec::new();
    }
    let finding = |line, what: &str| Finding {
        path: source.path.clone(),
        line,
        what: what.to_owned(),
        way_out: "take it away",
    };
    let mut findings: Vec<_> = source
        .text
        .split('\n')
        .enumerate()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(at, _)| finding(at + 1, "white space at the end of the line"))
        .collect();
    if source.text.ends_with("\n\n") {
        findings.push(finding(source.text.lines().count(), "an empty line at the end of the file"));
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        let last = source.text.lines().count();
        findings.push(Finding { way_out: "add one", ..finding(last, "no line end at the end") });
    }
    findings
}
