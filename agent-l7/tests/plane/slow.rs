//! Real servers that come back, and begin slowly.
//!
//! A slow start of ten days has hardly moved when a test is over, and one of a millisecond is over at
//! once.

use std::time::Duration;

use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{Algorithm, Persistence, PersistenceKey, Strategy, VirtualService};

use crate::support::{Bed, greeter, layer7, server};

const DAYS: Duration = Duration::from_secs(10 * 24 * 3600);
const MOMENT: Duration = Duration::from_millis(1);

fn slow(bed: &Bed, algorithm: Algorithm, slow_start: Duration) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).algorithm = algorithm;
    layer7(&mut service).slow_start = Some(slow_start);
    service
}

fn two() -> [RealServer; 2] {
    [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)))
}

/// How many of 22 connections, open at once, come to a and to b.
fn shares(bed: &Bed) -> (usize, usize) {
    let open: Vec<_> = (0..22).map(|_| bed.visit(104)).collect();
    let of_a = open.iter().filter(|(name, _)| *name == 'a').count();
    (of_a, open.len() - of_a)
}

/// The connections of the round before have ended.
fn rest(bed: &Bed) {
    crate::support::until("nobody is there", || bed.sample("pacs").active == 0);
}

#[test]
fn one_that_is_healthy_again_begins_with_a_tenth() {
    for algorithm in [Algorithm::WeightedLeastConnection, Algorithm::WeightedRoundRobin] {
        let mut bed = Bed::new();
        let servers = two();
        bed.put(&slow(&bed, algorithm, DAYS), &servers);
        assert_eq!(shares(&bed), (11, 11), "servers of a new service begin with all");
        bed.verdict("pacs", "b", Some(true));
        bed.verdict("pacs", "a", Some(true));
        rest(&bed);
        assert_eq!(shares(&bed), (11, 11), "they were never ill");
        bed.verdict("pacs", "b", Some(false));
        bed.verdict("pacs", "b", Some(true));
        rest(&bed);
        assert_eq!(shares(&bed), (20, 2), "{algorithm:?}");
        bed.put(&slow(&bed, algorithm, MOMENT), &servers);
        rest(&bed);
        // By round robin b first has the turns that it let pass.
        let (of_a, of_b) = shares(&bed);
        assert!(of_a.abs_diff(of_b) <= 10, "{algorithm:?}: {of_a} and {of_b}");
        rest(&bed);
        assert_eq!(shares(&bed), (11, 11), "{algorithm:?}: it is over");
    }
}

#[test]
fn one_that_is_online_again_or_new_begins_with_a_tenth() {
    let mut bed = Bed::new();
    let service = slow(&bed, Algorithm::WeightedLeastConnection, DAYS);
    let mut servers = two();
    bed.put(&service, &servers);
    for away in [AdminState::Drain { halt_at: None }, AdminState::Halt] {
        servers[1].admin_state = away;
        bed.put(&service, &servers);
        servers[1].admin_state = AdminState::Online;
        bed.put(&service, &servers);
        rest(&bed);
        assert_eq!(shares(&bed), (20, 2), "{away:?}");
    }
    bed.put(&service, &servers[..1]);
    bed.put(&service, &servers);
    rest(&bed);
    assert_eq!(shares(&bed), (20, 2));
    bed.put(&service, &[]);
    bed.put(&service, &servers);
    rest(&bed);
    assert_eq!(shares(&bed), (11, 11), "there was nobody to begin behind");
}

#[test]
fn failover_and_homes_do_not_wait_for_it() {
    let mut bed = Bed::new();
    let mut service = slow(&bed, Algorithm::WeightedRoundRobin, DAYS);
    let timeout = Duration::from_secs(3600);
    service.persistence =
        Some(Persistence { key: PersistenceKey::SourceIp, timeout, prefix: None });
    let mut servers = two();
    bed.put(&service, &servers[..1]);
    let clients = [1, 2, 3, 4].map(|last| [127, 0, 1, last]);
    assert!(clients.iter().all(|client| bed.visit_from(*client).0 == 'a'));
    bed.put(&service, &servers);
    for state in [AdminState::Drain { halt_at: None }, AdminState::Online] {
        servers[0].admin_state = state;
        bed.put(&service, &servers);
    }
    assert!(clients.iter().all(|client| bed.visit_from(*client).0 == 'a'), "a is their home");

    (service.strategy, service.persistence) = (Strategy::Failover, None);
    bed.put(&service, &servers);
    bed.verdict("pacs", "a", Some(false));
    assert_eq!(bed.visit(104).0, 'b');
    bed.verdict("pacs", "a", Some(true));
    assert!((0..5).all(|_| bed.visit(104).0 == 'a'));
}
