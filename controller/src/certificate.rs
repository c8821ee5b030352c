//! Certificates of operators' making: a chain and its key, read and found fit to show to others.
//!
//! In goes PEM as somebody pasted it; out comes the same, cleaned, with what is to be told of it,
//! or everything that is wrong with it. Pure: the time is handed in.

use std::net::IpAddr;

use gantry_model::key_pair::{KeyPair, PrivateKey};
use gantry_model::name::CertificateName;
use gantry_model::violation::Violations;
use jiff::Timestamp;
use pem::Pem;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Certificates in a chain: a leaf, a few above it, and room for a habit of adding the root.
const LONGEST_CHAIN: usize = 10;

/// Bytes of PEM; a chain of ten large certificates has fewer.
const LONGEST_PEM: usize = 128 << 10;

/// A chain and its key, which fit each other.
#[derive(Clone, Debug)]
pub struct Material {
    /// PEM, the leaf first.
    pub chain: String,
    pub key: PrivateKey,
    pub facts: Facts,
}

/// What is told of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub subject: String,
    /// DNS names and addresses that the leaf covers.
    pub names: Vec<String>,
    /// When the first certificate of the chain stops being valid.
    pub expire_time: Timestamp,
    /// SHA-256 of the leaf, in hexadecimal.
    pub fingerprint: String,
}

impl Material {
    /// Reads what was given, and finds all that is wrong with it.
    pub fn read(
        violations: &mut Violations,
        chain_pem: &str,
        key_pem: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let chain = read_chain(violations, chain_pem);
        let key = read_key(violations, key_pem);
        let chain = chain?;
        check_chain(violations, &chain, now);
        let key = key?;
        check_pair(violations, &chain, &key);
        let (chain, key) = (pem::encode_many(&chain), PrivateKey::new(pem::encode(&key)));
        Some(Self { facts: facts(&chain)?, chain, key })
    }

    /// As agents are given it.
    pub fn key_pair(&self, name: &CertificateName) -> KeyPair {
        let (chain, key) = (self.chain.clone(), self.key.clone());
        KeyPair { name: name.certificate.clone(), chain, key }
    }

    /// SHA-256 of chain and key: what is the same has the same.
    pub fn digest(&self) -> Vec<u8> {
        Sha256::new().chain_update(&self.chain).chain_update(self.key.reveal()).finalize().to_vec()
    }
}

