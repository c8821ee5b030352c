//! Whole virtual services by one word: what a preset fills in where nothing is said.

use std::borrow::Cow;

use gantry_proto::v1 as pb;
use pb::health_check::{DicomEcho, Mllp, Probe, TcpConnect};
use pb::layer7::{Mode, PassiveHealth, Tcp};
use pb::persistence::Key;
use pb::virtual_service::{Forwarding, Preset};

/// The message with what its preset fills in.
pub(super) fn filled(message: &pb::VirtualService, preset: Preset) -> Cow<'_, pb::VirtualService> {
    let (ports, settings, key, probe) = match preset {
        Preset::Unspecified => return Cow::Borrowed(message),
        Preset::Dicom => (
            &["104", "11112"][..],
            pb::Layer7 {
                mode: Mode::DicomMode.into(),
                passive_health: Some(PassiveHealth {
                    failures: 3,
                    hold: seconds(30),
                    disabled: false,
                }),
                ..Default::default()
            },
            Key::CallingAeTitle,
            Probe::DicomEcho(DicomEcho::default()),
        ),
        Preset::Hl7 => (
            &["2575"][..],
            pb::Layer7 {
                mode: Mode::MllpMode.into(),
                client_timeout: seconds(7 * 24 * 3600),
                tcp: Some(Tcp { keepalive: seconds(60), ..Default::default() }),
                ..Default::default()
            },
            Key::SourceIp,
            Probe::Mllp(Mllp::default()),
        ),
        Preset::HttpsViewer => (
            &["443"][..],
            pb::Layer7 { mode: Mode::TcpMode.into(), ..Default::default() },
            Key::SourceIp,
            Probe::TcpConnect(TcpConnect {}),
        ),
    };
    let mut message = message.clone();
    if let Some(listener) = &mut message.listener
        && listener.ports.is_empty()
    {
        listener.ports = ports.iter().map(|&port| port.to_owned()).collect();
    }
    let layer7 = match &mut message.forwarding {
        None => {
            message.forwarding = Some(Forwarding::Layer7(settings));
            true
        }
        Some(Forwarding::Layer7(given)) => {
            fill(given, settings);
            true
        }
        Some(Forwarding::Layer4(_)) => false,
    };
    // At layer 4 nobody sees an AE title.
    let key = if layer7 { key } else { Key::SourceIp };
    message.persistence.get_or_insert_with(|| pb::Persistence {
        key: key.into(),
        timeout: seconds(3600),
        ..Default::default()
    });
    message.health_check.get_or_insert_default().probe.get_or_insert(probe);
    Cow::Owned(message)
}

/// Fills in what is not given.
fn fill(given: &mut pb::Layer7, settings: pb::Layer7) {
    if given.mode() == Mode::Unspecified {
        given.mode = settings.mode;
    }
    given.passive_health = given.passive_health.or(settings.passive_health);
    given.client_timeout = given.client_timeout.or(settings.client_timeout);
    given.tcp = given.tcp.take().or(settings.tcp);
}

#[expect(clippy::unnecessary_wraps, reason = "fields of messages are absent or not")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violation::Violations;
    use crate::wire::{virtual_service, virtual_service_message};

    fn read(message: &pb::VirtualService) -> pb::VirtualService {
        let mut violations = Violations::new();
        let name = "clusters/main/virtualServices/x".parse().unwrap();
        let service = virtual_service(&mut violations, name, message);
        let found = violations.into_found();
        assert!(found.is_empty(), "{found:?}");
        virtual_service_message(&service.unwrap())
    }

    fn by(preset: Preset) -> pb::VirtualService {
        let listener = pb::Listener { address: "10.12.1.100".to_owned(), ..Default::default() };
        let preset = preset.into();
        pb::VirtualService { listener: Some(listener), preset, ..Default::default() }
    }

    #[test]
    fn one_word_makes_a_service_that_is_right() {
        for (preset, ports, mode, key) in [
            (Preset::Dicom, &["104", "11112"][..], Mode::DicomMode, Key::CallingAeTitle),
            (Preset::Hl7, &["2575"], Mode::MllpMode, Key::SourceIp),
            (Preset::HttpsViewer, &["443"], Mode::TcpMode, Key::SourceIp),
        ] {
            let service = read(&by(preset));
            assert_eq!(service.listener.as_ref().unwrap().ports, ports);
            assert_eq!(service.persistence.unwrap().key(), key);
            let Some(Forwarding::Layer7(layer7)) = &service.forwarding else {
                panic!("{service:?}")
            };
            assert_eq!(layer7.mode(), mode);
            assert_eq!(service.preset(), Preset::Unspecified, "it is what it says");
            assert_eq!(read(&service), service);
        }
    }

    #[test]
    fn what_is_given_counts() {
        let mut message = by(Preset::Dicom);
        message.listener.as_mut().unwrap().ports = vec!["4242".to_owned()];
        let hold = seconds(5);
        message.forwarding = Some(Forwarding::Layer7(pb::Layer7 {
            passive_health: Some(PassiveHealth { failures: 1, hold, disabled: false }),
            log_connections: true,
            ..Default::default()
        }));
        message.persistence = Some(pb::Persistence { timeout: hold, ..Default::default() });
        message.health_check = Some(pb::HealthCheck { rise: 7, ..Default::default() });
        let service = read(&message);
        assert_eq!(service.listener.as_ref().unwrap().ports, ["4242"]);
        assert_eq!(service.persistence.as_ref().unwrap().timeout, hold);
        let check = service.health_check.as_ref().unwrap();
        assert!(check.rise == 7 && matches!(check.probe, Some(Probe::DicomEcho(_))), "{check:?}");
        let Some(Forwarding::Layer7(layer7)) = &service.forwarding else { panic!("{service:?}") };
        assert!(layer7.log_connections && layer7.mode() == Mode::DicomMode);
        assert_eq!(layer7.passive_health.unwrap().hold, hold);
        let method = pb::layer4::Method::Dr.into();
        message.forwarding = Some(Forwarding::Layer4(pb::Layer4 { method, ..Default::default() }));
        message.persistence = None;
        assert_eq!(read(&message).persistence.unwrap().key(), Key::SourceIp);
    }
}
