//! Who a process is: a key, a certificate, and the CA that it trusts controllers by.
//!
//! The name is a URI in the certificate's subject alternative names: `gantry:` and the resource
//! name of an appliance or a user. It is set by the controller, never by who asks for it.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use x509_parser::extensions::GeneralName;

/// What every resource name in a certificate begins with.
pub const URI_SCHEME: &str = "gantry:";

/// The name that every controller's certificate has, so that an agent knows a controller by its
/// CA, whatever address it is reached at.
pub const CONTROLLER: &str = "gantry-controller";

const CA: &str = "ca.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// The files of an identity, read.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub ca: String,
    pub certificate: String,
    pub key: String,
    name: String,
}

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// An identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} is missing: an appliance gets it with `gantry join`, an operator from whoever runs the controller", path = .0.display())]
    Missing(PathBuf),
    #[error("{path} cannot be read", path = .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be written", path = .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no certificate that names an appliance or a user", path = .0.display())]
    Nameless(PathBuf),
    #[error("{path} holds no private key in PEM (PKCS #8)", path = .path.display())]
    BadKey { path: PathBuf, source: rcgen::Error },
    #[error("making a key")]
    Key(#[source] rcgen::Error),
}

impl Identity {
    /// Reads `ca.pem`, `certificate.pem` and `key.pem` in `dir`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let certificate = read(&dir.join(CERTIFICATE))?;
        let name =
            name_in(&certificate).ok_or_else(|| IdentityError::Nameless(dir.join(CERTIFICATE)))?;
        Ok(Self { ca: read(&dir.join(CA))?, certificate, key: read(&dir.join(KEY))?, name })
    }

    /// Writes the three files, the key readable by its owner only.
    pub fn save(dir: &Path, ca: &str, certificate: &str, key: &str) -> Result<(), IdentityError> {
        let failed = |source| IdentityError::Write { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        write_private(&dir.join(KEY), key)?;
        write_private(&dir.join(CA), ca)?;
        write_private(&dir.join(CERTIFICATE), certificate)
    }

    /// Puts another certificate over the same key beside it. Whichever of the two files a crash
    /// leaves new, they go together with the key: what is trusted only ever grows first.
    pub fn replace(dir: &Path, ca: &str, certificate: &str) -> Result<(), IdentityError> {
        write_private(&dir.join(CA), ca)?;
        write_private(&dir.join(CERTIFICATE), certificate)
    }

    /// A request for another certificate over the same key, PEM.
    pub fn request(&self, dir: &Path) -> Result<String, IdentityError> {
        let failed = |source| IdentityError::BadKey { path: dir.join(KEY), source };
        request_for(&KeyPair::from_pem(&self.key).map_err(failed)?).map_err(failed)
    }

    /// From when until when the certificate is good.
    pub fn validity(&self) -> Option<Validity> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.certificate.as_bytes()).ok()?;
        Validity::of(&pem.contents)
    }

    /// The resource name in the certificate: `clusters/main/appliances/lb1` or `users/admin`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Validity {
    /// Of a certificate, DER.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
        let validity = parsed.validity();
        Some(Self { from: time(validity.not_before).ok()?, until: time(validity.not_after).ok()? })
    }

    /// When to renew it: a quarter of its whole life before its end. Those who share out the
    /// work do so a little later, each by a `delay` of its own from 0 to 1.
    pub fn renew_time(&self, delay: f64) -> Timestamp {
        let whole = self.until.duration_since(self.from);
        let left = whole.as_secs_f64().max(0.0) / 4.0 * (1.0 - delay.clamp(0.0, 1.0) / 5.0);
        self.until - SignedDuration::try_from_secs_f64(left).unwrap_or_default()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A new private key and a request for a certificate over it, both PEM.
pub fn new_key() -> Result<(String, String), IdentityError> {
    let key = KeyPair::generate().map_err(IdentityError::Key)?;
    let request = request_for(&key).map_err(IdentityError::Key)?;
    Ok((key.serialize_pem(), request))
}

/// The resource name in a certificate, PEM.
pub fn name_in(certificate: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    name_in_der(&pem.contents)
}

/// The resource name in a certificate, DER.
pub fn name_in_der(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(URI_SCHEME).map(str::to_owned),
        _ => None,
    })
}

/// Writes a file whole or not at all. A new one only its owner can read; an old one keeps its mode.
pub fn write_private(path: &Path, content: &str) -> Result<(), IdentityError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| IdentityError::Write { path: path.to_owned(), source };
    let fresh = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    if let Ok(old) = std::fs::metadata(path) {
        file.set_permissions(old.permissions()).map_err(failed)?;
    }
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    rename(&fresh, path)
}

/// Renames a file so that it stays renamed: later changes of the folder come later on disk, too.
pub fn rename(from: &Path, to: &Path) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Write { path: to.to_owned(), source };
    std::fs::rename(from, to).map_err(failed)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

fn request_for(key: &KeyPair) -> Result<String, rcgen::Error> {
    CertificateParams::default().serialize_request(key)?.pem()
}

fn read(path: &Path) -> Result<String, IdentityError> {
    std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => IdentityError::Missing(path.to_owned()),
        _ => IdentityError::Read { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests;
