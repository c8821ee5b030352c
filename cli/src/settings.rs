//! The settings file: which controllers there are, and as whom to call them.
//!
//! TOML at `$GANTRY_CONFIG`, else `$XDG_CONFIG_HOME/gantry/config.toml`, else
//! `~/.config/gantry/config.toml`. It holds paths of identities, never keys.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::suggest;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The context in use when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One controller, and who calls it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// `https://host:port`
    pub(crate) controller: String,
    /// The directory with `ca.pem`, `certificate.pem` and `key.pem`.
    pub(crate) identity: PathBuf,
    /// The cluster that names without one are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
}

impl Settings {
    /// Reads the file at `path`; no file means no settings.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))
    }

    /// Writes the file whole, or leaves the old one.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("writing settings as TOML")?;
        let fresh = path.with_extension("new");
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        std::fs::write(&fresh, text).with_context(|| format!("writing {}", fresh.display()))?;
        std::fs::rename(&fresh, path).with_context(|| format!("writing {}", path.display()))
    }

    /// The context called `name`.
    pub(crate) fn context(&self, name: &str) -> Result<&Context> {
        let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        match self.contexts.get(name) {
            Some(context) => Ok(context),
            None => bail!("{}", suggest::unknown("context", name, &known)),
        }
    }
}

/// Where the settings file is.
pub(crate) fn path() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("GANTRY_CONFIG") {
        return Ok(path);
    }
    let home = || set("HOME").map(|home| home.join(".config"));
    let dir = set("XDG_CONFIG_HOME").or_else(home);
    let dir = dir.context("no place for settings: HOME is not set; set GANTRY_CONFIG to a file")?;
    Ok(dir.join("gantry/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.toml");
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        let context = Context {
            controller: "https://lb:7443".into(),
            identity: "/etc/gantry/me".into(),
            cluster: Some("main".into()),
        };
        let contexts = BTreeMap::from([("lab".to_owned(), context)]);
        let settings = Settings { current: Some("lab".into()), contexts };
        settings.save(&path).unwrap();
        assert_eq!(Settings::load(&path).unwrap(), settings);
        let error = settings.context("lap").unwrap_err().to_string();
        assert_eq!(error, r#"unknown context "lap": did you mean lab?"#);
    }

    #[test]
    fn a_wrong_file_is_named_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "curent = \"x\"\n").unwrap();
        let error = format!("{:#}", Settings::load(&path).unwrap_err());
        assert!(error.contains("config.toml") && error.contains("curent"), "{error}");
    }
}
