//! A DICOM archive: a Storage and Verification SCP that keeps each object as a file.
//!
//! Any called application entity title is accepted, as behind a load balancer the title is the
//! service's. An object is in the folder under its SOP instance UID before it is acknowledged, with
//! its data set as it came. There is no database: an object that is sent again replaces the first.

mod association;
mod command;
mod object;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use super::listen;

/// What all associations share.
#[derive(Debug)]
struct Archive {
    title: String,
    dir: PathBuf,
}

pub(super) async fn run(listen: SocketAddr, title: String, dir: PathBuf) -> anyhow::Result<()> {
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let listener = listen::bind(&title, listen).await?;
    let archive = Arc::new(Archive { title: title.clone(), dir });
    listen::serve(&title, listener, |stream| association::serve(Arc::clone(&archive), stream)).await
}

#[cfg(test)]
mod tests;
