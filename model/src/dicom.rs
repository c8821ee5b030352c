//! What a virtual service says of DICOM, and which pool an association belongs to.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::address::Network;
use crate::check::AeTitle;
use crate::name::Id;

/// How associations are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dicom {
    pub routes: Vec<Route>,
    /// An association that no route takes is rejected.
    pub reject_unrouted: bool,
    /// For the A-ASSOCIATE-RQ of a client.
    pub request_timeout: Duration,
    /// For a real server's answer to it.
    pub answer_timeout: Duration,
    /// At the same time. Absent: any number.
    pub most_associations: Option<NonZeroU32>,
    /// Of one calling AE title at the same time. Absent: any number.
    pub most_per_title: Option<NonZeroU32>,
}

/// Sends some of the associations to a pool: the real servers that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Empty: any.
    pub called: Vec<AeTitle>,
    /// Empty: any.
    pub calling: Vec<AeTitle>,
    /// Where the client is. Empty: anywhere.
    pub sources: Vec<Network>,
    /// DNS names in the client's certificate, in lower case. Empty: any, and none.
    pub certificates: Vec<String>,
    /// Absent: the real servers that name none.
    pub pool: Option<Id>,
}

/// What an association is asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Without the spaces around it.
    pub called: &'a str,
    /// Without the spaces around it.
    pub calling: &'a str,
    pub source: IpAddr,
    /// The DNS names in the client's certificate.
    pub certificate: &'a [String],
}

/// Why no route takes an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// None is for the called AE title.
    Called,
    /// Some are, and none of them is for this client.
    Calling,
}

impl Dicom {
    /// The ARTIM timer has no value in the standard; this one is customary.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

    /// The pool of an association: by the first route that fits.
    pub fn pool(&self, asked: &Asked<'_>) -> Result<Option<&Id>, Unrouted> {
        let for_called = || self.routes.iter().filter(|route| route.is_for(asked.called));
        if let Some(route) = for_called().find(|route| route.takes(asked)) {
            return Ok(route.pool.as_ref());
        }
        match for_called().next() {
            _ if !self.reject_unrouted => Ok(None),
            None => Err(Unrouted::Called),
            Some(_) => Err(Unrouted::Calling),
        }
    }
}

impl Default for Dicom {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            reject_unrouted: false,
            request_timeout: Self::REQUEST_TIMEOUT,
            answer_timeout: Self::ANSWER_TIMEOUT,
            most_associations: None,
            most_per_title: None,
        }
    }
}

impl Route {
    fn is_for(&self, called: &str) -> bool {
        names(&self.called, called)
    }

    /// Whether the client may use the route.
    fn takes(&self, asked: &Asked<'_>) -> bool {
        let mut sources = self.sources.iter();
        let mut certificates = self.certificates.iter();
        let shown =
            |name: &String| asked.certificate.iter().any(|own| own.eq_ignore_ascii_case(name));
        names(&self.calling, asked.calling)
            && (self.certificates.is_empty() || certificates.any(shown))
            && (self.sources.is_empty() || sources.any(|network| network.holds(asked.source)))
    }
}

/// Whether a title is among these, where there are any.
fn names(titles: &[AeTitle], title: &str) -> bool {
    titles.is_empty() || titles.iter().any(|named| named.as_str() == title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(called: &[&str], calling: &[&str], sources: &[&str], pool: &str) -> Route {
        let titles = |all: &[&str]| all.iter().map(|text| AeTitle::new(text).unwrap()).collect();
        Route {
            called: titles(called),
            calling: titles(calling),
            sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
            certificates: Vec::new(),
            pool: pool.parse().ok(),
        }
    }

    #[test]
    fn the_first_route_that_fits_says_which_pool() {
        let routes = vec![
            route(&["STORE", "ARCHIVE"], &["CT1", "CT2"], &[], "fast"),
            route(&["STORE"], &[], &["10.1.0.0/16", "fd12::/64"], "near"),
            route(&["QR"], &[], &[], ""),
            route(&[], &["OLD CT"], &[], "old"),
        ];
        let mut dicom = Dicom { routes, ..Dicom::default() };
        for (called, calling, source, pool, strict) in [
            ("STORE", "CT1", "10.9.9.9", "fast", Ok("fast")),
            ("ARCHIVE", "CT2", "10.1.0.1", "fast", Ok("fast")),
            ("STORE", "MR1", "10.1.200.1", "near", Ok("near")),
            ("STORE", "MR1", "fd12::7", "near", Ok("near")),
            ("STORE", "MR1", "10.2.0.1", "", Err(Unrouted::Calling)),
            ("store", "CT1", "10.1.0.1", "", Err(Unrouted::Calling)),
            ("QR", "MR1", "10.2.0.1", "", Ok("")),
            ("ELSE", "OLD CT", "10.2.0.1", "old", Ok("old")),
        ] {
            let source = source.parse().unwrap();
            let asked = Asked { called, calling, source, certificate: &[] };
            let found = |dicom: &Dicom| {
                dicom.pool(&asked).map(|pool| pool.map(Id::to_string).unwrap_or_default())
            };
            dicom.reject_unrouted = false;
            assert_eq!(found(&dicom), Ok(pool.to_owned()), "{asked:?}");
            dicom.reject_unrouted = true;
            assert_eq!(found(&dicom), strict.map(str::to_owned), "{asked:?}");
        }
        dicom.routes.pop();
        let source = "10.2.0.1".parse().unwrap();
        let asked = Asked { called: "ELSE", calling: "OLD CT", source, certificate: &[] };
        assert_eq!(dicom.pool(&asked), Err(Unrouted::Called), "nobody is called so");
    }

    #[test]
    fn a_title_may_belong_to_a_certificate() {
        let own =
            Route { certificates: vec!["ct1.example".to_owned()], ..route(&[], &["CT1"], &[], "") };
        let dicom = Dicom { routes: vec![own], reject_unrouted: true, ..Dicom::default() };
        let source = "10.2.0.1".parse().unwrap();
        for (calling, shown, good) in [
            ("CT1", &["CT1.example"][..], true),
            ("CT1", &["x.example", "ct1.example"], true),
            ("CT1", &["ct2.example"], false),
            ("CT1", &[], false),
            ("CT2", &["ct1.example"], false),
        ] {
            let shown: Vec<String> = shown.iter().map(|&name| name.to_owned()).collect();
            let asked = Asked { called: "PACS", calling, source, certificate: &shown };
            assert_eq!(dicom.pool(&asked).is_ok(), good, "{asked:?}");
        }
    }
}
