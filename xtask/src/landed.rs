//! The API as it has landed: clients out there speak it, so it is added to and never broken.
//!
//! `proto/landed.binpb` is its image, made by `buf build`. CI compares the protos with it, and tests
//! speak it as a client of the version before. `cargo xtask tidy --seal-api` makes it anew, once the
//! protos have landed and before they are changed again.

use std::process::Command;

use anyhow::Context;

use crate::needs;
use crate::workspace::{Workspace, run};

/// Below the folder `proto`.
const IMAGE: &str = "landed.binpb";

/// Fails, naming each place, when the protos break what has landed.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    run("buf breaking", buf(workspace)?.args(["breaking", "--against", IMAGE])).context(
        "clients out there would break: keep the old field or call and add a new one beside it",
    )
}

/// Makes the image anew. What it would break stays as it was.
pub(crate) fn seal(workspace: &Workspace) -> anyhow::Result<()> {
    check(workspace)?;
    run("buf build", buf(workspace)?.args(["build", "--output", IMAGE]))
}

fn buf(workspace: &Workspace) -> anyhow::Result<Command> {
    let mut buf = Command::new(needs::buf()?);
    buf.current_dir(workspace.root.join("proto"));
    Ok(buf)
}
