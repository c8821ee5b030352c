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
use tokio::task::JoinSet;

use super::listen;

/// What all associations share.
#[derive(Debug)]
struct Archive {
    title: String,
    dir: PathBuf,
}

pub(super) async fn run(
    listen: Vec<SocketAddr>,
    title: String,
    dir: PathBuf,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut listeners = Vec::new();
    for address in listen {
        listeners.push(listen::bind(&title, address).await?);
    }
    let archive = Arc::new(Archive { title, dir });
    let mut ports = JoinSet::new();
    for listener in listeners {
        let archive = Arc::clone(&archive);
        ports.spawn(async move {
            let handle = |stream| association::serve(Arc::clone(&archive), stream);
            listen::serve(&archive.title, listener, handle).await
        });
    }
    // None ends by itself.
    ports.join_next().await.context("an archive needs a port")??
}

#[cfg(test)]
mod tests;
