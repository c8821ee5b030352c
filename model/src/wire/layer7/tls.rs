//! TLS with clients and with real servers.

use gantry_proto::v1 as pb;
use pb::layer7::tls::{ClientCertificates as Asked, Version};

use super::{choice, is_dns_name};
use crate::name::{CertificateName, Id};
use crate::service::{ClientCertificates, ServerTls, Tls, TlsVersion};
use crate::violation::Violations;

/// Certificates that one service may show.
const MOST_CERTIFICATES: usize = 100;

/// Bytes of PEM: some fifty authorities.
const LONGEST_AUTHORITIES: usize = 128 << 10;

/// The outer option: whether it is right; the inner one: whether TLS ends here.
pub(super) fn tls(violations: &mut Violations, message: &pb::Layer7) -> Option<Option<Tls>> {
    let more = message.tls.as_ref();
    if message.certificate.is_empty() {
        if more.is_some() {
            let what = "says more of TLS with clients, which ends here only with a certificate: set \
                        layer7.certificate, or leave it out";
            violations.add("tls", "NEEDS_CERTIFICATE", what);
        }
        return Some(None);
    }
    let certificate = certificate(violations, "certificate", &message.certificate);
    let (more_certificates, clients, minimum_version) = match more {
        None => (Vec::new(), None, TlsVersion::Tls12),
        Some(more) => violations.within("tls", |violations| terms(violations, more))?,
    };
    Some(Some(Tls { certificate: certificate?, more_certificates, clients, minimum_version }))
}

type Terms = (Vec<Id>, Option<ClientCertificates>, TlsVersion);

fn terms(violations: &mut Violations, message: &pb::layer7::Tls) -> Option<Terms> {
    let more = more_certificates(violations, message);
    let clients = clients(violations, message);
    let version = match choice(violations, "minimum_version", message.minimum_version)? {
        Version::Unspecified | Version::Tls12 => TlsVersion::Tls12,
        Version::Tls13 => TlsVersion::Tls13,
    };
    Some((more?, clients?, version))
}

fn more_certificates(violations: &mut Violations, message: &pb::layer7::Tls) -> Option<Vec<Id>> {
    let names = &message.more_certificates;
    if names.len() > MOST_CERTIFICATES {
        let what = format!("has {} certificates: at most {MOST_CERTIFICATES}", names.len());
        violations.add("more_certificates", "TOO_MANY", what);
        return None;
    }
    let read = |(at, name): (usize, &String)| {
        certificate(violations, &format!("more_certificates[{at}]"), name)
    };
    let read: Vec<Option<Id>> = names.iter().enumerate().map(read).collect();
    read.into_iter().collect()
}

fn clients(
    violations: &mut Violations,
    message: &pb::layer7::Tls,
) -> Option<Option<ClientCertificates>> {
    let field = "client_certificates";
    let asked = choice::<Asked>(violations, field, message.client_certificates)?;
    let authorities = authorities(violations, "client_authorities", &message.client_authorities)?;
    if asked == Asked::Unspecified && !authorities.is_empty() {
        let what = "are those of the authorities that sign clients' certificates, and clients are not \
                    asked for any: set client_certificates, or leave them out";
        violations.add("client_authorities", "NEEDS_CLIENT_CERTIFICATES", what);
        return None;
    }
    if asked != Asked::Unspecified && authorities.is_empty() {
        let what = "are required to judge clients' certificates: give those of the authorities that \
                    sign them, PEM";
        violations.add("client_authorities", "REQUIRED", what);
        return None;
    }
    let required = asked == Asked::Required;
    Some((asked != Asked::Unspecified).then_some(ClientCertificates { required, authorities }))
}

/// The outer option: whether it is right; the inner one: whether TLS is spoken.
pub(super) fn server_tls(
    violations: &mut Violations,
    message: &pb::Layer7,
) -> Option<Option<ServerTls>> {
    let given = message.server_tls.as_ref();
    if !message.reencrypt {
        if given.is_some() {
            let what = "says how TLS is spoken to real servers, and it is not: set reencrypt, or \
                        leave it out";
            violations.add("server_tls", "NEEDS_REENCRYPT", what);
        }
        return Some(None);
    }
    let Some(given) = given else { return Some(Some(ServerTls::default())) };
    violations.within("server_tls", |violations| {
        let authorities = authorities(violations, "authorities", &given.authorities);
        let server_name = server_name(violations, &given.server_name);
        let certificate = match given.certificate.as_str() {
            "" => Some(None),
            name => certificate(violations, "certificate", name).map(Some),
        };
        Some(Some(ServerTls {
            authorities: authorities?,
            server_name: server_name?,
            certificate: certificate?,
        }))
    })
}

fn server_name(violations: &mut Violations, name: &str) -> Option<Option<String>> {
    if name.is_empty() {
        return Some(None);
    }
    if !is_dns_name(name) {
        let what = "is no DNS name: use one such as pacs.example.org, without a dot at its end";
        violations.add("server_name", "INVALID_NAME", what);
        return None;
    }
    Some(Some(name.to_ascii_lowercase()))
}

/// What is in it only those can tell who read certificates.
fn authorities(violations: &mut Violations, field: &str, pem: &str) -> Option<String> {
    if pem.len() > LONGEST_AUTHORITIES {
        let what = format!("has {} bytes: at most {LONGEST_AUTHORITIES}", pem.len());
        violations.add(field, "TOO_LONG", what);
        return None;
    }
    Some(pem.to_owned())
}

fn certificate(violations: &mut Violations, field: &str, name: &str) -> Option<Id> {
    let read = violations.check(field, "INVALID_NAME", name.parse::<CertificateName>());
    read.map(|name| name.certificate)
}

pub(super) fn certificate_name(id: &Id) -> String {
    CertificateName { certificate: id.clone() }.to_string()
}

/// None if nothing is said that would not hold anyway.
pub(super) fn tls_message(tls: &Tls) -> Option<pb::layer7::Tls> {
    let asked = match &tls.clients {
        None => Asked::Unspecified,
        Some(ClientCertificates { required: false, .. }) => Asked::Optional,
        Some(ClientCertificates { required: true, .. }) => Asked::Required,
    };
    let version = match tls.minimum_version {
        TlsVersion::Tls12 => Version::Unspecified,
        TlsVersion::Tls13 => Version::Tls13,
    };
    let clients = tls.clients.as_ref();
    let message = pb::layer7::Tls {
        more_certificates: tls.more_certificates.iter().map(certificate_name).collect(),
        client_certificates: asked.into(),
        client_authorities: clients.map(|asked| asked.authorities.clone()).unwrap_or_default(),
        minimum_version: version.into(),
    };
    (message != pb::layer7::Tls::default()).then_some(message)
}

/// None if nothing is said that would not hold anyway.
pub(super) fn server_tls_message(tls: &ServerTls) -> Option<pb::layer7::ServerTls> {
    (*tls != ServerTls::default()).then(|| pb::layer7::ServerTls {
        authorities: tls.authorities.clone(),
        server_name: tls.server_name.clone().unwrap_or_default(),
        certificate: tls.certificate.as_ref().map(certificate_name).unwrap_or_default(),
    })
}
