use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::attribute::{Table, Writer};
use super::super::uapi::{dest, stats, svc, top};
use super::super::{decode, encode};
use super::*;

fn keys() -> impl Strategy<Value = ServiceKey> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    let family = select(vec![Family::V4, Family::V6]);
    prop_oneof![
        (protocol, any::<IpAddr>(), any::<u16>()).prop_map(|(protocol, address, port)| {
            ServiceKey::Address { protocol, address, port }
        }),
        (family, 1..=u32::MAX).prop_map(|(family, mark)| ServiceKey::Mark { family, mark }),
    ]
}

prop_compose! {
    fn services()(
        key in keys(),
        scheduler in select(Scheduler::ALL.to_vec()),
        [hash_ports, hash_fallback, one_packet] in any::<[bool; 3]>(),
        persistence in option::of((any::<u32>(), 1..=128_u8)),
    ) -> Service {
        let longest = if key.family() == Family::V4 { 32 } else { 128 };
        let persistence = persistence
            .map(|(timeout, prefix)| Persistence { timeout, prefix: prefix.min(longest) });
        Service { key, scheduler, hash_ports, hash_fallback, one_packet, persistence }
    }
}

fn methods() -> impl Strategy<Value = Method> {
    let checksum = || select(vec![Checksum::None, Checksum::Full, Checksum::Remote]);
    let tunnel = prop_oneof![
        Just(Tunnel::Ipip),
        (any::<u16>(), checksum()).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
        checksum().prop_map(|checksum| Tunnel::Gre { checksum }),
        (3..=u8::MAX).prop_map(Tunnel::Unknown),
    ];
    prop_oneof![
        Just(Method::Masquerade),
        Just(Method::Local),
        Just(Method::DirectRouting),
        Just(Method::Bypass),
        (5..=7_u8).prop_map(Method::Unknown),
        tunnel.prop_map(Method::Tunnel),
    ]
}

prop_compose! {
    fn servers()(
        address in any::<IpAddr>(),
        port in any::<u16>(),
        method in methods(),
        [weight, upper, lower] in any::<[u32; 3]>(),
    ) -> Destination {
        Destination { key: DestinationKey { address, port }, method, weight, upper, lower }
    }
}

fn count(nest: &mut Writer<'_>, kind: u16) {
    nest.nest(kind, |nest| {
        for counter in stats::CONNS..=stats::OUTBPS {
            nest.bytes(counter, &u64::from(counter).to_ne_bytes());
        }
    });
}

/// What the kernel would list of what an operation added.
fn listed(operation: &Operation) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::operation(&mut Writer::new(&mut bytes), operation);
    let table = Table::read(&bytes).unwrap();
    let kind = if let Operation::AddService(_) = operation { top::SERVICE } else { top::DEST };
    let mut nest = table.get(kind).unwrap().to_vec();
    let mut writer = Writer::new(&mut nest);
    if kind == top::SERVICE {
        count(&mut writer, svc::STATS64);
    } else {
        for kind in dest::ACTIVE_CONNS..=dest::PERSIST_CONNS {
            writer.u32(kind, kind.into());
        }
        count(&mut writer, dest::STATS64);
    }
    // One that no kernel knows yet.
    writer.u32(200, 7);
    let mut message = Vec::new();
    Writer::new(&mut message).bytes(kind, &nest);
    message
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_service_comes_back(service in services()) {
        let bytes = listed(&Operation::AddService(service));
        let entry = decode::service(&Table::read(&bytes).unwrap()).unwrap().unwrap();
        prop_assert_eq!(entry.key, service.key);
        prop_assert_eq!(entry.service, Some(service));
        prop_assert_eq!(entry.scheduler, service.scheduler.name());
        prop_assert_eq!(entry.statistics.bytes_out_per_second, 10);
    }

    #[test]
    fn a_server_comes_back(key in keys(), server in servers()) {
        let bytes = listed(&Operation::AddDestination(key, server));
        let entry = decode::destination(&Table::read(&bytes).unwrap()).unwrap().unwrap();
        prop_assert_eq!(entry.destination, server);
        prop_assert_eq!((entry.active, entry.inactive, entry.persistent), (7, 8, 9));
        prop_assert_eq!(entry.statistics.connections, 1);
    }

    #[test]
    fn what_is_cut_short_is_an_error(
        service in services(),
        server in servers(),
        at in any::<prop::sample::Index>(),
    ) {
        for operation in [
            Operation::AddService(service),
            Operation::AddDestination(service.key, server),
        ] {
            let bytes = listed(&operation);
            let cut = &bytes[..at.index(bytes.len())];
            let read = Table::read(cut).and_then(|table| {
                decode::service(&table)?;
                decode::destination(&table)
            });
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Reading::<()>::new(0).take(&bytes, |_| Ok(None));
        let operations = [Operation::DeleteService(tcp("10.0.0.1", 1))];
        let _ = Tally::new(&operations, 0).take(&bytes);
        if let Ok(table) = Table::read(&bytes) {
            let _ = decode::service(&table);
            let _ = decode::destination(&table);
            let _ = decode::daemon(&table);
            let _ = decode::timeouts(&table);
            let _ = decode::info(&table);
        }
    }

    /// The same, but for a few bytes, as the kernel would send.
    #[test]
    fn any_change_is_survived(
        service in services(),
        server in servers(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for operation in [
            Operation::AddService(service),
            Operation::AddDestination(service.key, server),
        ] {
            let mut bytes = listed(&operation);
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Ok(table) = Table::read(&bytes) {
                let _ = decode::service(&table);
                let _ = decode::destination(&table);
            }
        }
    }
}
