//! `sqlite3`: reads the controller's database without the controller.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::program;

/// The rows that `sql` gives.
pub fn query(database: &Path, sql: &str) -> Vec<Value> {
    let mut command = Command::new(program("sqlite3", "sqlite3"));
    let output = command.arg("-json").arg(database).arg(sql).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{sql}: {err}");
    if out.trim().is_empty() { Vec::new() } else { serde_json::from_str(&out).unwrap() }
}

/// Makes a change.
pub fn execute(database: &Path, sql: &str) {
    query(database, sql);
}
