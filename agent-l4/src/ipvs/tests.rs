use std::net::IpAddr;

use gantry_model::service::Protocol;
use rustix::io::Errno;

use super::batch::{Tally, pack};
use super::message::{self, Envelope, Messages};
use super::reading::Reading;
use super::socket::Limits;
use super::*;

mod bytes;
mod captured;
mod properties;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: ip(address), port }
}

fn udp(address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Udp, address: ip(address), port }
}

fn service(key: ServiceKey, scheduler: Scheduler) -> Service {
    Service {
        key,
        scheduler,
        hash_ports: false,
        hash_fallback: false,
        one_packet: false,
        persistence: None,
    }
}

fn server(address: &str, port: u16, method: Method) -> Destination {
    let key = DestinationKey { address: ip(address), port };
    Destination { key, method, weight: 1, upper: 0, lower: 0 }
}

#[test]
fn keys_read_well() {
    assert_eq!(tcp("10.0.0.1", 104).to_string(), "tcp 10.0.0.1:104");
    assert_eq!(udp("2001:db8::1", 0).to_string(), "udp [2001:db8::1]:0");
    let mark = ServiceKey::Mark { family: Family::V4, mark: 0x4700_0001 };
    assert_eq!(mark.to_string(), "mark 0x47000001 (IPv4)");
    assert_eq!(server("::1", 80, Method::Local).key.to_string(), "[::1]:80");
}

#[test]
fn schedulers_have_names() {
    for scheduler in Scheduler::ALL {
        assert_eq!(Scheduler::from_name(scheduler.name()), Some(scheduler));
    }
    assert_eq!(Scheduler::from_name("none"), None);
    assert_eq!(Scheduler::from_name("lblc"), None);
}

#[test]
fn refusals_are_explained() {
    let key = tcp("10.0.0.1", 104);
    let add = Operation::AddService(service(key, Scheduler::MaglevHash));
    let set = Operation::SetDestination(key, server("10.1.0.1", 104, Method::Masquerade));
    assert_eq!(add.refusal(Errno::NOENT), "the kernel has no such scheduler");
    assert_eq!(add.refusal(Errno::EXIST), "the service exists already");
    assert_eq!(set.refusal(Errno::NOENT), "no such server");
    assert_eq!(set.refusal(Errno::SRCH), "no such service");
    assert_eq!(set.refusal(Errno::PERM), "IPVS needs CAP_NET_ADMIN");
    assert!(set.refusal(Errno::INVAL).starts_with("Invalid argument"));
}
