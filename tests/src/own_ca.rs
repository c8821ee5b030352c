//! CAs from another house, for controllers that are to sign with them.

use std::path::{Path, PathBuf};

use crate::process::{program, run};

/// A CA made by openssl.
#[derive(Debug)]
pub struct OwnCa {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl OwnCa {
    /// What the controller is told of it.
    pub fn arguments(&self) -> [&str; 4] {
        let [chain, key] = [&self.chain, &self.key].map(|path| path.to_str().unwrap());
        ["--ca-certificate", chain, "--ca-key", key]
    }
}

/// Runs openssl in `dir`.
pub async fn openssl(dir: &Path, arguments: &str) {
    run(&program("openssl", "openssl"), arguments.split_whitespace(), dir).await.output();
}

/// A root with an RSA key.
pub async fn root(dir: &Path, name: &str) -> OwnCa {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey rsa:2048 -noenc -days 30 -subj /O=Hospital/CN={name} \
             -keyout {name}.key -out {name}.pem \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        ),
    )
    .await;
    OwnCa { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
}
