//! Which certificate a client is shown: by the name that it asks for (RFC 6066, section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

/// Certificates by the names that they cover.
#[derive(Debug)]
pub(super) struct Names {
    default: Arc<CertifiedKey>,
    /// In lower case. A wildcard stands as `*.example.org`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Names {
    /// `default` is for all who ask for no name, or for one that no other covers.
    pub(super) fn new(default: Arc<CertifiedKey>) -> Self {
        let mut names = Self { default: Arc::clone(&default), by_name: HashMap::new() };
        names.add(&default);
        names
    }

    /// Adds what nobody before covers.
    pub(super) fn add(&mut self, certified: &Arc<CertifiedKey>) {
        let Some(leaf) = certified.cert.first() else { return };
        let Ok(leaf) = EndEntityCert::try_from(leaf) else { return };
        for name in leaf.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            self.by_name.entry(name).or_insert_with(|| Arc::clone(certified));
        }
    }

    pub(super) fn find(&self, asked: Option<&str>) -> Arc<CertifiedKey> {
        let found = asked.and_then(|asked| {
            let asked = asked.to_ascii_lowercase();
            let exact = self.by_name.get(&asked);
            // A wildcard stands for one label (RFC 6125, section 6.4.3).
            exact.or_else(|| self.by_name.get(&format!("*.{}", asked.split_once('.')?.1)))
        });
        Arc::clone(found.unwrap_or(&self.default))
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()))
    }
}

#[cfg(test)]
mod tests;