/// What is to be told of a chain that was found good; none if it cannot be read.
pub fn facts(chain_pem: &str) -> Option<Facts> {
    let blocks = pem::parse_many(chain_pem).ok()?;
    let leaf_der = blocks.first()?.contents();
    let chain: Option<Vec<_>> = blocks.iter().map(|block| parse(block.contents())).collect();
    let chain = chain?;
    let leaf = chain.first()?;
    Some(Facts {
        subject: printable(&leaf.subject().to_string()),
        names: names(leaf),
        expire_time: chain.iter().filter_map(|one| ends(one)).min()?,
        fingerprint: Sha256::digest(leaf_der).iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Finds what is wrong with the certificates of authorities that others are judged by.
pub fn check_authorities(violations: &mut Violations, field: &str, text: &str) {
    let Some(blocks) = blocks(violations, field, text) else { return };
    let mut roots = RootCertStore::empty();
    for (at, block) in blocks.iter().enumerate() {
        let certificate = CertificateDer::from(block.contents());
        if block.tag() != "CERTIFICATE" || roots.add(certificate).is_err() {
            let what = format!(
                "block {} ({:?}) is not the certificate of an authority: give certificates of \
                 authorities only, PEM",
                at + 1,
                shown(block.tag())
            );
            violations.add(field, "INVALID_CERTIFICATE", what);
        }
    }
}

fn blocks(violations: &mut Violations, field: &str, text: &str) -> Option<Vec<Pem>> {
    if text.trim().is_empty() {
        let what = "is required: PEM, which begins with \"-----BEGIN\"";
        violations.add(field, "REQUIRED", what);
        return None;
    }
    if text.len() > LONGEST_PEM {
        let what = format!("has {} bytes: at most {LONGEST_PEM} are read", text.len());
        violations.add(field, "TOO_LONG", what);
        return None;
    }
    let begun = text.matches("-----BEGIN ").count();
    let found = pem::parse_many(text).ok().filter(|found| found.len() == begun && begun > 0);
    if found.is_none() {
        let what = "is not PEM: give whole blocks from \"-----BEGIN ...-----\" to \"-----END \
                    ...-----\", not DER and not PKCS #12";
        violations.add(field, "INVALID_PEM", what);
    }
    found
}

fn read_chain(violations: &mut Violations, text: &str) -> Option<Vec<Pem>> {
    const FIELD: &str = "chain_pem";
    let blocks = blocks(violations, FIELD, text)?;
    for block in &blocks {
        if block.tag().ends_with("PRIVATE KEY") {
            let what = "has a private key in it: that goes into private_key_pem only";
            violations.add(FIELD, "UNEXPECTED_KEY", what);
            return None;
        }
        if block.tag() != "CERTIFICATE" {
            let what = format!("has a block {:?}: give certificates only", shown(block.tag()));
            violations.add(FIELD, "INVALID_PEM", what);
            return None;
        }
    }
    if blocks.len() > LONGEST_CHAIN {
        let what = format!(
            "has {} certificates: give the leaf and those above it, at most {LONGEST_CHAIN}, and \
             not a whole bundle of authorities",
            blocks.len()
        );
        violations.add(FIELD, "TOO_LONG", what);
        return None;
    }
    if let Some(at) = blocks.iter().position(|block| parse(block.contents()).is_none()) {
        let what = format!("certificate {} cannot be read as X.509", at + 1);
        violations.add(FIELD, "INVALID_CERTIFICATE", what);
        return None;
    }
    // What headers say is not part of a certificate.
    Some(blocks.iter().map(|block| Pem::new("CERTIFICATE", block.contents())).collect())
}

fn read_key(violations: &mut Violations, text: &str) -> Option<Pem> {
    const FIELD: &str = "private_key_pem";
    let blocks = blocks(violations, FIELD, text)?;
    let encrypted = |block: &Pem| {
        block.tag() == "ENCRYPTED PRIVATE KEY"
            || block.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED"))
    };
    if blocks.iter().any(encrypted) {
        let what = "is encrypted: take the passphrase off first, for example with `openssl pkey \
                    -in KEY -out PLAIN`";
        violations.add(FIELD, "ENCRYPTED_KEY", what);
        return None;
    }
    let mut keys = blocks.into_iter().filter(|block| block.tag().ends_with("PRIVATE KEY"));
    let (Some(key), None) = (keys.next(), keys.next()) else {
        let what = "must hold one private key, the leaf's, and no other";
        violations.add(FIELD, "INVALID_KEY", what);
        return None;
    };
    Some(key)
}

fn check_chain(violations: &mut Violations, blocks: &[Pem], now: Timestamp) {
    const FIELD: &str = "chain_pem";
    let chain: Vec<_> = blocks.iter().filter_map(|block| parse(block.contents())).collect();
    for (at, one) in chain.iter().enumerate() {
        check_validity(violations, at, one, now);
    }
    let Some((leaf, above)) = chain.split_first() else { return };
    if leaf.is_ca() && above.iter().any(|one| !one.is_ca()) {
        let what = "does not begin with the leaf: put the server's own certificate first, then \
                    each authority after the one that it signed";
        violations.add(FIELD, "WRONG_ORDER", what);
        return;
    }
    for (at, pair) in chain.windows(2).enumerate() {
        if pair[0].issuer() != pair[1].subject() || blocks[at] == blocks[at + 1] {
            let what = format!(
                "certificate {} was not issued by certificate {}, which follows it: put each \
                 authority after the one that it signed, and leave others out",
                at + 1,
                at + 2
            );
            violations.add(FIELD, "WRONG_ORDER", what);
            return;
        }
    }
    if is_forged(blocks, now) {
        let what = "a signature in it is not that of the certificate that follows, although the \
                    names agree: ask the authority for the chain that belongs to this leaf";
        violations.add(FIELD, "BAD_SIGNATURE", what);
    }
}

fn check_validity(
    violations: &mut Violations,
    at: usize,
    one: &X509Certificate<'_>,
    now: Timestamp,
) {
    let begins = Timestamp::from_second(one.validity().not_before.timestamp()).ok();
    let subject = shown(&one.subject().to_string());
    let place = at + 1;
    match (begins, ends(one)) {
        (_, Some(end)) if end <= now => {
            let what = format!(
                "certificate {place} ({subject}) expired at {end}: have it renewed and import the \
                 new one"
            );
            violations.add("chain_pem", "EXPIRED", what);
        }
        (Some(begin), Some(_)) if begin > now => {
            let what = format!(
                "certificate {place} ({subject}) is not valid before {begin}: import it then, \
                 since clients would refuse it now"
            );
            violations.add("chain_pem", "NOT_YET_VALID", what);
        }
        (Some(_), Some(_)) => {}
        _ => {
            let what = format!("certificate {place} ({subject}) has dates that cannot be read");
            violations.add("chain_pem", "INVALID_CERTIFICATE", what);
        }
    }
}

/// Whether the chain has the right names and the wrong signatures.
fn is_forged(blocks: &[Pem], now: Timestamp) -> bool {
    let chain: Vec<_> = blocks.iter().map(|block| CertificateDer::from(block.contents())).collect();
    let [leaf, between @ .., anchor] = &chain[..] else { return false };
    let mut roots = RootCertStore::empty();
    let (Ok(()), Ok(leaf)) = (roots.add(anchor.clone()), ParsedCertificate::try_from(leaf)) else {
        return false;
    };
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let provider = rustls::crypto::ring::default_provider();
    let known = provider.signature_verification_algorithms.all;
    let verified = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &leaf, &roots, between, now, known,
    );
    // Other objections are for each client to have: what this service is used for is not known.
    matches!(verified, Err(Error::InvalidCertificate(CertificateError::BadSignature)))
}

/// Whether the key is one that can be used, and that of the leaf.
fn check_pair(violations: &mut Violations, chain: &[Pem], key: &Pem) {
    const FIELD: &str = "private_key_pem";
    let signer = PrivateKeyDer::from_pem_slice(pem::encode(key).as_bytes())
        .ok()
        .and_then(|key| rustls::crypto::ring::sign::any_supported_type(&key).ok());
    let Some(signer) = signer else {
        let what = "is not a key that can be used: RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, \
                    or Ed25519";
        violations.add(FIELD, "UNSUPPORTED_KEY", what);
        return;
    };
    let chain = chain.iter().map(|one| CertificateDer::from(one.contents().to_vec()));
    match CertifiedKey::new(chain.collect(), signer).keys_match() {
        Ok(()) => {}
        Err(Error::InconsistentKeys(_)) => {
            let what = "is not the key of the first certificate in chain_pem: give the key that its \
                        signing request was made with";
            violations.add(FIELD, "KEY_MISMATCH", what);
        }
        Err(_) => {
            let what = "the leaf cannot be used for TLS: it must be an X.509 certificate of \
                        version 3";
            violations.add("chain_pem", "INVALID_CERTIFICATE", what);
        }
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(parsed)
}

fn ends(one: &X509Certificate<'_>) -> Option<Timestamp> {
    Timestamp::from_second(one.validity().not_after.timestamp()).ok()
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

/// Text out of a certificate, fit for a line of a table.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shown(text: &str) -> String {
    printable(text).chars().take(100).collect()
}

#[cfg(test)]
mod tests;
