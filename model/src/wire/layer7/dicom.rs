//! How associations of DICOM are carried.

use std::num::NonZeroU32;

use gantry_proto::v1 as pb;

use super::http::{each, pool};
use super::{SHORTEST, duration, duration_message, is_dns_name};
use crate::address::Network;
use crate::check::AeTitle;
use crate::dicom::{Dicom, Route};
use crate::name::Id;
use crate::violation::Violations;
use crate::wire::number;

const MOST_ROUTES: usize = 100;
/// Titles or sources of one route.
const MOST_PATTERNS: usize = 100;
const MOST_ASSOCIATIONS: u32 = 1_000_000;

pub(super) fn dicom(violations: &mut Violations, message: &pb::layer7::Dicom) -> Option<Dicom> {
    if message.reject_unrouted && message.routes.is_empty() {
        let what = "would reject everybody: give routes for those to be served, or leave it out";
        violations.add("reject_unrouted", "NEEDS_ROUTES", what);
    }
    let routes = each(violations, "routes", &message.routes, MOST_ROUTES, route);
    let mut time =
        |field, given, default| duration(violations, field, given, SHORTEST).unwrap_or(default);
    let request = time("request_timeout", message.request_timeout, Dicom::REQUEST_TIMEOUT);
    let answer = time("answer_timeout", message.answer_timeout, Dicom::ANSWER_TIMEOUT);
    let mut limit =
        |field, given| NonZeroU32::new(number(violations, field, given, MOST_ASSOCIATIONS));
    let (all, title) = (message.max_associations, message.max_associations_per_ae_title);
    Some(Dicom {
        reject_unrouted: message.reject_unrouted,
        request_timeout: request,
        answer_timeout: answer,
        most_associations: limit("max_associations", all),
        most_per_title: limit("max_associations_per_ae_title", title),
        routes: routes?,
    })
}

fn route(violations: &mut Violations, message: &pb::layer7::DicomRoute) -> Option<Route> {
    let pb::layer7::DicomRoute {
        called_ae_titles,
        calling_ae_titles,
        sources,
        certificate_names,
        pool: _,
    } = message;
    let all = [called_ae_titles, calling_ae_titles, sources, certificate_names];
    if all.iter().all(|texts| texts.is_empty()) {
        let what = "fits everything: give AE titles or sources, or leave the route out";
        violations.add("called_ae_titles", "REQUIRED", what);
        return None;
    }
    let mut titles =
        |field, texts| texts_of(violations, field, texts, "INVALID_AE_TITLE", AeTitle::new);
    let called = titles("called_ae_titles", called_ae_titles);
    let calling = titles("calling_ae_titles", calling_ae_titles);
    let sources =
        texts_of(violations, "sources", sources, "INVALID_NETWORK", str::parse::<Network>);
    let field = "certificate_names";
    let certificates = texts_of(violations, field, certificate_names, "INVALID_NAME", |text| {
        let what = "is no DNS name: use one such as ct1.example.org, as it is in the certificate";
        is_dns_name(text).then(|| text.to_ascii_lowercase()).ok_or(what)
    });
    let pool = pool(violations, &message.pool)?;
    Some(Route {
        called: called?,
        calling: calling?,
        sources: sources?,
        certificates: certificates?,
        pool,
    })
}

/// Reads each of these, or says what is wrong with it.
fn texts_of<T, E: std::fmt::Display>(
    violations: &mut Violations,
    field: &str,
    texts: &[String],
    reason: &'static str,
    read: impl Fn(&str) -> Result<T, E>,
) -> Option<Vec<T>> {
    each(violations, field, texts, MOST_PATTERNS, |violations, text| {
        violations.check("", reason, read(text))
    })
}

