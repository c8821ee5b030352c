//! `gantry context`: the settings file, without an editor. Calls nobody.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use comfy_table::Cell;

use crate::output;
use crate::session::{self, Global};
use crate::settings::{self, Context, Settings};

#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  gantry context set lab --controller https://lb-controller:7443 --identity ~/gantry
  gantry context set lab --cluster main
  gantry context use lab")]
pub(crate) enum Action {
    /// List contexts; a star marks the one in use
    List,
    /// Use a context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Make a context, or change what is given of one; the first one made is used at once
    Set {
        /// Its name
        name: String,
    },
    /// Forget a context
    Delete {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(action: Action, global: &Global) -> Result<()> {
    let path = settings::path()?;
    let mut settings = Settings::load(&path)?;
    let said = match action {
        Action::List => return list(&settings, &path),
        Action::Use { name } => {
            settings.context(&name)?;
            settings.current = Some(name.clone());
            format!("using {name}")
        }
        Action::Set { name } => {
            let context = changed(settings.contexts.get(&name), global)?;
            settings.contexts.insert(name.clone(), context);
            settings.current.get_or_insert_with(|| name.clone());
            format!("kept {name} in {}", path.display())
        }
        Action::Delete { name } => {
            settings.context(&name)?;
            settings.contexts.remove(&name);
            settings.current.take_if(|current| *current == name);
            format!("forgot {name}")
        }
    };
    settings.save(&path)?;
    Ok(output::line(said)?)
}

/// The context with what the flags give, over what it was.
fn changed(old: Option<&Context>, global: &Global) -> Result<Context> {
    let controller = global.controller.clone().or_else(|| old.map(|old| old.controller.clone()));
    let identity = match &global.identity {
        Some(identity) => Some(std::path::absolute(identity)?),
        None => old.map(|old| old.identity.clone()),
    };
    let cluster = match global.cluster.as_deref() {
        Some("") => None,
        Some(cluster) => Some(session::cluster_name(cluster)?.cluster.to_string()),
        None => old.and_then(|old| old.cluster.clone()),
    };
    Ok(Context {
        controller: controller.context("a context needs --controller https://host:port")?,
        identity: identity.context("a context needs --identity DIR")?,
        cluster,
    })
}

fn list(settings: &Settings, path: &Path) -> Result<()> {
    if settings.contexts.is_empty() {
        output::remark(format_args!("no contexts in {}", path.display()))?;
        return Ok(());
    }
    let row = |(name, context): (&String, &Context)| {
        let mark = if settings.current.as_ref() == Some(name) { "*" } else { "" };
        vec![
            Cell::new(mark),
            Cell::new(name),
            Cell::new(&context.controller),
            Cell::new(context.cluster.as_deref().unwrap_or("-")),
            Cell::new(context.identity.display()),
        ]
    };
    let rows = settings.contexts.iter().map(row).collect();
    Ok(output::line(output::table(
        &["", "CONTEXT", "CONTROLLER", "CLUSTER", "IDENTITY"],
        &[],
        rows,
    ))?)
}
