//! Who is trusted at a moment, and what a certificate is worth by that.

use std::sync::Arc;

use gantry_runtime::clock;
use gantry_runtime::identity::{Identity, Validity};
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::warn;

use super::{AuthorityError, Ca, Lifetime, ca, key_hash};

/// When it is late to replace a CA.
const LATE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// Who is trusted at a moment. It never changes; a change makes another one.
pub struct Trust {
    /// Signs what is signed from now on.
    pub signing: Arc<Ca>,
    /// The controller shows a certificate of this one. Another than `signing` while that one is
    /// taking its place.
    pub showing: Arc<Ca>,
    /// The controller's own certificate.
    pub server: Arc<CertifiedKey>,
    /// TLS that shows it, and checks the certificates of clients.
    pub tls: Arc<ServerConfig>,
    /// When the controller's own certificate is to be renewed.
    pub(super) renew_time: Timestamp,
}

/// The certificate that a client shows on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The [`Ca::id`] of the CA that signed it.
    pub ca: String,
    /// SHA-256 of its public key.
    pub key_hash: Vec<u8>,
    pub expire_time: Timestamp,
}

impl Trust {
    pub(super) fn new(
        signing: Arc<Ca>,
        showing: Arc<Ca>,
        names: &[String],
        lifetime: Lifetime,
    ) -> Result<Self, AuthorityError> {
        let end = signing.expire_time();
        if end.duration_since(clock::wall()) < LATE {
            warn!(%end, "the CA ends soon, and all certificates with it: replace it (gantry authority)");
        }
        let trusted = [Arc::clone(&signing), Arc::clone(&showing)];
        let (server, renew_time) = showing.server(names, lifetime)?;
        let tls = ca::tls(&trusted, &server)?;
        Ok(Self { signing, showing, server, tls, renew_time })
    }

    /// Whether one CA is taking the place of another.
    pub fn is_changing(&self) -> bool {
        self.signing.id() != self.showing.id()
    }

    /// Every CA trusted, the one that signs first.
    pub fn trusted(&self) -> impl Iterator<Item = &Arc<Ca>> {
        std::iter::once(&self.signing).chain(self.is_changing().then_some(&self.showing))
    }

    /// The CA certificates to trust controllers by, PEM.
    pub fn pem(&self) -> String {
        self.trusted().map(|ca| ca.pem()).collect()
    }

    /// What a client shows, if a CA trusted signed it and it is good now.
    pub fn read(&self, shown: &[CertificateDer<'_>]) -> Option<Shown> {
        let ca = self.trusted().find(|ca| ca.verify(shown).is_ok())?;
        let leaf = shown.first()?;
        let expire_time = Validity::of(leaf)?.until;
        Some(Shown { ca: ca.id(), key_hash: key_hash(leaf)?, expire_time })
    }

    /// Whether the CA with this [`Ca::id`] is trusted.
    pub fn trusts(&self, ca: &str) -> bool {
        self.trusted().any(|trusted| trusted.id() == ca)
    }

    /// Whether an identity was signed by the CA that signs, and trusts those trusted now.
    pub(super) fn is_newest(&self, held: &Identity) -> bool {
        let der = CertificateDer::from_pem_slice(held.certificate.as_bytes());
        held.ca == self.pem() && der.is_ok_and(|der| self.signing.verify(&[der]).is_ok())
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = out.debug_struct("Trust");
        out.field("signing", &self.signing).field("showing", &self.showing).finish_non_exhaustive()
    }
}
