use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_ACK;
use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn held(text: &str) -> Held {
    let (address, prefix) = text.split_once('/').unwrap();
    let prefix = prefix.parse().unwrap();
    Held { address: address.parse().unwrap(), prefix, tag: None, valid_for: None }
}

fn interface(index: u32, up: bool, addresses: &[&str]) -> Interface {
    Interface {
        index,
        name: format!("eth{index}"),
        hardware: Some([2, 0, 0, 0, 0, 1]),
        up,
        running: up,
        loopback: false,
        addresses: addresses.iter().map(|text| held(text)).collect(),
    }
}

#[test]
fn the_interface_is_that_of_the_nearest_network() {
    let loopback = Interface { loopback: true, ..interface(1, true, &["127.0.0.1/8", "::1/128"]) };
    let interfaces = [
        loopback,
        interface(2, true, &["10.0.0.1/8", "10.12.1.100/32", "fd12::1/64"]),
        interface(3, true, &["192.0.2.1/24", "10.12.1.1/24"]),
        interface(4, false, &["10.12.1.2/28", "198.51.100.1/24", "fd12::2/120"]),
        interface(5, true, &["192.0.2.2/24", "203.0.113.1/0"]),
    ];
    for (text, index) in [
        ("10.12.1.3", Some(3)),
        // A host address makes no network.
        ("10.12.1.100", Some(3)),
        ("10.13.0.1", Some(2)),
        // It is down, but there is no other.
        ("198.51.100.77", Some(5)),
        ("fd12::3", Some(2)),
        ("192.0.2.9", Some(3)),
        ("127.12.1.100", Some(5)),
        ("::1", None),
        ("fd13::1", None),
    ] {
        let found = interface_for(&interfaces, address(text)).map(|interface| interface.index);
        assert_eq!(found, index, "{text}");
    }
    let down = [interface(4, false, &["198.51.100.1/24"])];
    assert!(interface_for(&down, address("198.51.100.77")).is_some());
    assert_eq!(interface_for(&[], address("10.0.0.1")), None);
}

#[test]
fn an_address_is_asked_for_in_known_good_bytes() {
    let message = |address, lifetime| {
        let message = RouteNetlinkMessage::NewAddress(encode::held(3, address, lifetime));
        socket::request(message, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, 7)
    };
    assert_eq!(
        message(address("10.12.1.100"), Some(Duration::from_millis(1500))),
        bytes(
            "4c000000 1400 0505 07000000 00000000
             02 20 02 00 03000000
             0800 0200 0a0c0164
             0800 0100 0a0c0164
             0800 0800 02020000
             1400 0600 02000000 02000000 00000000 00000000
             0500 0b00 47 000000"
        )
    );
    assert_eq!(
        message(address("fd12::100"), None),
        bytes(
            "64000000 1400 0505 07000000 00000000
             0a 80 02 00 03000000
             1400 0200 fd120000 00000000 00000000 00000100
             1400 0100 fd120000 00000000 00000000 00000100
             0800 0800 02020000
             1400 0600 00000000 ffffffff 00000000 00000000
             0500 0b00 47 000000"
        )
    );
}

#[test]
fn lifetimes_are_whole_seconds_and_never_none() {
    for (lifetime, seconds) in [
        (None, u32::MAX),
        (Some(Duration::ZERO), 1),
        (Some(Duration::from_nanos(1)), 1),
        (Some(Duration::from_secs(1)), 1),
        (Some(Duration::from_millis(1001)), 2),
        (Some(Duration::MAX), u32::MAX - 1),
    ] {
        let request = encode::held(3, address("10.12.1.100"), lifetime);
        let request = socket::request(RouteNetlinkMessage::NewAddress(request), 0, 1);
        let (_, held) = decode::held(&request[16..]).unwrap().unwrap();
        assert_eq!(held.valid_for, Some(seconds).filter(|seconds| *seconds != u32::MAX));
        assert_eq!(held.tag, Some(TAG));
    }
}

#[test]
fn a_link_is_read_whatever_else_it_has() {
    // A veth as Linux 6.1 tells it, cut to a few attributes; the last is one that nobody knows.
    let body = bytes(
        "00 00 0100 03000000 43100100 00000000
         0900 0300 6e656172 00 000000
         0800 0d00 e8030000
         0a00 0100 02005e100007 0000
         0600 fe1f ffff 0000",
    );
    let veth = decode::interface(&body).unwrap();
    let hardware = Some([0x02, 0x00, 0x5e, 0x10, 0x00, 0x07]);
    assert_eq!(
        veth,
        Interface { name: "near".to_owned(), hardware, ..interface(3, true, &[]) },
        "up, broadcast, running, multicast, lower up"
    );
    let flags = |flags: u32| {
        let mut body = body.clone();
        body[8..12].copy_from_slice(&flags.to_le_bytes());
        let Interface { up, running, loopback, .. } = decode::interface(&body).unwrap();
        (up, running, loopback)
    };
    assert_eq!(flags(0x0), (false, false, false));
    assert_eq!(flags(0x1_0049), (true, true, true));
    assert_eq!(flags(0x0_0041), (true, false, false), "the carrier has just gone");
    assert_eq!(flags(0x1_0001), (true, false, false), "not ready yet");
    assert!(matches!(decode::interface(&body[..15]), Err(RouteError::Malformed(_))));
}

