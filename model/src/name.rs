//! Resource names, as in AIP-122: `clusters/main/virtualServices/dicom/realServers/pacs-1`.
//!
//! A name that exists is well formed; parsing says what is wrong in words an operator can act on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The last part of a resource name: 1 to 63 lower-case letters, digits and dashes, beginning and
/// ending with a letter or a digit (the label rule of RFC 1123, section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

/// `clusters/{cluster}`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    pub cluster: Id,
}

/// `clusters/{cluster}/virtualServices/{virtual_service}`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub cluster: Id,
    pub service: Id,
}

/// `clusters/{cluster}/virtualServices/{virtual_service}/realServers/{real_server}`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName {
    pub service: ServiceName,
    pub server: Id,
}

/// `clusters/{cluster}/appliances/{appliance}`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplianceName {
    pub cluster: Id,
    pub appliance: Id,
}

/// `certificates/{certificate}`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName {
    pub certificate: Id,
}

/// Why a string is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an id must not be empty")]
    EmptyId,
    #[error("{0:?} is longer than the 63 characters an id may have")]
    LongId(String),
    #[error(
        "{0:?} is not an id: use lower-case letters, digits and dashes, and begin and end with a \
         letter or a digit"
    )]
    BadId(String),
    #[error("{given:?} does not have the form {form}")]
    BadForm { given: String, form: &'static str },
}

impl Id {
    /// The id that no other sorts before: where a walk over a collection begins.
    pub fn lowest() -> Self {
        Self("0".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::EmptyId);
        }
        if text.chars().count() > 63 {
            return Err(NameError::LongId(text.chars().take(80).collect()));
        }
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if !edges || !text.bytes().all(inner) {
            return Err(NameError::BadId(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl ClusterName {
    pub fn service(&self, service: Id) -> ServiceName {
        ServiceName { cluster: self.cluster.clone(), service }
    }

    pub fn appliance(&self, appliance: Id) -> ApplianceName {
        ApplianceName { cluster: self.cluster.clone(), appliance }
    }
}

impl ServiceName {
    pub fn cluster(&self) -> ClusterName {
        ClusterName { cluster: self.cluster.clone() }
    }

    pub fn server(&self, server: Id) -> ServerName {
        ServerName { service: self.clone(), server }
    }
}

impl ApplianceName {
    pub fn cluster(&self) -> ClusterName {
        ClusterName { cluster: self.cluster.clone() }
    }
}

/// Splits `text` at slashes into the ids that stand at the `{}` of `form`.
fn ids<const N: usize>(text: &str, form: &'static str) -> Result<[Id; N], NameError> {
    let bad_form = || NameError::BadForm { given: text.chars().take(300).collect(), form };
    let mut found = Vec::with_capacity(N);
    let mut parts = text.split('/');
    for expected in form.split('/') {
        let part = parts.next().ok_or_else(bad_form)?;
        if expected.starts_with('{') {
            found.push(part.parse()?);
        } else if part != expected {
            return Err(bad_form());
        }
    }
    if parts.next().is_some() {
        return Err(bad_form());
    }
    found.try_into().map_err(|_| bad_form())
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [cluster] = ids(text, "clusters/{cluster}")?;
        Ok(Self { cluster })
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [cluster, service] = ids(text, "clusters/{cluster}/virtualServices/{virtual_service}")?;
        Ok(Self { cluster, service })
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "clusters/{cluster}/virtualServices/{virtual_service}/realServers/{real_server}";
        let [cluster, service, server] = ids(text, form)?;
        Ok(Self { service: ServiceName { cluster, service }, server })
    }
}

impl FromStr for ApplianceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [cluster, appliance] = ids(text, "clusters/{cluster}/appliances/{appliance}")?;
        Ok(Self { cluster, appliance })
    }
}

impl FromStr for CertificateName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [certificate] = ids(text, "certificates/{certificate}")?;
        Ok(Self { certificate })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clusters/{}", self.cluster)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clusters/{}/virtualServices/{}", self.cluster, self.service)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/realServers/{}", self.service, self.server)
    }
}

impl fmt::Display for ApplianceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clusters/{}/appliances/{}", self.cluster, self.appliance)
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "certificates/{}", self.certificate)
    }
}

macro_rules! debug_as_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }
    )*};
}
debug_as_display!(Id, ClusterName, ServiceName, ServerName, ApplianceName, CertificateName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_rfc_1123_labels() {
        for good in ["a", "0", "pacs-1", "a--b", &"x".repeat(63)] {
            assert!(good.parse::<Id>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "é", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_print_as_they_parse() {
        let server = "clusters/main/virtualServices/dicom/realServers/pacs-1";
        assert_eq!(server.parse::<ServerName>().unwrap().to_string(), server);
        let service = "clusters/main/virtualServices/dicom";
        assert_eq!(service.parse::<ServiceName>().unwrap().to_string(), service);
        let appliance = "clusters/main/appliances/lb1";
        assert_eq!(appliance.parse::<ApplianceName>().unwrap().to_string(), appliance);
        assert_eq!("clusters/main".parse::<ClusterName>().unwrap().to_string(), "clusters/main");
        let certificate = "certificates/pacs";
        assert_eq!(certificate.parse::<CertificateName>().unwrap().to_string(), certificate);
    }

    #[test]
    fn a_name_of_the_wrong_form_says_the_right_one() {
        let error = "clusters/main/services/x".parse::<ServiceName>().unwrap_err();
        assert!(error.to_string().contains("clusters/{cluster}/virtualServices/{virtual_service}"));
        assert!("clusters/main/extra".parse::<ClusterName>().is_err());
        assert!("clusters".parse::<ClusterName>().is_err());
        assert!("clusters/".parse::<ClusterName>().is_err());
    }
}
