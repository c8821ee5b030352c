//! Certificates of the test's own making: of another authority, or for a stand-in controller.

use std::path::Path;

use gantry_runtime::identity::{CONTROLLER, Identity, URI_SCHEME};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// A certificate authority that no controller knows.
#[derive(Debug)]
pub struct Forge {
    pub ca: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Debug)]
pub struct Forged {
    pub certificate: String,
    pub key: String,
}

impl Forge {
    /// An authority that calls itself `name`.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    /// A client's certificate that says it is `name`.
    pub fn client(&self, name: &str) -> Forged {
        let uri = format!("{URI_SCHEME}{name}");
        let name = SanType::URI(uri.as_str().try_into().unwrap());
        self.sign(vec![name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A controller's certificate.
    pub fn controller(&self) -> Forged {
        let name = SanType::DnsName(CONTROLLER.try_into().unwrap());
        self.sign(vec![name], ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn sign(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Forged {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Forged { certificate, key: key.serialize_pem() }
    }
}

impl Forged {
    /// Writes it as an identity that trusts `ca`, and reads it.
    pub fn save(&self, dir: &Path, ca: &str) -> Identity {
        Identity::save(dir, ca, &self.certificate, &self.key).unwrap();
        Identity::load(dir).unwrap()
    }
}
