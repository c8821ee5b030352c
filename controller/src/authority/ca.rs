//! One certificate authority: a chain of certificates, and the key of the first.
//!
//! It signs what the controller decided: of a request only the public key counts, never the name,
//! usage or validity asked for. A CA that could not be used is found out before it is, for each
//! reason in words of its own, and at last by looking at what it signs.

use std::sync::Arc;

use gantry_runtime::identity::{CONTROLLER, URI_SCHEME, Validity};
use gantry_runtime::{clock, identity, join};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use x509_parser::prelude::X509Certificate;

use super::{AuthorityError, Lifetime, Signed, key_hash};

const VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// A chain, and the key that signs in its name.
pub struct Ca {
    /// The one that signs, then who signed it, and so on up to what clients trust.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
    /// When the first of the chain stops being valid.
    expire_time: Timestamp,
    /// Knows its own: only what it signed itself, whatever else its chain has signed.
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Certificates and key are not those of a usable CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("there is no certificate in it: give PEM, the one that signs first")]
    Empty,
    #[error("certificate {0} in it cannot be read")]
    Unreadable(usize),
    #[error("{0} is not the certificate of a CA: its basic constraints do not say so")]
    NotACa(String),
    #[error("{0} may not sign certificates: its key usage does not say so")]
    MayNotSign(String),
    #[error("{0} is not valid yet, or not any more: from {from} until {until}", from = .1.from, until = .1.until)]
    Time(String, Validity),
    #[error("{0} allows {1} CAs below it, and here are more")]
    PathLength(String, u32),
    #[error(
        "{0} was not signed by {1}, which comes after it: give the one that signs first, then who signed it, up to the root"
    )]
    Order(String, String),
    #[error("{0} has a part of its name twice, which is not supported")]
    Name(String),
    #[error(
        "the key cannot be read: give PKCS #8 in PEM without a password, such as from `openssl pkcs8 -topk8 -nocrypt`"
    )]
    Key(#[source] rcgen::Error),
    #[error("the key is not that of {0}")]
    OtherKey(String),
    #[error("nobody would accept what it signs, perhaps because of its name constraints")]
    Rejected(#[source] rustls::Error),
    #[error("trying it")]
    Trial(#[source] Box<AuthorityError>),
    #[error("making it")]
    Make(#[source] rcgen::Error),
}

impl Ca {
    /// A new CA, with its certificate and its key, PEM.
    pub(super) fn generate() -> Result<(Self, String, String), CaError> {
        let mut params = CertificateParams::default();
        let now = clock::wall();
        params.distinguished_name.push(DnType::CommonName, "Gantry CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity { from: now - BACKDATED, until: now + VALIDITY });
        let pair = KeyPair::generate().map_err(CaError::Make)?;
        let (made, key) = (params.self_signed(&pair).map_err(CaError::Make)?, pair.serialize_pem());
        Ok((Self::read(&made.pem(), &key)?, made.pem(), key))
    }

    /// A CA from its chain and its key, PEM.
    pub fn read(chain: &str, key: &str) -> Result<Self, CaError> {
        let chain = certificates(chain)?;
        let parsed = parse(&chain)?;
        check(&parsed, clock::wall())?;
        let key = KeyPair::from_pem(key).map_err(CaError::Key)?;
        if parsed[0].public_key().raw != key.subject_public_key_info() {
            return Err(CaError::OtherKey(subject(&parsed[0])));
        }
        let issuer =
            Issuer::from_ca_cert_der(&chain[0], key).map_err(|_| CaError::Unreadable(1))?;
        let ends = parsed.iter().map(|parsed| validity(parsed).until);
        let expire_time = ends.min().ok_or(CaError::Empty)?;
        let verifier = client_verifier([&chain[0]]).map_err(CaError::Rejected)?;
        let ca = Self { chain, issuer, expire_time, verifier };
        ca.prove()?;
        Ok(ca)
    }

    /// Signs something, and sees whether it would be accepted.
    fn prove(&self) -> Result<(), CaError> {
        let failed = |error: AuthorityError| CaError::Trial(Box::new(error));
        let (leaf, _) = self.issue_server(&[], Lifetime::default()).map_err(failed)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.anchor().clone()).map_err(CaError::Rejected)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|error| CaError::Rejected(general(&error)))?;
        let name = ServerName::try_from(CONTROLLER).expect("a constant DNS name");
        let now = unix_time(clock::wall());
        let verified = verifier.verify_server_cert(&leaf, &self.chain, &name, &[], now);
        verified.map_err(CaError::Rejected)?;
        let (_, request) = identity::new_key().map_err(|error| failed(error.into()))?;
        let signed = self.sign("users/nobody", &request, Lifetime::default()).map_err(failed)?;
        let der = CertificateDer::from_pem_slice(signed.pem.as_bytes());
        self.verify(&[der.map_err(|_| CaError::Unreadable(1))?]).map_err(CaError::Rejected)
    }

    /// What clients trust: the top of the chain.
    pub fn anchor(&self) -> &CertificateDer<'static> {
        self.chain.last().expect("a chain is not empty")
    }

    /// SHA-256 of what clients trust, as join tokens carry it.
    pub fn fingerprint(&self) -> String {
        join::fingerprint(self.anchor())
    }

    /// What tells it from other CAs: SHA-256 of the certificate that signs.
    pub fn id(&self) -> String {
        join::fingerprint(&self.chain[0])
    }

    /// What clients trust, PEM.
    pub fn pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("CERTIFICATE", self.anchor().to_vec()), config)
    }

    /// When it stops being good, with whatever is above it.
    pub fn expire_time(&self) -> Timestamp {
        self.expire_time
    }

    /// The subject of what clients trust.
    pub fn subject(&self) -> String {
        let parsed = x509_parser::parse_x509_certificate(self.anchor());
        parsed.map(|(_, parsed)| subject(&parsed)).unwrap_or_default()
    }

    /// Whether it signed what a client shows, and that is good now.
    pub(super) fn verify(&self, shown: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((leaf, rest)) = shown.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        self.verifier.verify_client_cert(leaf, rest, unix_time(clock::wall())).map(drop)
    }

    /// A certificate for the holder of the key in `request`, who is `name`.
    pub(super) fn sign(
        &self,
        name: &str,
        request: &str,
        lifetime: Lifetime,
    ) -> Result<Signed, AuthorityError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(AuthorityError::Request)?;
        let mut params = self.leaf(name, ExtendedKeyUsagePurpose::ClientAuth, lifetime)?;
        let uri = format!("{URI_SCHEME}{name}");
        let uri = uri.try_into().map_err(|_| AuthorityError::Name(name.to_owned()))?;
        params.subject_alt_names.push(SanType::URI(uri));
        request.params = params;
        let signed = request.signed_by(&self.issuer).map_err(AuthorityError::Sign)?;
        let hash = key_hash(signed.der()).expect("a certificate just made can be parsed");
        let validity = Validity::of(signed.der()).expect("a certificate just made can be parsed");
        Ok(Signed { pem: signed.pem(), key_hash: hash, expire_time: validity.until })
    }

    /// A new key and a certificate for the controller itself, reached under `names` too.
    fn issue_server(
        &self,
        names: &[String],
        lifetime: Lifetime,
    ) -> Result<(CertificateDer<'static>, KeyPair), AuthorityError> {
        let mut params = self.leaf(CONTROLLER, ExtendedKeyUsagePurpose::ServerAuth, lifetime)?;
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
        Ok((signed.der().clone(), key))
    }

    /// A new certificate for the controller itself, with its key; and when to make another.
    pub(super) fn server(
        &self,
        names: &[String],
        lifetime: Lifetime,
    ) -> Result<(Arc<CertifiedKey>, Timestamp), AuthorityError> {
        let (leaf, key) = self.issue_server(names, lifetime)?;
        let validity = Validity::of(&leaf).expect("a certificate just made can be parsed");
        // The whole chain goes with it, so that an appliance that only has a token finds the top.
        let chain = std::iter::once(leaf).chain(self.chain.iter().cloned()).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server =
            CertifiedKey::from_der(chain, key, &provider()).map_err(AuthorityError::Tls)?;
        Ok((Arc::new(server), validity.renew_time(0.0)))
    }

    fn leaf(
        &self,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        lifetime: Lifetime,
    ) -> Result<CertificateParams, AuthorityError> {
        let validity = lifetime.from(clock::wall(), self.expire_time);
        let validity = validity.ok_or(AuthorityError::Expired(self.expire_time))?;
        let mut params = CertificateParams::default();
        let short = common_name.rsplit('/').next().unwrap_or(common_name);
        params.distinguished_name.push(DnType::CommonName, short);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, validity);
        Ok(params)
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ca").field("id", &self.id()).finish()
    }
}

