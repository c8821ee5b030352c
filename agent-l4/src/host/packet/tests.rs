use proptest::prelude::*;

use super::frame::{Operation, advertisement, announcement, probe};
use super::*;

const HARDWARE: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x07];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 12, 1, 100);

/// The bytes of a frame that is written as tcpdump shows it.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

#[test]
fn arp_frames_are_known_good_bytes() {
    let padding = "0000 0000 0000 0000 0000 0000 0000 0000 0000";
    for (frame, known) in [
        (
            announcement(Operation::Request, HARDWARE, ADDRESS),
            "ffff ffff ffff 0200 5e10 0007 0806 0001 0800 0604 0001
             0200 5e10 0007 0a0c 0164 0000 0000 0000 0a0c 0164",
        ),
        (
            announcement(Operation::Reply, HARDWARE, ADDRESS),
            "ffff ffff ffff 0200 5e10 0007 0806 0001 0800 0604 0002
             0200 5e10 0007 0a0c 0164 0200 5e10 0007 0a0c 0164",
        ),
        (
            probe(HARDWARE, ADDRESS),
            "ffff ffff ffff 0200 5e10 0007 0806 0001 0800 0604 0001
             0200 5e10 0007 0000 0000 0000 0000 0000 0a0c 0164",
        ),
    ] {
        assert_eq!(frame, bytes(&format!("{known}{padding}")));
    }
}

#[test]
fn an_advertisement_is_known_good_bytes() {
    let address = "2001:db8:12::100".parse().unwrap();
    let known = "3333 0000 0001 0200 5e10 0007 86dd 6000 0000 0020 3aff
                 2001 0db8 0012 0000 0000 0000 0000 0100
                 ff02 0000 0000 0000 0000 0000 0000 0001
                 8800 98f2 2000 0000 2001 0db8 0012 0000 0000 0000 0000 0100
                 0201 0200 5e10 0007";
    assert_eq!(advertisement(HARDWARE, address), bytes(known));
}

#[test]
fn requests_and_replies_claim_but_probes_do_not() {
    let claim = |frame: &[u8]| Arp::parse(&frame[14..]).unwrap().claim();
    for operation in [Operation::Request, Operation::Reply] {
        let frame = announcement(operation, HARDWARE, ADDRESS);
        assert_eq!(claim(&frame), Some((ADDRESS, HARDWARE)));
    }
    assert_eq!(claim(&probe(HARDWARE, ADDRESS)), None);
}

#[test]
fn what_is_no_arp_for_ipv4_on_ethernet_is_left_out() {
    let whole = &announcement(Operation::Request, HARDWARE, ADDRESS)[14..];
    assert!(Arp::parse(whole).is_some());
    assert!(Arp::parse(&whole[..27]).is_none(), "cut short");
    for at in 0..6 {
        let mut other = whole.to_vec();
        other[at] ^= 1;
        assert!(Arp::parse(&other).is_none(), "byte {at} is another");
    }
    // RARP and its kin claim nothing.
    let mut reverse = whole.to_vec();
    reverse[7] = 3;
    assert_eq!(Arp::parse(&reverse).unwrap().claim(), None);
}

proptest! {
    #[test]
    fn any_bytes_can_be_heard(packet: Vec<u8>) {
        let _ = Arp::parse(&packet).and_then(|arp| arp.claim());
    }

    /// A receiver adds everything up, the checksum included, and must come to all ones (RFC 1071).
    #[test]
    fn checksums_add_up(hardware: [u8; 6], address: [u8; 16]) {
        let frame = advertisement(hardware, address.into());
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &frame[54..]].concat();
        let mut sum = pseudo
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        prop_assert_eq!(sum, 0xffff);
    }
}
