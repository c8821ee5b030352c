//! Health checks.

use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_proto::v1::health_check as wire;

use super::{duration, duration_message, number, port, port_message};
use crate::check::{AeTitle, DicomEcho, Exchange, HealthCheck, Http, Mllp, Pattern, Probe};
use crate::service::Protocol;
use crate::violation::Violations;

const LARGEST_BODY: usize = 64 << 10;

pub(super) fn health_check(
    violations: &mut Violations,
    protocol: Protocol,
    message: &pb::HealthCheck,
) -> Option<HealthCheck> {
    let shortest = Duration::from_millis(100);
    let default = HealthCheck::default_for(protocol);
    let interval =
        duration(violations, "interval", message.interval, shortest).unwrap_or(default.interval);
    let timeout = duration(violations, "timeout", message.timeout, Duration::from_millis(10))
        .unwrap_or(default.timeout.min(interval));
    let fall = number(violations, "fall", message.fall, 1000);
    let rise = number(violations, "rise", message.rise, 1000);
    let port = port(violations, "port", message.port);
    let probe = match &message.probe {
        None => Some(default.probe),
        Some(wire::Probe::TcpConnect(_)) => Some(Probe::TcpConnect),
        Some(wire::Probe::None(_)) => Some(Probe::None),
        Some(wire::Probe::Exchange(probe)) => {
            violations.within("exchange", |violations| exchange(violations, probe))
        }
        Some(wire::Probe::Http(probe)) => {
            violations.within("http", |violations| http(violations, probe))
        }
        Some(wire::Probe::DicomEcho(probe)) => {
            violations.within("dicom_echo", |violations| dicom_echo(violations, probe))
        }
        Some(wire::Probe::Mllp(probe)) => Some(mllp(probe)),
    };
    let or = |given, default| if given == 0 { default } else { given };
    Some(HealthCheck {
        interval,
        timeout,
        rise: or(rise, default.rise),
        fall: or(fall, default.fall),
        port: port?,
        through_virtual_address: message.through_virtual_address,
        hold_connection: message.hold_connection,
        probe: probe?,
    })
}

pub(super) fn health_check_message(check: &HealthCheck) -> pb::HealthCheck {
    pb::HealthCheck {
        interval: Some(duration_message(check.interval)),
        timeout: Some(duration_message(check.timeout)),
        fall: i32::try_from(check.fall).unwrap_or(i32::MAX),
        rise: i32::try_from(check.rise).unwrap_or(i32::MAX),
        port: port_message(check.port),
        through_virtual_address: check.through_virtual_address,
        hold_connection: check.hold_connection,
        probe: Some(probe_message(&check.probe)),
    }
}

fn probe_message(probe: &Probe) -> wire::Probe {
    match probe {
        Probe::TcpConnect => wire::Probe::TcpConnect(wire::TcpConnect {}),
        Probe::None => wire::Probe::None(wire::None {}),
        Probe::Exchange(probe) => wire::Probe::Exchange(wire::Exchange {
            send: probe.send.clone(),
            expect: probe.expect.as_str().to_owned(),
            tls: probe.tls,
        }),
        Probe::Http(probe) => wire::Probe::Http(wire::Http {
            method: probe.method.clone(),
            path: probe.path.clone(),
            host: probe.host.clone(),
            body: probe.body.clone(),
            content_type: probe.content_type.clone(),
            expect_statuses: probe.expect_statuses.iter().copied().map(i32::from).collect(),
            expect_body: probe.expect_body.as_ref().map_or("", Pattern::as_str).to_owned(),
            tls: probe.tls,
        }),
        Probe::DicomEcho(probe) => wire::Probe::DicomEcho(wire::DicomEcho {
            calling_ae_title: probe.calling.as_str().to_owned(),
            called_ae_title: probe.called.as_str().to_owned(),
            tls: probe.tls,
        }),
        Probe::Mllp(probe) => wire::Probe::Mllp(wire::Mllp {
            message: probe.message.clone(),
            expect_codes: probe.expect_codes.clone(),
            tls: probe.tls,
        }),
    }
}

fn exchange(violations: &mut Violations, message: &wire::Exchange) -> Option<Probe> {
    if message.send.len() > LARGEST_BODY {
        violations.add("send", "TOO_LONG", "is longer than 64 KiB");
    }
    if message.expect.is_empty() {
        let what = "is required: give a regular expression that the reply must match";
        violations.add("expect", "REQUIRED", what);
        return None;
    }
    let expect = pattern(violations, "expect", &message.expect)?;
    Some(Probe::Exchange(Exchange { send: message.send.clone(), expect, tls: message.tls }))
}

fn http(violations: &mut Violations, message: &wire::Http) -> Option<Probe> {
    let default_method = if message.body.is_empty() { "GET" } else { "POST" };
    let method = if message.method.is_empty() { default_method } else { &message.method };
    if !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        violations.add("method", "INVALID_METHOD", "is not an HTTP method, such as GET or POST");
    }
    let path = if message.path.is_empty() { "/" } else { &message.path };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = "must begin with \"/\" and have no spaces; encode others as %XX";
        violations.add("path", "INVALID_PATH", what);
    }
    for (field, text) in [("host", &message.host), ("content_type", &message.content_type)] {
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            violations.add(field, "INVALID_HEADER", "must be printable ASCII");
        }
    }
    if message.body.len() > LARGEST_BODY {
        violations.add("body", "TOO_LONG", "is longer than 64 KiB");
    }
    let expect_body = match message.expect_body.as_str() {
        "" => None,
        text => Some(pattern(violations, "expect_body", text)?),
    };
    Some(Probe::Http(Http {
        method: method.to_owned(),
        path: path.to_owned(),
        host: message.host.clone(),
        body: message.body.clone(),
        content_type: message.content_type.clone(),
        expect_statuses: statuses(violations, &message.expect_statuses),
        expect_body,
        tls: message.tls,
    }))
}

fn statuses(violations: &mut Violations, given: &[i32]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (at, status) in given.iter().enumerate() {
        match u16::try_from(*status).ok().filter(|status| (100..=599).contains(status)) {
            Some(status) => statuses.push(status),
            None => {
                let what = format!("{status} is not an HTTP status: use 100 to 599");
                violations.add(&format!("expect_statuses[{at}]"), "OUT_OF_RANGE", what);
            }
        }
    }
    statuses
}

fn dicom_echo(violations: &mut Violations, message: &wire::DicomEcho) -> Option<Probe> {
    let mut title = |field, text: &str, default| {
        let text = if text.is_empty() { default } else { text };
        violations.check(field, "INVALID_AE_TITLE", AeTitle::new(text))
    };
    let calling = title("calling_ae_title", &message.calling_ae_title, "GANTRY");
    let called = title("called_ae_title", &message.called_ae_title, "ANY-SCP");
    Some(Probe::DicomEcho(DicomEcho { calling: calling?, called: called?, tls: message.tls }))
}

fn mllp(message: &wire::Mllp) -> Probe {
    Probe::Mllp(Mllp {
        message: message.message.clone(),
        expect_codes: message.expect_codes.clone(),
        tls: message.tls,
    })
}

fn pattern(violations: &mut Violations, field: &str, text: &str) -> Option<Pattern> {
    let pattern = Pattern::new(text).map_err(|error| {
        let why = error.to_string();
        let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("is not a regular expression: {last}")
    });
    violations.check(field, "INVALID_PATTERN", pattern)
}
