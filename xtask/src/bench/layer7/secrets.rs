//! The certificate that all proxies show, and what the load takes it for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

const NAME: &str = "bench.local";

/// A self-signed certificate for a key on the curve P-256.
pub(super) struct Secrets {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub(super) both: PathBuf,
    pub(super) client: Arc<ClientConfig>,
}

pub(super) fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}

impl Secrets {
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        let file = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            anyhow::Ok(path)
        };
        let (chain, secret) = (certificate.pem(), key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone())?;
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every connection agrees on keys in full.
        client.resumption = Resumption::disabled();
        Ok(Self {
            both: file("both.pem", format!("{chain}{secret}"))?,
            chain: file("chain.pem", chain)?,
            key: file("key.pem", secret)?,
            client: Arc::new(client),
        })
    }
}
