//! The real controller and the real agent loop on a simulated network, through many faults.
//!
//! Real: store and SQLite, publisher, every gRPC service, HTTP/2, the agents' follower, ledger and
//! report. Simulated: the network, time, and what agents put in force. Two appliances of one cluster
//! and an operator, who writes all the time; links break and stall, processes die and start again,
//! backups come back under a new epoch.
//!
//! By the seed: which fault comes when, what is written, how long messages and back-offs take. Not by
//! the seed: the order of what happens at the same instant (tokio's `select!`), and the events an
//! agent's report leads to, which SQLite writes on a thread of its own. Every call of an operator, the
//! start of a controller and every write of a ledger take no simulated time: the world stands still
//! while the disk works, so a busy machine changes nothing.
//!
//! A seed that fails says how to run it again. `GANTRY_SIM_SEEDS=500` runs more of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod operator;
mod shared;
mod wire;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::AGENTS;
use world::World;

const SEEDS: u64 = 20;
const FAULTS: usize = 14;
/// A stream that fell silent is noticed after 10 s, and opened again after 5 s at most; an agent may
/// have to be told twice, and a hold to be approved of.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn agents_come_to_what_the_controller_says_through_any_faults() {
    let seeds = match number("GANTRY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("GANTRY_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (next, approvals) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let lane = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            approvals.fetch_add(go_through(seed), Ordering::Relaxed);
        }
    };
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..lanes).for_each(|_| drop(scope.spawn(lane))));
    let approvals = approvals.into_inner();
    assert!(approvals > 0 || seeds.end - seeds.start < SEEDS, "nothing was ever held back");
}

/// Gives how many holds were approved of on the way.
fn go_through(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.run_for(Duration::from_secs(2));
    for _ in 0..FAULTS {
        world.next_fault();
    }
    world.heal();
    world.settles_within(SETTLED_WITHIN);
    let approvals = world.approvals();
    world.check_the_end();
    approvals
}

#[test]
fn an_older_controller_is_refused_without_haste_and_the_right_one_obeyed_again() {
    let mut world = World::new(1_000_001);
    world.run_for(Duration::from_secs(5));
    let old = world.backup();
    world.run_for(Duration::from_secs(5));
    let wrong = world.replace(&old, |epoch| epoch + 1);
    world.run_for(Duration::from_secs(10));
    world.settles_within(SETTLED_WITHIN);
    world.stop_writing();
    let right = world.replace(&wrong, |epoch| epoch);
    let before = world.watch_calls();
    world.run_for(Duration::from_secs(60));
    let after = world.watch_calls();
    for agent in AGENTS {
        let calls = after[agent.host] - before[agent.host];
        // Up to 5 s between two attempts, and at least a tenth of that.
        assert!((8..=80).contains(&calls), "{}: {calls} calls in 60 s", agent.host);
    }
    world.replace(&right, |epoch| epoch);
    world.settles_within(Duration::from_secs(15));
    world.check_the_end();
}
