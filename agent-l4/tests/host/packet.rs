use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gantry_agent_l4::host::packet::{Announcer, Claim};
use gantry_agent_l4::host::route::Route;

use crate::space::{FAR, NEAR, Pair, eventually, interface, ip};

const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 12, 1, 100);

/// The hardware address that this namespace has for a neighbour.
fn known(address: impl Into<IpAddr>) -> Option<[u8; 6]> {
    let address = address.into();
    let neighbours = Route::open().unwrap().neighbours().unwrap();
    neighbours.into_iter().find(|neighbour| neighbour.address == address)?.hardware
}

#[test]
fn an_announcement_is_heard_and_believed() {
    let pair = Pair::new();
    let mut far = pair.far.enter(|| {
        ip("neigh replace 10.12.1.100 lladdr 02:00:00:00:00:99 dev far nud stale");
        Announcer::open().unwrap()
    });
    let hardware = pair.near.enter(|| {
        let (near, mut announcer) = (interface(NEAR), Announcer::open().unwrap());
        let hardware = near.hardware.unwrap();
        announcer.gratuitous_arp(near.index, hardware, VIRTUAL).unwrap();
        assert_eq!(announcer.heard().unwrap(), [], "what it says itself it does not hear");
        hardware
    });
    pair.far.enter(|| {
        let claim = Claim { index: interface(FAR).index, address: VIRTUAL, hardware };
        let mut heard = Vec::new();
        eventually("both forms", || {
            heard.extend(far.heard().unwrap());
            (heard.len() >= 2).then_some(())
        });
        assert_eq!(heard, [claim, claim]);
        eventually("belief", || (known(VIRTUAL) == Some(hardware)).then_some(()));
    });
}

#[test]
fn an_unsolicited_advertisement_is_believed() {
    let pair = Pair::new();
    let address: Ipv6Addr = "fd12::100".parse().unwrap();
    pair.far.enter(|| ip("neigh replace fd12::100 lladdr 02:00:00:00:00:99 dev far nud stale"));
    let hardware = pair.near.enter(|| {
        let near = interface(NEAR);
        let announcer = Announcer::open().unwrap();
        announcer.unsolicited_advertisement(near.index, near.hardware.unwrap(), address).unwrap();
        near.hardware
    });
    pair.far.enter(|| eventually("belief", || (known(address) == hardware).then_some(())));
}

#[test]
fn a_probe_finds_who_has_the_address() {
    let pair = Pair::new();
    let taken: Ipv4Addr = "10.12.1.2".parse().unwrap();
    let owner = pair.far.enter(|| interface(FAR).hardware.unwrap());
    pair.near.enter(|| {
        let (near, mut announcer) = (interface(NEAR), Announcer::open().unwrap());
        let hardware = near.hardware.unwrap();
        announcer.probe(near.index, hardware, VIRTUAL).unwrap();
        announcer.probe(near.index, hardware, taken).unwrap();
        let heard = eventually("an answer", || {
            Some(announcer.heard().unwrap()).filter(|heard| !heard.is_empty())
        });
        assert_eq!(heard, [Claim { index: near.index, address: taken, hardware: owner }]);
    });
    pair.far.enter(|| assert_eq!(known(VIRTUAL), None, "a probe teaches nothing"));
}

#[test]
fn an_interface_that_is_gone_is_an_error_and_no_end() {
    Pair::new().near.enter(|| {
        let (near, mut announcer) = (interface(NEAR), Announcer::open().unwrap());
        ip("link delete near");
        let hardware = near.hardware.unwrap();
        let error = announcer.gratuitous_arp(near.index, hardware, VIRTUAL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NXIO.raw_os_error()));
        assert_eq!(announcer.heard().unwrap(), []);
    });
}