/// None if nothing is said that would not hold anyway.
pub(super) fn dicom_message(dicom: &Dicom) -> Option<pb::layer7::Dicom> {
    let number = |limit: Option<NonZeroU32>| {
        limit.and_then(|limit| i32::try_from(limit.get()).ok()).unwrap_or_default()
    };
    (*dicom != Dicom::default()).then(|| pb::layer7::Dicom {
        routes: dicom.routes.iter().map(route_message).collect(),
        reject_unrouted: dicom.reject_unrouted,
        request_timeout: Some(duration_message(dicom.request_timeout)),
        answer_timeout: Some(duration_message(dicom.answer_timeout)),
        max_associations: number(dicom.most_associations),
        max_associations_per_ae_title: number(dicom.most_per_title),
    })
}

fn route_message(route: &Route) -> pb::layer7::DicomRoute {
    let titles = |all: &[AeTitle]| all.iter().map(|title| title.as_str().to_owned()).collect();
    pb::layer7::DicomRoute {
        called_ae_titles: titles(&route.called),
        calling_ae_titles: titles(&route.calling),
        sources: route.sources.iter().map(Network::to_string).collect(),
        certificate_names: route.certificates.clone(),
        pool: route.pool.as_ref().map(Id::to_string).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &pb::layer7::Dicom) -> (Option<Dicom>, Vec<String>) {
        let mut violations = Violations::new();
        let read = dicom(&mut violations, message);
        let found = violations.into_found();
        (read, found.into_iter().map(|it| format!("{} {}", it.field, it.reason)).collect())
    }

    fn route(called: &[&str], calling: &[&str], sources: &[&str]) -> pb::layer7::DicomRoute {
        let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
        pb::layer7::DicomRoute {
            called_ae_titles: texts(called),
            calling_ae_titles: texts(calling),
            sources: texts(sources),
            certificate_names: Vec::new(),
            pool: "fast".to_owned(),
        }
    }

    #[test]
    fn settings_are_read_and_written() {
        let message = pb::layer7::Dicom {
            routes: vec![
                route(&["STORE"], &[], &[]),
                route(&[], &["CT 1"], &["10.0.0.0/8"]),
                pb::layer7::DicomRoute {
                    certificate_names: vec!["ct1.example.org".to_owned()],
                    ..route(&[], &[], &[])
                },
            ],
            reject_unrouted: true,
            request_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            answer_timeout: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
            max_associations: 100,
            max_associations_per_ae_title: 4,
        };
        let (dicom, found) = read(&message);
        assert_eq!(found, <[&str; 0]>::default());
        assert_eq!(dicom.and_then(|dicom| dicom_message(&dicom)), Some(message));
        let (nothing, _) = read(&pb::layer7::Dicom::default());
        assert_eq!(nothing, Some(Dicom::default()));
        assert_eq!(dicom_message(&Dicom::default()), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |routes: Vec<_>| pb::layer7::Dicom { routes, ..Default::default() };
        let zero = Some(prost_types::Duration::default());
        for (message, expected) in [
            (with(vec![route(&[], &[], &[])]), "routes[0].called_ae_titles REQUIRED"),
            (
                with(vec![route(&["A"], &[], &[]), route(&["A", "SEVENTEEN-LETTERS"], &[], &[])]),
                "routes[1].called_ae_titles[1] INVALID_AE_TITLE",
            ),
            (
                with(vec![route(&[], &["A\\B"], &[])]),
                "routes[0].calling_ae_titles[0] INVALID_AE_TITLE",
            ),
            (with(vec![route(&[], &[], &["10.0.0.1/8"])]), "routes[0].sources[0] INVALID_NETWORK"),
            (with(vec![route(&["A"], &[], &[]); 101]), "routes TOO_MANY"),
            (
                pb::layer7::Dicom { reject_unrouted: true, ..Default::default() },
                "reject_unrouted NEEDS_ROUTES",
            ),
            (
                pb::layer7::Dicom { answer_timeout: zero, ..Default::default() },
                "answer_timeout INVALID_DURATION",
            ),
            (
                pb::layer7::Dicom { max_associations: -1, ..Default::default() },
                "max_associations OUT_OF_RANGE",
            ),
        ] {
            assert_eq!(read(&message).1, [expected]);
        }
    }
}
