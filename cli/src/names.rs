//! Names as people type them: `dicom`, `dicom/pacs-1`, `appliances/lb1`, or whole resource names.
//!
//! Parsing tells what kind of thing is meant; which cluster it is in comes from elsewhere.

use std::fmt;
use std::str::FromStr;

use gantry_model::name::{
    ApplianceName, CertificateName, ClusterName, Id, NameError, ServerName, ServiceName,
};

/// The whole name of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Cluster(ClusterName),
    Service(ServiceName),
    Server(ServerName),
    Appliance(ApplianceName),
    Certificate(CertificateName),
}

/// A name that may lack its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Whole(Name),
    Service(Id),
    Server(Id, Id),
    Appliance(Id),
}

impl Reference {
    /// The whole name, taken to be in `cluster` if it does not say itself.
    pub(crate) fn within(self, cluster: &ClusterName) -> Name {
        match self {
            Self::Whole(name) => name,
            Self::Service(service) => Name::Service(cluster.service(service)),
            Self::Server(service, server) => Name::Server(cluster.service(service).server(server)),
            Self::Appliance(appliance) => Name::Appliance(cluster.appliance(appliance)),
        }
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.trim_end_matches('/').split('/').collect();
        // Ids have small letters only; labels, which tables show, may have others.
        let id = |part: &str| part.to_ascii_lowercase().parse::<Id>();
        Ok(match parts.as_slice() {
            ["clusters", ..] => Self::Whole(text.trim_end_matches('/').parse()?),
            ["appliances", appliance] => Self::Appliance(id(appliance)?),
            ["certificates", certificate] => {
                Self::Whole(Name::Certificate(CertificateName { certificate: id(certificate)? }))
            }
            ["virtualServices", service] | [service] => Self::Service(id(service)?),
            ["virtualServices", service, "realServers", server] | [service, server] => {
                Self::Server(id(service)?, id(server)?)
            }
            _ => {
                let form = "SERVICE, SERVICE/SERVER, appliances/APPLIANCE, certificates/CERTIFICATE \
                            or a whole name";
                return Err(NameError::BadForm { given: text.chars().take(300).collect(), form });
            }
        })
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        Ok(match parts.as_slice() {
            ["certificates", _] => Self::Certificate(text.parse()?),
            [_, _] => Self::Cluster(text.parse()?),
            [_, _, "appliances", _] => Self::Appliance(text.parse()?),
            [_, _, _, _, _, ..] => Self::Server(text.parse()?),
            _ => Self::Service(text.parse()?),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => name.fmt(out),
            Self::Service(name) => name.fmt(out),
            Self::Server(name) => name.fmt(out),
            Self::Appliance(name) => name.fmt(out),
            Self::Certificate(name) => name.fmt(out),
        }
    }
}

/// A certificate's name from `pacs` or `certificates/pacs`.
pub(crate) fn certificate(text: &str) -> Result<CertificateName, NameError> {
    if text.contains('/') {
        text.parse()
    } else {
        Ok(CertificateName { certificate: text.parse()? })
    }
}

/// A resource name without its cluster, as it may be typed: `dicom/pacs-1`, `appliances/lb1`.
pub(crate) fn short(name: &str) -> String {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["clusters", _, "virtualServices", service] => (*service).to_owned(),
        ["clusters", _, "virtualServices", service, "realServers", server] => {
            format!("{service}/{server}")
        }
        ["clusters", _, kind, id] => format!("{kind}/{id}"),
        _ => name.to_owned(),
    }
}

/// A resource as tables call it: by its label where that is its id in other letters, else by id and
/// label. So what is read in a table can be typed.
pub(crate) fn labelled(name: &str, label: &str) -> String {
    let id = last(name);
    match label {
        "" => id.to_owned(),
        label if label.eq_ignore_ascii_case(id) => label.to_owned(),
        label => format!("{id} ({label})"),
    }
}

/// The last part of a resource name.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The cluster's id in a resource name.
pub(crate) fn cluster_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        let cluster = "clusters/main".parse().unwrap();
        text.parse::<Reference>().unwrap().within(&cluster).to_string()
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(whole("dicom"), "clusters/main/virtualServices/dicom");
        assert_eq!(whole("virtualServices/dicom"), "clusters/main/virtualServices/dicom");
        let server = "clusters/main/virtualServices/dicom/realServers/pacs-1";
        assert_eq!(whole("dicom/pacs-1"), server);
        assert_eq!(whole("virtualServices/dicom/realServers/pacs-1"), server);
        assert_eq!(whole("appliances/lb1"), "clusters/main/appliances/lb1");
    }

    #[test]
    fn what_tables_show_can_be_typed() {
        let name = "clusters/main/virtualServices/hl7";
        assert_eq!(labelled(name, "HL7"), "HL7");
        assert_eq!(whole(&labelled(name, "HL7")), name);
        assert_eq!(labelled(name, ""), "hl7");
        assert_eq!(labelled(name, "Interface engine"), "hl7 (Interface engine)");
    }

    #[test]
    fn whole_names_stay_what_they_are() {
        for name in [
            "clusters/other",
            "certificates/pacs",
            "clusters/other/appliances/lb1",
            "clusters/other/virtualServices/dicom",
            "clusters/other/virtualServices/dicom/realServers/pacs-1",
        ] {
            assert_eq!(whole(name), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "/", "DI COM", "a/b/c", "clusters", "clusters/a/b", "dicom/pacs_1", "é"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        let error = "clusters/main/services/x".parse::<Reference>().unwrap_err();
        assert!(error.to_string().contains("virtualServices"), "{error}");
    }

    #[test]
    fn names_are_shown_as_they_may_be_typed() {
        assert_eq!(short("clusters/main/virtualServices/dicom/realServers/pacs-1"), "dicom/pacs-1");
        assert_eq!(short("clusters/main/virtualServices/dicom"), "dicom");
        assert_eq!(short("clusters/main/appliances/lb1"), "appliances/lb1");
        assert_eq!(short("clusters/main"), "clusters/main");
        assert_eq!(last("clusters/main"), "main");
        assert_eq!(cluster_of("clusters/main/appliances/lb1"), "main");
    }
}
