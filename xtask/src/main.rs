//! Builds, runs, tests and checks the workspace.
fn main() {}
