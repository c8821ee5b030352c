//! Whom the controller trusts, and what it signs with.
//!
//! One CA signs; while it is taking the place of another, both are trusted and the controller shows
//! a certificate of the older one, which everybody knows. All of it changes on the running system:
//! connections look at the newest [`Trust`]. The CAs are the controller's own ([`files`]) or the
//! operator's, given as files.

mod ca;
mod files;
mod lifetime;
mod trust;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_runtime::identity::{self, Identity, IdentityError};
use gantry_runtime::{clock, rpc};
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::ca::{Ca, CaError};
use self::files::Files;
pub use self::lifetime::Lifetime;
pub use self::trust::{Shown, Trust};

/// What the authority keeps in its folder: files, and folders with all that is in them.
const OWN: [&str; 5] = ["ca.pem", "ca-key.pem", "next-ca.pem", "next-ca-key.pem", "operators"];

/// How often it is looked whether something of the controller's own is to be renewed.
const LOOK: Duration = Duration::from_secs(60);
/// So that certificates which end with their CA do not keep it busy.
const SHORTEST: Duration = Duration::from_millis(500);
/// Until what could not be renewed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What the controller is told of certificates on its command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AuthorityOptions {
    /// How long certificates are good that are issued from now on: 90d, 12h, 60s. They are renewed
    /// by themselves when a quarter of that is left.
    #[arg(long, env = "GANTRY_CERTIFICATE_LIFETIME", value_name = "TIME")]
    #[arg(default_value_t, help_heading = "Certificates")]
    pub certificate_lifetime: Lifetime,
    /// Sign with this CA and not with one of the controller's own: PEM, the certificate that signs
    /// first, then who signed it, up to the one that clients are to trust.
    #[arg(long, env = "GANTRY_CA_CERTIFICATE", value_name = "FILE", requires = "ca_key")]
    #[arg(help_heading = "Certificates")]
    pub ca_certificate: Option<PathBuf>,
    /// Its key: PKCS #8 in PEM.
    #[arg(long, env = "GANTRY_CA_KEY", value_name = "FILE", requires = "ca_certificate")]
    #[arg(help_heading = "Certificates")]
    pub ca_key: Option<PathBuf>,
    /// The CA that signed before, while all change to the present one: it stays trusted until the
    /// controller is started without this option.
    #[arg(long, env = "GANTRY_RETIRING_CA_CERTIFICATE", value_name = "FILE")]
    #[arg(requires = "retiring_ca_key", help_heading = "Certificates")]
    pub retiring_ca_certificate: Option<PathBuf>,
    /// Its key: PKCS #8 in PEM.
    #[arg(long, env = "GANTRY_RETIRING_CA_KEY", value_name = "FILE")]
    #[arg(requires = "retiring_ca_certificate", help_heading = "Certificates")]
    pub retiring_ca_key: Option<PathBuf>,
}

/// The certificate authority, as it is now and as it changes.
#[derive(Debug)]
pub struct Authority {
    /// Absent while CAs are given as files, which only a restart changes.
    files: Option<Files>,
    lifetime: Lifetime,
    /// What the controller is reached under.
    names: Vec<String>,
    /// The identity of the first operator, which the controller keeps good itself.
    operator: PathBuf,
    trust: watch::Sender<Arc<Trust>>,
    /// Held by whoever changes it.
    turn: Mutex<()>,
}

/// The authority cannot work, or cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] IdentityError),
    #[error("{path} cannot be used as the certificate authority", path = .path.display())]
    Ca {
        path: PathBuf,
        #[source]
        source: CaError,
    },
    #[error("{path} is there, but {missing} is not: both make the certificate authority", path = .path.display(), missing = .missing.display())]
    Half { path: PathBuf, missing: PathBuf },
    #[error(
        "the controller's own CA is being replaced: end that with `gantry authority retire`, and give a retiring CA after it"
    )]
    TwoReplacements,
    #[error("it is not a certificate signing request in PEM (PKCS #10)")]
    Request(#[source] rcgen::Error),
    #[error("signing a certificate")]
    Sign(#[source] rcgen::Error),
    #[error("the CA expired at {0}: nothing it signs would be accepted")]
    Expired(Timestamp),
    #[error("{0:?} cannot stand in a certificate as a name")]
    Name(String),
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    #[error("{0}")]
    Turn(Refusal),
}

/// Why the CA is not replaced now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the CA is being replaced already: end that with `gantry authority retire`")]
    UnderWay,
    #[error("the CA is not being replaced: begin with `gantry authority rotate`")]
    NotUnderWay,
    #[error(
        "the CA is given as files: start the controller with the new one as --ca-certificate and \
         --ca-key and the present one as --retiring-ca-certificate and --retiring-ca-key"
    )]
    Given,
    #[error(
        "the retiring CA is given as a file: start the controller without \
         --retiring-ca-certificate and --retiring-ca-key"
    )]
    RetiringGiven,
}