/// TLS of a server that shows `server`, for clients of any of `trusted`.
pub(super) fn tls(
    trusted: &[Arc<Ca>],
    server: &Arc<CertifiedKey>,
) -> Result<Arc<ServerConfig>, AuthorityError> {
    let verifier = client_verifier(trusted.iter().map(|ca| &ca.chain[0]));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(AuthorityError::Tls)?
        .with_client_cert_verifier(verifier.map_err(AuthorityError::Tls)?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(server))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Resuming a session would pass over the check of the client's certificate.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Whether `key`, PEM, is that of the certificate `chain` begins with.
pub(super) fn belong_together(chain: &str, key: &str) -> bool {
    let (Ok(chain), Ok(key)) = (certificates(chain), KeyPair::from_pem(key)) else { return false };
    parse(&chain).is_ok_and(|parsed| parsed[0].public_key().raw == key.subject_public_key_info())
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut chain = Vec::new();
    for (at, found) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        chain.push(found.map_err(|_| CaError::Unreadable(at + 1))?);
    }
    if chain.is_empty() { Err(CaError::Empty) } else { Ok(chain) }
}

fn parse<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, CaError> {
    let parse = |(at, der): (usize, &'a CertificateDer<'_>)| {
        let parsed = x509_parser::parse_x509_certificate(der);
        parsed.map(|(_, parsed)| parsed).map_err(|_| CaError::Unreadable(at + 1))
    };
    chain.iter().enumerate().map(parse).collect()
}