#[test]
fn the_own_end_of_a_link_between_two_is_told() {
    let body = bytes(
        "02 20 80 fe 04000000
         0800 0100 0a0c0102
         0800 0200 0a0c0101
         1400 0600 ffffffff ffffffff 00000000 00000000",
    );
    assert_eq!(decode::held(&body).unwrap(), Some((4, held("10.12.1.1/32"))));
}

#[test]
fn a_neighbour_without_an_answer_has_no_hardware() {
    let body = |state: &str| {
        bytes(&format!(
            "02 000000 03000000 {state} 00 01
             0800 0100 0a0c0102
             0a00 0200 02005e100007 0000"
        ))
    };
    let hardware = Some([0x02, 0x00, 0x5e, 0x10, 0x00, 0x07]);
    for (state, told) in [
        ("0200", Some(hardware)),
        ("0400", Some(hardware)),
        ("8000", Some(hardware)),
        ("0100", Some(None)),
        ("2000", Some(None)),
        ("4000", None),
        ("0000", None),
    ] {
        let found = decode::neighbour(&body(state)).unwrap();
        assert_eq!(found.map(|found| found.hardware), told, "{state}");
    }
}

#[test]
fn rules_are_told_if_they_select_by_mark() {
    let body = |attributes: &str| {
        bytes(&format!("02 00 00 00 fe 00 00 01 00000000 0800 0600 4d000000 {attributes}"))
    };
    let rule = |mark, mask| Some(PolicyRule { family: Family::V4, priority: 77, mark, mask });
    for (attributes, told) in [
        ("", None),
        ("0800 0a00 01000047", rule(0x4700_0001, u32::MAX)),
        ("0800 0a00 01000000 0800 1000 ff000000", rule(1, 0xff)),
        ("0800 1000 ff000000", rule(0, 0xff)),
    ] {
        assert_eq!(decode::mark_rule(Family::V4, &body(attributes)).unwrap(), told);
    }
}

#[test]
fn an_answer_ends_with_a_verdict() {
    let done = "14000000 0300 0200 07000000 01000000 00000000";
    let interrupted = "14000000 1000 1200 07000000 01000000 aabbccdd";
    let other = "12000000 1000 0200 06000000 01000000 eeff 0000";
    let refused =
        "24000000 0200 0000 07000000 01000000 efffffff 10000000 1400 0505 07000000 00000000";
    let consent =
        "24000000 0200 0001 07000000 01000000 00000000 10000000 1400 0505 07000000 00000000";
    let body = vec![0xaa, 0xbb, 0xcc, 0xdd];
    for (datagram, bodies, end, interrupted) in [
        (done.to_owned(), vec![], Some(Ok(())), false),
        (consent.to_owned(), vec![], Some(Ok(())), false),
        (refused.to_owned(), vec![], Some(Err(Errno::EXIST)), false),
        (other.to_owned(), vec![], None, false),
        (format!("{other}{interrupted}{done}"), vec![body], Some(Ok(())), true),
    ] {
        let part = socket::part(&bytes(&datagram), 7).unwrap();
        assert_eq!(part, socket::Part { bodies, end, interrupted }, "{datagram}");
    }
    assert!(socket::part(&[1, 2, 3], 7).is_err());
}

proptest! {
    #[test]
    fn any_answer_can_be_read(datagram: Vec<u8>, sequence: u32) {
        let _ = socket::part(&datagram, sequence);
    }

    #[test]
    fn any_body_can_be_read(body: Vec<u8>) {
        let _ = decode::interface(&body);
        let _ = decode::is_local(&body);
    }

    #[test]
    fn an_address_is_in_its_own_network_unless_it_is_a_host(bits: u128, prefix in 0_u8..=128) {
        let held = Held { address: Ipv6Addr::from(bits).into(), prefix, tag: None, valid_for: None };
        prop_assert_eq!(held.is_in_network_of(held.address), prefix < 128);
        if prefix > 0 {
            let beyond = Ipv6Addr::from(bits ^ (1 << (128 - prefix)));
            prop_assert!(!held.is_in_network_of(beyond.into()));
        }
        prop_assert!(!held.is_in_network_of(Ipv4Addr::LOCALHOST.into()));
    }
}
