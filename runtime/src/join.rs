//! How an appliance gets its identity: a one-time token buys a certificate.
//!
//! A token is `gantry1.{fingerprint}.{secret}`. The fingerprint is the SHA-256 of the
//! controller's CA certificate, so the appliance knows whom it talks to before it has a CA file:
//! the first connection reads the chain that the controller shows, and goes on only if a
//! certificate in it has this fingerprint and the rest verifies against it.

use std::path::Path;
use std::sync::Arc;

use gantry_proto::agent::v1::JoinRequest;
use gantry_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::identity::{self, CONTROLLER, Identity, IdentityError};
use crate::rpc::{self, RpcError};

/// What tokens begin with.
pub const TOKEN_PREFIX: &str = "gantry1";

/// Joining did not work.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("this is not a token from `gantry invite`: it has the form {TOKEN_PREFIX}.….…")]
    Token,
    #[error("{address:?} is not the address of a controller: use https://host:port")]
    Address { address: String },
    #[error("connecting to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error(
        "the controller at {address} does not have the CA that the token names: it is another \
         controller, or its CA was replaced since, and then a new token is needed (gantry invite)"
    )]
    OtherCa { address: String },
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Joins with `token` and writes the identity to `dir`. Gives the name of the appliance.
pub async fn join(address: &str, token: &str, dir: &Path) -> Result<String, JoinError> {
    let fingerprint = fingerprint_in(token)?;
    let ca = fetch_ca(address, &fingerprint).await?;
    let (key, certificate_request) = identity::new_key()?;
    let channel = rpc::connect_nameless(address, &ca)?;
    let request = JoinRequest { token: token.to_owned(), certificate_request };
    let answer = EnrollmentServiceClient::new(channel)
        .join(request)
        .await
        .map_err(|status| JoinError::Refused(status.message().to_owned()))?
        .into_inner();
    Identity::save(dir, &answer.ca_certificates, &answer.certificate, &key)?;
    Ok(answer.appliance)
}

/// The fingerprint of a CA certificate, as tokens carry it.
pub fn fingerprint(ca: &CertificateDer<'_>) -> String {
    Sha256::digest(ca).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fingerprint_in(token: &str) -> Result<String, JoinError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(TOKEN_PREFIX), Some(fingerprint), Some(secret), None)
            if fingerprint.len() == 64 && !secret.is_empty() =>
        {
            Ok(fingerprint.to_owned())
        }
        _ => Err(JoinError::Token),
    }
}

/// Shakes hands with the controller just to see its chain; gives the CA certificate, PEM.
async fn fetch_ca(address: &str, fingerprint: &str) -> Result<String, JoinError> {
    let bad = || JoinError::Address { address: address.to_owned() };
    let uri: tonic::transport::Uri = address.parse().map_err(|_| bad())?;
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(bad()) };
    let failed = |source| JoinError::Connect { address: address.to_owned(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let seen =
        Arc::new(SeenCa { fingerprint: fingerprint.to_owned(), provider, ca: Mutex::new(None) });
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&seen.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(std::io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from(CONTROLLER).expect("a constant DNS name");
    let host = host.trim_matches(['[', ']']);
    let stream = tokio::net::TcpStream::connect((host, port)).await.map_err(failed)?;
    let shake = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    let result = tokio::time::timeout(std::time::Duration::from_secs(10), shake).await;
    if let Some(ca) = seen.ca.lock().take() {
        return Ok(ca);
    }
    match result {
        Ok(Err(error)) if !error.to_string().contains("invalid peer certificate") => {
            Err(failed(error))
        }
        Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        _ => Err(JoinError::OtherCa { address: address.to_owned() }),
    }
}

/// Looks for the CA in the chain that a controller shows. It trusts nobody: the connection over
/// which the token goes is a second one, which verifies the chain against the CA found here.
#[derive(Debug)]
struct SeenCa {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
    ca: Mutex<Option<String>>,
}

impl ServerCertVerifier for SeenCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = std::iter::once(end_entity).chain(intermediates);
        let ca = shown.find(|certificate| fingerprint(certificate) == self.fingerprint);
        let ca = ca.ok_or(rustls::CertificateError::UnknownIssuer)?;
        *self.ca.lock() = Some(pem::encode(&pem::Pem::new("CERTIFICATE", ca.to_vec())));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