fn check(chain: &[X509Certificate<'_>], now: Timestamp) -> Result<(), CaError> {
    for (below, found) in chain.iter().enumerate() {
        let name = subject(found);
        let constraints = found.basic_constraints().ok().flatten().map(|found| found.value);
        let limit = match constraints {
            Some(constraints) if constraints.ca => constraints.path_len_constraint,
            _ => return Err(CaError::NotACa(name)),
        };
        let usage = found.key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(CaError::MayNotSign(name));
        }
        let validity = validity(found);
        if now < validity.from || validity.until <= now {
            return Err(CaError::Time(name, validity));
        }
        if let Some(limit) =
            limit.filter(|limit| usize::try_from(*limit).is_ok_and(|it| it < below))
        {
            return Err(CaError::PathLength(name, limit));
        }
        if let Some(above) = chain.get(below + 1)
            && found.issuer().as_raw() != above.subject().as_raw()
        {
            return Err(CaError::Order(name, subject(above)));
        }
    }
    let signer = &chain[0];
    let mut kinds: Vec<_> = signer.subject().iter_attributes().map(|it| it.attr_type()).collect();
    kinds.sort_by_key(|kind| kind.to_id_string());
    if kinds.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(CaError::Name(subject(signer)));
    }
    Ok(())
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    certificate.subject().to_string()
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
    };
    let validity = certificate.validity();
    Validity { from: time(validity.not_before), until: time(validity.not_after) }
}

fn client_verifier<'a>(
    signers: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for signer in signers {
        roots.add(signer.clone())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| general(&error))
}

fn general(error: &rustls::server::VerifierBuilderError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(Timestamp::UNIX_EPOCH).unsigned_abs())
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let time = |time: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(time.as_second())
            .expect("a time within a lifetime of now is in range")
    };
    params.not_before = time(validity.from);
    params.not_after = time(validity.until);
}

#[cfg(test)]
mod tests;
