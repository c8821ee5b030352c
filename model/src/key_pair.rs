//! A certificate chain and its private key, as the controller keeps them and agent-l7 uses them.

use std::fmt;

use crate::name::Id;

/// A chain and its key, which fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Of the certificate.
    pub name: Id,
    /// PEM, the leaf first.
    pub chain: String,
    pub key: PrivateKey,
}

/// A private key, PEM. It can be stored and used, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(String);

impl PrivateKey {
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// For those who store or use it, and for nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PrivateKey(hidden)")
    }
}
