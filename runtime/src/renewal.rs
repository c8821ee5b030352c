//! How the holder of an identity gets a newer certificate, and the CA certificates trusted now.
//!
//! The key stays, so the controller goes on knowing the holder by it, and the files are consistent
//! whichever of them was written last. When it is time is for the caller to say.

use std::path::Path;
use std::time::Duration;

use gantry_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use gantry_proto::agent::v1::{RenewRequest, RenewResponse};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::transport::Channel;

use crate::identity::{self, Identity, IdentityError};
use crate::rpc;

/// How long the controller may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{}", rpc::why(.0))]
    Call(#[source] tonic::Status),
    #[error("the controller's answer is of no use: {0}")]
    Useless(&'static str),
}

/// Asks for a certificate over the key in `dir` and puts it there, in place of `held`.
pub async fn renew(
    channel: Channel,
    dir: &Path,
    held: &Identity,
) -> Result<Identity, RenewalError> {
    let request = RenewRequest { certificate_request: held.request(dir)? };
    let mut client = EnrollmentServiceClient::new(channel);
    let answer = match tokio::time::timeout(PATIENCE, client.renew(request)).await {
        Ok(answer) => answer.map_err(RenewalError::Call)?.into_inner(),
        Err(_) => {
            let silence = tonic::Status::deadline_exceeded("the controller does not answer");
            return Err(RenewalError::Call(silence));
        }
    };
    check(&answer, held).map_err(RenewalError::Useless)?;
    Identity::replace(dir, &answer.ca_certificates, &answer.certificate)?;
    Ok(Identity::load(dir)?)
}

/// A bad answer must not take the place of files that work.
fn check(answer: &RenewResponse, held: &Identity) -> Result<(), &'static str> {
    if identity::name_in(&answer.certificate).as_deref() != Some(held.name()) {
        return Err("it holds no certificate for this name");
    }
    let der = CertificateDer::from_pem_slice(answer.certificate.as_bytes());
    let der = der.map_err(|_| "its certificate cannot be read")?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&der).map_err(|_| "its certificate cannot be read")?;
    let key = KeyPair::from_pem(&held.key).map_err(|_| "the key cannot be read")?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err("its certificate is over another key");
    }
    let mut trusted = CertificateDer::pem_slice_iter(answer.ca_certificates.as_bytes());
    match trusted.next() {
        Some(Ok(_)) if trusted.all(|certificate| certificate.is_ok()) => Ok(()),
        _ => Err("it holds no CA certificates"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, SanType};

    use super::*;

    fn certificate(name: &str, key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        let uri = format!("{}{name}", identity::URI_SCHEME).try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn only_an_answer_that_works_is_taken() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let good = certificate("users/admin", &key);
        Identity::save(dir.path(), &good, &good, &key.serialize_pem()).unwrap();
        let held = Identity::load(dir.path()).unwrap();
        for (certificate, ca_certificates, expected) in [
            (good.clone(), good.clone(), Ok(())),
            (good.clone(), format!("{good}{good}"), Ok(())),
            (good.clone(), String::new(), Err("it holds no CA certificates")),
            (good.clone(), "nonsense".into(), Err("it holds no CA certificates")),
            (String::new(), good.clone(), Err("it holds no certificate for this name")),
            (
                certificate("users/eve", &key),
                good.clone(),
                Err("it holds no certificate for this name"),
            ),
            (
                certificate("users/admin", &other),
                good.clone(),
                Err("its certificate is over another key"),
            ),
        ] {
            let answer = RenewResponse { certificate, ca_certificates };
            assert_eq!(check(&answer, &held), expected, "{answer:?}");
        }
    }
}
