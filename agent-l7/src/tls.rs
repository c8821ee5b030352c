//! TLS with clients and with real servers.
//!
//! What a service's configuration says of it becomes a [`Secrecy`] once, when the service is put in
//! force; connections that have begun keep theirs when that changes. The [`Session`] of a connection speaks the protocol over bytes that others read and write.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::key_pair::KeyPair;
use gantry_model::name::{CertificateName, Id};
use gantry_model::service::{ClientCertificates, Layer7, Mode, ServerTls, Tls, TlsVersion};
use gantry_runtime::any_certificate::AnyCertificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use names::Names;
pub(crate) use session::{Session, ShakeError, Shaken};

mod names;
mod session;

/// What of a service's traffic is encrypted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrecy {
    pub(crate) clients: Option<WithClients>,
    pub(crate) servers: Option<WithServers>,
    made_of: Option<Arc<Made>>,
}

/// What something was made of, to tell whether anything has changed.
#[derive(Debug, PartialEq)]
struct Made {
    clients: Option<Tls>,
    servers: Option<ServerTls>,
    key_pairs: Vec<KeyPair>,
    is_http: bool,
}

/// TLS as clients meet it.
#[derive(Clone, Debug)]
pub(crate) struct WithClients {
    pub(crate) config: Arc<ServerConfig>,
    asked: Option<ClientCertificates>,
    /// Who has a ticket need not show a certificate again, so it is good while the same is asked.
    tickets: Arc<dyn ProducesTickets>,
}

/// TLS as real servers meet it.
#[derive(Clone, Debug)]
pub(crate) struct WithServers {
    pub(crate) config: Arc<ClientConfig>,
    /// What their certificates must cover. Absent: their address.
    name: Option<ServerName<'static>>,
}

/// Why TLS cannot be spoken as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct Unfit {
    /// Below `layer7`.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// How long a client may take to agree on keys.
pub(crate) const SHAKING: Duration = Duration::from_secs(10);
/// What clients of HTTP may ask for (RFC 7301).
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

impl Secrecy {
    /// `before` is what this replaces: clients come back with their tickets.
    pub(crate) fn new(
        layer7: &Layer7,
        key_pairs: Vec<KeyPair>,
        before: &Self,
    ) -> Result<Self, Unfit> {
        let (clients, servers) = (layer7.tls.clone(), layer7.server_tls.clone());
        if clients.is_none() && servers.is_none() {
            return Ok(Self::default());
        }
        let is_http = layer7.mode == Mode::Http;
        let made = Made { clients, servers, key_pairs, is_http };
        if before.made_of.as_deref() == Some(&made) {
            return Ok(before.clone());
        }
        let clients = made
            .clients
            .as_ref()
            .map(|terms| WithClients::new(terms, &made, before.clients.as_ref()));
        let servers = made.servers.as_ref().map(|terms| WithServers::new(terms, &made.key_pairs));
        Ok(Self {
            clients: clients.transpose()?,
            servers: servers.transpose()?,
            made_of: Some(Arc::new(made)),
        })
    }
}

impl WithClients {
    fn new(terms: &Tls, made: &Made, before: Option<&Self>) -> Result<Self, Unfit> {
        let names = names(terms, &made.key_pairs)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(terms.minimum_version))
            .expect("ring has cipher suites for TLS 1.2 and 1.3");
        let builder = match &terms.clients {
            None => builder.with_no_client_auth(),
            Some(asked) => builder.with_client_cert_verifier(client_verifier(asked)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(names));
        let kept = before.filter(|before| before.asked == terms.clients);
        let tickets = match kept {
            Some(before) => Arc::clone(&before.tickets),
            None => Ticketer::new().map_err(|error| unfit("tls", error))?,
        };
        config.ticketer = Arc::clone(&tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if made.is_http {
            config.alpn_protocols = HTTP.map(Vec::from).to_vec();
        }
        Ok(Self { config: Arc::new(config), asked: terms.clients.clone(), tickets })
    }
}

impl WithServers {
    fn new(terms: &ServerTls, key_pairs: &[KeyPair]) -> Result<Self, Unfit> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(terms)?);
        let config = match &terms.certificate {
            None => builder.with_no_client_auth(),
            Some(id) => {
                let field = "server_tls.certificate";
                let (chain, key) = read(field, find(field, id, key_pairs)?)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unfit(field, error))?
            }
        };
        let name = terms.server_name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|error| unfit("server_tls.server_name", error))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// What the certificate of the real server at `address` must cover.
    pub(crate) fn name(&self, address: std::net::IpAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::from(address))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::Tls12 => &VERSIONS,
        TlsVersion::Tls13 => &VERSIONS[..1],
    }
}

fn names(terms: &Tls, key_pairs: &[KeyPair]) -> Result<Names, Unfit> {
    let certified = |field: &str, id| {
        let (chain, key) = read(field, find(field, id, key_pairs)?)?;
        let key = ring::sign::any_supported_type(&key).map_err(|error| unfit(field, error))?;
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    };
    let mut names = Names::new(certified("certificate", &terms.certificate)?);
    for (at, id) in terms.more_certificates.iter().enumerate() {
        names.add(&certified(&format!("tls.more_certificates[{at}]"), id)?);
    }
    Ok(names)
}

fn client_verifier(asked: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, Unfit> {
    let field = "tls.client_authorities";
    let roots = Arc::new(authorities(field, &asked.authorities)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if asked.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| unfit(field, error))
}

fn server_verifier(terms: &ServerTls) -> Result<Arc<dyn ServerCertVerifier>, Unfit> {
    if terms.authorities.is_empty() {
        return Ok(Arc::new(AnyCertificate));
    }
    let field = "server_tls.authorities";
    let roots = Arc::new(authorities(field, &terms.authorities)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
    Ok(verifier.map_err(|error| unfit(field, error))?)
}

fn authorities(field: &str, pem: &str) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unfit(field, error))?;
        roots.add(certificate).map_err(|error| unfit(field, error))?;
    }
    Ok(roots)
}

fn find<'a>(field: &str, id: &Id, key_pairs: &'a [KeyPair]) -> Result<&'a KeyPair, Unfit> {
    key_pairs.iter().find(|pair| pair.name == *id).ok_or_else(|| {
        let name = CertificateName { certificate: id.clone() };
        let what = "was not sent along by the controller: update the controller, which is older";
        unfit(field, format!("{name} {what}"))
    })
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(field: &str, pair: &KeyPair) -> Result<ChainAndKey, Unfit> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect();
    let chain = chain.map_err(|error| unfit(field, error))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.reveal().as_bytes());
    Ok((chain, key.map_err(|error| unfit(field, error))?))
}

fn unfit(field: &str, message: impl ToString) -> Unfit {
    Unfit { field: field.to_owned(), message: message.to_string() }
}