/// A certificate signed, PEM, and SHA-256 of its public key.
#[derive(Debug)]
pub struct Signed {
    pub pem: String,
    pub key_hash: Vec<u8>,
    pub expire_time: Timestamp,
}

impl Authority {
    /// Reads the controller's own authority in `dir`, or makes one there.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        Self::open_with(dir, &AuthorityOptions::default(), &[])
    }

    /// The same with CAs of the operator's, for a controller that is reached under `names`.
    pub fn open_with(
        dir: &Path,
        options: &AuthorityOptions,
        names: &[String],
    ) -> Result<Self, AuthorityError> {
        let given = read_given(options.ca_certificate.as_deref(), options.ca_key.as_deref())?;
        let (retiring, key) = (&options.retiring_ca_certificate, &options.retiring_ca_key);
        let retiring = read_given(retiring.as_deref(), key.as_deref())?;
        let (files, signing, before) = match given {
            Some(signing) => (None, signing, None),
            None => {
                let (files, held) = Files::open(dir)?;
                match held.next {
                    Some(next) => (Some(files), next, Some(held.present)),
                    None => (Some(files), held.present, None),
                }
            }
        };
        let (signing, showing) = match (before, retiring) {
            (Some(_), Some(_)) => return Err(AuthorityError::TwoReplacements),
            (Some(before), None) | (None, Some(before)) => (Arc::new(signing), Arc::new(before)),
            (None, None) => {
                let signing = Arc::new(signing);
                (Arc::clone(&signing), signing)
            }
        };
        let lifetime = options.certificate_lifetime;
        let trust = Trust::new(signing, showing, names, lifetime)?;
        Ok(Self {
            files,
            lifetime,
            names: names.to_owned(),
            operator: dir.join("operators").join("admin"),
            trust: watch::Sender::new(Arc::new(trust)),
            turn: Mutex::new(()),
        })
    }

    /// Who is trusted now.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.borrow())
    }

    /// Follows who is trusted.
    pub fn watch(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// The CA certificates to trust controllers by, PEM.
    pub fn pem(&self) -> String {
        self.trust().pem()
    }

    /// SHA-256 of what the controller is known by now, as join tokens carry it.
    pub fn fingerprint(&self) -> String {
        self.trust().showing.fingerprint()
    }

    /// A certificate for the holder of the key in `request`, who is `name`.
    pub fn sign(&self, name: &str, request: &str) -> Result<Signed, AuthorityError> {
        self.trust().signing.sign(name, request, self.lifetime)
    }

    /// Makes an identity for an operator in `dir`.
    pub fn issue_operator(&self, user: &str, dir: &Path) -> Result<(), AuthorityError> {
        let (key, request) = identity::new_key()?;
        let signed = self.sign(&format!("users/{user}"), &request)?;
        Identity::save(dir, &self.pem(), &signed.pem, &key)?;
        Ok(())
    }

    /// Begins to replace the CA: a new one signs from now on.
    pub fn rotate(&self) -> Result<Arc<Trust>, AuthorityError> {
        let _turn = self.turn.lock();
        let trust = self.trust();
        let files = self.files.as_ref().ok_or(AuthorityError::Turn(Refusal::Given))?;
        if trust.is_changing() {
            return Err(AuthorityError::Turn(Refusal::UnderWay));
        }
        let making = |source| AuthorityError::Ca { path: PathBuf::from("a new CA"), source };
        let (next, certificate, key) = Ca::generate().map_err(making)?;
        let showing = Arc::clone(&trust.showing);
        let next = Trust::new(Arc::new(next), showing, &self.names, self.lifetime)?;
        files.put_next(&certificate, &key)?;
        Ok(self.follow(next))
    }

    /// Ends the replacement: the older CA is trusted no longer.
    pub fn retire(&self) -> Result<Arc<Trust>, AuthorityError> {
        let _turn = self.turn.lock();
        let trust = self.trust();
        self.may_retire(&trust).map_err(AuthorityError::Turn)?;
        let signing = Arc::clone(&trust.signing);
        let next = Trust::new(Arc::clone(&signing), signing, &self.names, self.lifetime)?;
        if let Some(files) = &self.files {
            files.promote()?;
        }
        Ok(self.follow(next))
    }

    /// Whether there is something to retire, and it can be done here.
    pub fn may_retire(&self, trust: &Trust) -> Result<(), Refusal> {
        match &self.files {
            _ if !trust.is_changing() => Err(Refusal::NotUnderWay),
            Some(files) if files.has_next() => Ok(()),
            _ => Err(Refusal::RetiringGiven),
        }
    }

    /// Keeps the controller's own certificate and the first operator's good, until stopped.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let forever = async {
            loop {
                let left = self.trust().renew_time.duration_since(clock::wall());
                let left = Duration::try_from(left).unwrap_or_default();
                let wait = left.min(self.operator_time()).clamp(SHORTEST, LOOK);
                tokio::time::sleep(wait).await;
                if let Err(failure) = self.renew_own() {
                    error!(
                        why = rpc::causes(&failure),
                        "the controller's own certificates were not renewed; trying again"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        // Cancel safe: nothing is half done where it waits.
        let _stopped = stop.run_until_cancelled(forever).await;
    }

    /// Renews what is due of the controller's own.
    pub fn renew_own(&self) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock();
        let trust = self.trust();
        if trust.renew_time <= clock::wall() {
            let (signing, showing) = (Arc::clone(&trust.signing), Arc::clone(&trust.showing));
            let next = Trust::new(signing, showing, &self.names, self.lifetime)?;
            info!(next_time = %next.renew_time, "renewed the controller's own certificate");
            self.trust.send_replace(Arc::new(next));
        }
        self.renew_operator()
    }

    /// From now on `trust` holds. Everybody sees it before this comes back.
    fn follow(&self, trust: Trust) -> Arc<Trust> {
        let trust = Arc::new(trust);
        self.trust.send_replace(Arc::clone(&trust));
        if let Err(failure) = self.renew_operator() {
            error!(why = rpc::causes(&failure), "the first operator's certificate was not renewed");
        }
        trust
    }

    /// Gives the first operator what it lacks. Where its files were taken away, they stay away.
    fn renew_operator(&self) -> Result<(), AuthorityError> {
        let Ok(held) = Identity::load(&self.operator) else { return Ok(()) };
        let trust = self.trust();
        if trust.is_newest(&held) && self.operator_time() > Duration::ZERO {
            return Ok(());
        }
        let signed = self.sign(held.name(), &held.request(&self.operator)?)?;
        Identity::replace(&self.operator, &trust.pem(), &signed.pem)?;
        info!(dir = %self.operator.display(), until = %signed.expire_time, "renewed the identity of the first operator");
        Ok(())
    }

    /// Until the first operator's certificate is to be renewed.
    fn operator_time(&self) -> Duration {
        let held = Identity::load(&self.operator).ok().and_then(|held| held.validity());
        let Some(validity) = held else { return LOOK };
        let left = validity.renew_time(0.0).duration_since(clock::wall());
        Duration::try_from(left).unwrap_or_default()
    }
}

/// Every file in `dir` that belongs to the authority, from `dir` on: what a backup takes along.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut names: Vec<PathBuf> = OWN.iter().map(PathBuf::from).collect();
    while let Some(name) = names.pop() {
        let path = dir.join(&name);
        if path.is_dir() {
            for entry in path.read_dir()? {
                names.push(name.join(entry?.file_name()));
            }
        } else if path.exists() {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// SHA-256 of the public key in a certificate, DER.
pub fn key_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Sha256::digest(parsed.public_key().raw).to_vec())
}

/// SHA-256 of the public key in a certificate request, PEM, which must be signed by that key.
pub fn requested_key_hash(request: &str) -> Result<Vec<u8>, AuthorityError> {
    let request = rcgen::CertificateSigningRequestParams::from_pem(request);
    let request = request.map_err(AuthorityError::Request)?;
    let key = rcgen::PublicKeyData::subject_public_key_info(&request.public_key);
    Ok(Sha256::digest(key).to_vec())
}

fn read_given(
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<Ca>, AuthorityError> {
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    let failed = |source: CaError| {
        let path = if matches!(source, CaError::Key(_)) { key } else { certificate };
        AuthorityError::Ca { path: path.to_owned(), source }
    };
    Ca::read(&read_file(certificate)?, &read_file(key)?).map(Some).map_err(failed)
}

fn read_file(path: &Path) -> Result<String, AuthorityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    Ok(std::fs::read_to_string(path).map_err(failed)?)
}

#[cfg(test)]
mod tests;
