//! The controller's own certificate authority.
//!
//! It signs what it decided itself: of a request only the public key counts, never the name, usage
//! or validity asked for. Names are URIs (`gantry:clusters/main/appliances/lb1`), so that a
//! certificate says which resource its holder is.

use std::io;
use std::path::{Path, PathBuf};

use gantry_runtime::identity::{self, CONTROLLER, Identity, IdentityError, URI_SCHEME};
use gantry_runtime::{clock, join};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

const CA_VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
const LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Clocks of appliances may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// What the authority keeps in its folder: files, and folders with all that is in them.
const OWN: [&str; 3] = ["ca.pem", "ca-key.pem", "operators"];

/// A CA certificate and its key.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] IdentityError),
    #[error("{path} cannot be used as the certificate authority", path = .path.display())]
    Ca {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("{path} is there, but {missing} is not: both make the certificate authority", path = .path.display(), missing = .missing.display())]
    Half { path: PathBuf, missing: PathBuf },
    #[error("it is not a certificate signing request in PEM (PKCS #10)")]
    Request(#[source] rcgen::Error),
    #[error("signing a certificate")]
    Sign(#[source] rcgen::Error),
    #[error("{0:?} cannot stand in a certificate as a name")]
    Name(String),
}

/// A certificate signed, PEM, and SHA-256 of its public key.
#[derive(Debug)]
pub struct Signed {
    pub pem: String,
    pub key_hash: Vec<u8>,
}

impl Authority {
    /// Reads the authority in `dir`, or makes one there.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => create(&certificate, &key)?,
            // The start that made the key was cut short. Certificates that were signed with it, if
            // there are any, pass as before: the new one has the same name and key.
            (false, true) => certify(&certificate, &key)?,
            (true, false) => return Err(AuthorityError::Half { path: certificate, missing: key }),
        }
        let read = |path: &Path| {
            let failed = |source| IdentityError::Read { path: path.to_owned(), source };
            std::fs::read_to_string(path).map_err(failed)
        };
        let failed = |source| AuthorityError::Ca { path: certificate.clone(), source };
        let pem = read(&certificate)?;
        let key_pair = KeyPair::from_pem(&read(&key)?)
            .map_err(|source| AuthorityError::Ca { path: key, source })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key_pair).map_err(failed)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| failed(rcgen::Error::CouldNotParseCertificate))?;
        Ok(Self { pem, der, issuer })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the CA certificate, as join tokens carry it.
    pub fn fingerprint(&self) -> String {
        join::fingerprint(&self.der)
    }

    /// A new key and a certificate for the controller itself, reached under `names` too.
    pub fn issue_server(&self, names: &[String]) -> Result<(Vec<u8>, KeyPair), AuthorityError> {
        let mut params = leaf(CONTROLLER, ExtendedKeyUsagePurpose::ServerAuth);
        let always = [CONTROLLER, "localhost", "127.0.0.1", "::1"];
        for name in always.into_iter().chain(names.iter().map(String::as_str)) {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.try_into().map_err(|_| AuthorityError::Name(name.to_owned()))?,
                ),
            });
        }
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok((signed.der().to_vec(), key))
    }

    /// A certificate for the holder of the key in `request`, who is `name`.
    pub fn sign(&self, name: &str, request: &str) -> Result<Signed, AuthorityError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(AuthorityError::Request)?;
        request.params = client(name)?;
        let signed = request.signed_by(&self.issuer).map_err(AuthorityError::Sign)?;
        let key_hash = key_hash_of(&signed);
        Ok(Signed { pem: signed.pem(), key_hash })
    }

    /// Makes an identity for an operator in `dir`.
    pub fn issue_operator(&self, user: &str, dir: &Path) -> Result<(), AuthorityError> {
        let (key, request) = identity::new_key()?;
        let signed = self.sign(&format!("users/{user}"), &request)?;
        Identity::save(dir, &self.pem, &signed.pem, &key)?;
        Ok(())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish()
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

fn key_hash_of(certificate: &Certificate) -> Vec<u8> {
    key_hash(certificate.der()).expect("a certificate just made can be parsed")
}

fn create(certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let pair = KeyPair::generate().map_err(AuthorityError::Sign)?;
    // The key first: a certificate alone is good for nothing.
    identity::write_private(key, &pair.serialize_pem())?;
    certify(certificate, key)
}

/// Makes the certificate for a key that is there.
fn certify(certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let pem = std::fs::read_to_string(key)
        .map_err(|source| IdentityError::Read { path: key.to_owned(), source })?;
    let pair = KeyPair::from_pem(&pem)
        .map_err(|source| AuthorityError::Ca { path: key.to_owned(), source })?;
    let mut params = CertificateParams::default();
    let now = clock::wall();
    params.distinguished_name.push(DnType::CommonName, "Gantry CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = asn1_time(now - BACKDATED);
    params.not_after = asn1_time(now + CA_VALIDITY);
    let made = params.self_signed(&pair).map_err(AuthorityError::Sign)?;
    identity::write_private(certificate, &made.pem())?;
    Ok(())
}

fn client(name: &str) -> Result<CertificateParams, AuthorityError> {
    let mut params = leaf(name, ExtendedKeyUsagePurpose::ClientAuth);
    let uri = format!("{URI_SCHEME}{name}");
    let uri = uri.try_into().map_err(|_| AuthorityError::Name(name.to_owned()))?;
    params.subject_alt_names.push(SanType::URI(uri));
    Ok(params)
}

fn leaf(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = clock::wall();
    let short = common_name.rsplit('/').next().unwrap_or(common_name);
    params.distinguished_name.push(DnType::CommonName, short);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = asn1_time(now - BACKDATED);
    params.not_after = asn1_time(now + LEAF_VALIDITY);
    params
}

fn asn1_time(time: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(time.as_second())
        .expect("a time within a lifetime of now is in range")
}

#[cfg(test)]
mod tests;
