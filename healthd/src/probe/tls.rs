//! TLS as checks speak it: any certificate will do.
//!
//! A check asks whether the application answers. Real servers are checked by address, many with
//! self-signed or long expired certificates, and a check sends no secret; so neither the certificate
//! nor its signature is looked at. Traffic to a real server has its own rules, which are not these.

use std::sync::{Arc, LazyLock};

use gantry_runtime::any_certificate::AnyCertificate;
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio_rustls::TlsConnector;

/// The one configuration that all checks share.
static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(config()));

pub(super) fn connector() -> TlsConnector {
    TlsConnector::from(Arc::clone(&CONFIG))
}

fn config() -> ClientConfig {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    // Each check makes the whole handshake, and thousands of servers leave no sessions behind.
    config.resumption = Resumption::disabled();
    config
}
