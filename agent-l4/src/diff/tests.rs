use std::net::{IpAddr, Ipv4Addr};

use gantry_model::service::Protocol;
use proptest::prelude::*;

use super::*;
use crate::ipvs::{Scheduler, Service};

type Table = BTreeMap<ServiceKey, Programmed>;

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn destination() -> impl Strategy<Value = Destination> {
    let method = prop_oneof![Just(Method::Masquerade), Just(Method::DirectRouting)];
    (1..5_u8, method, 0..4_u32, 0..3_u32).prop_map(|(last, method, weight, upper)| {
        let key = DestinationKey { address: address(last), port: 104 };
        Destination { key, method, weight, upper, lower: 0 }
    })
}

fn table() -> impl Strategy<Value = Table> {
    let destinations = prop::collection::vec(destination(), 0..5);
    let scheduler = prop_oneof![Just(Scheduler::RoundRobin), Just(Scheduler::SourceHash)];
    let service = (1..5_u16, scheduler, destinations).prop_map(|(port, scheduler, list)| {
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: address(100), port };
        let service = Service {
            key,
            scheduler,
            hash_ports: false,
            hash_fallback: false,
            one_packet: false,
            persistence: None,
        };
        let destinations = list.into_iter().map(|one| (one.key, one)).collect();
        (key, Programmed { service, destinations })
    });
    prop::collection::vec(service, 0..5).prop_map(|services| services.into_iter().collect())
}

/// Carries out one operation as the kernel would; nothing is made twice, and nothing that is not
/// there is changed or deleted.
fn carry_out(table: &mut Table, operation: &Operation) {
    match *operation {
        Operation::AddService(service) => {
            let held = Programmed { service, destinations: BTreeMap::new() };
            assert_eq!(table.insert(service.key, held), None);
        }
        Operation::SetService(service) => table.get_mut(&service.key).unwrap().service = service,
        Operation::DeleteService(key) => drop(table.remove(&key).unwrap()),
        Operation::AddDestination(key, one) => {
            let destinations = &mut table.get_mut(&key).unwrap().destinations;
            assert_eq!(destinations.insert(one.key, one), None);
        }
        Operation::SetDestination(key, one) => {
            *table.get_mut(&key).unwrap().destinations.get_mut(&one.key).unwrap() = one;
        }
        Operation::DeleteDestination(key, at) => {
            table.get_mut(&key).unwrap().destinations.remove(&at).unwrap();
        }
    }
}

fn steps(have: &Table, want: &Table) -> Steps {
    let mut steps = Steps::default();
    let keys: std::collections::BTreeSet<_> = have.keys().chain(want.keys()).collect();
    keys.into_iter().for_each(|key| steps.lead(*key, have.get(key), want.get(key)));
    steps
}

fn takes_clients(held: &Programmed) -> bool {
    held.destinations.values().any(|one| one.weight > 0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// The steps lead from any state to any other, and to nowhere once they are done.
    #[test]
    fn steps_lead_to_what_is_wanted(have in table(), want in table()) {
        let mut now = have.clone();
        let found = steps(&have, &want);
        found.build.iter().chain(&found.clear).for_each(|step| carry_out(&mut now, step));
        prop_assert_eq!(&now, &want);
        prop_assert!(steps(&now, &want).is_empty());
    }

    /// A service that takes clients before and after takes them at every moment between.
    #[test]
    fn no_service_is_ever_without_its_servers(have in table(), want in table()) {
        let serving = |key: &&ServiceKey| {
            have.get(key).is_some_and(takes_clients) && want.get(key).is_some_and(takes_clients)
        };
        let serving: Vec<_> = want.keys().filter(serving).copied().collect();
        let mut now = have.clone();
        let found = steps(&have, &want);
        for step in found.build.iter().chain(&found.clear) {
            carry_out(&mut now, step);
            for key in &serving {
                prop_assert!(takes_clients(&now[key]), "{:?} after {:?}", now[key], step);
            }
        }
    }

    /// What stays is never deleted and made again: it would lose its connections.
    #[test]
    fn what_stays_is_edited(have in table(), want in table()) {
        for step in &steps(&have, &want).clear {
            match step {
                Operation::DeleteService(key) => prop_assert!(!want.contains_key(key)),
                Operation::DeleteDestination(key, at) => {
                    prop_assert!(!want[key].destinations.contains_key(at));
                }
                other => prop_assert!(false, "{other:?} takes nothing away"),
            }
        }
    }
}

#[test]
fn an_address_of_this_machine_is_as_wanted_whatever_the_kernel_calls_it() {
    let key = DestinationKey { address: address(1), port: 104 };
    let wanted = Destination { key, method: Method::DirectRouting, weight: 1, upper: 0, lower: 0 };
    assert!(same(&Destination { method: Method::Local, ..wanted }, &wanted));
    assert!(!same(&Destination { method: Method::Masquerade, ..wanted }, &wanted));
    assert!(!same(&Destination { method: Method::Local, weight: 2, ..wanted }, &wanted));
}
