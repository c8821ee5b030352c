//! How messages with secrets in them are printed: without.

use std::fmt::{Debug, Formatter, Result};

use crate::agent::v1::{EncodedServicePlan, KeyPair};
use crate::v1::ImportCertificateRequest;

impl Debug for KeyPair {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        out.debug_struct("KeyPair").field("name", &self.name).finish_non_exhaustive()
    }
}

/// There may be private keys in a plan.
impl Debug for EncodedServicePlan {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let (name, bytes) = (&self.name, self.plan.len());
        out.debug_struct("EncodedServicePlan").field("name", name).field("bytes", &bytes).finish()
    }
}

impl Debug for ImportCertificateRequest {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let name = &self.name;
        out.debug_struct("ImportCertificateRequest").field("name", name).finish_non_exhaustive()
    }
}
