//! A tied program ends with the one that started it, even when that one is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_killed_parent_takes_its_child_along() {
    let script = r#""$1" tied $$ sleep 60 & echo $!; wait"#;
    let mut parent = Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_xtask")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let command_of_child = || fs::read_to_string(format!("/proc/{}/cmdline", line.trim()));
    wait_until("it became the program", || {
        command_of_child().is_ok_and(|command| command.starts_with("sleep"))
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    // A dead child that nobody has waited for has no command any more.
    wait_until("it ended", || command_of_child().map_or(true, |command| command.is_empty()));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let id = std::process::id().to_string();
    let mut tied = Command::new(env!("CARGO_BIN_EXE_xtask"));
    tied.args(["tied", &id, "no-such-program"]);
    let told = tied.output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && text.contains("starting no-such-program"), "{text}");
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("10 s and not yet: {what}");
}
