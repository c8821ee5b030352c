//! The choice among a service's real servers for one connection.
//!
//! A pure function over what is known of each server at this moment. It reserves nothing and
//! remembers nothing: the caller takes the slot, and asks again if somebody else was quicker.
//!
//! Source hash is weighted rendezvous hashing rather than a lookup table. A choice looks at every
//! server anyway, so the table would save nothing; and without one, no client but those of the
//! server that comes, goes or changes weight is moved, exactly.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::Duration;

/// How a service spreads its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    LeastConnection,
    RoundRobin,
    SourceHash,
    /// All to the first that works: lowest priority first, then by name.
    Failover,
}

/// What the health checks say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Unknown,
    Healthy,
    Unhealthy,
}

/// One server as it stands. Servers are given in the order of their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) online: bool,
    pub(crate) weight: u16,
    /// How much of its weight it has now, where load is spread: of [`WHOLE`].
    pub(crate) share: u16,
    pub(crate) priority: u16,
    pub(crate) health: Health,
    /// A connection to it failed a moment ago.
    pub(crate) suspect: bool,
    /// This connection has tried it already.
    pub(crate) tried: bool,
    /// It is below its maximum of connections.
    pub(crate) room: bool,
    pub(crate) active: u32,
    /// Its place in the round: grows with every connection, slower with more weight.
    pub(crate) pass: u64,
    /// A hash of its name.
    pub(crate) key: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The server at this place of the field.
    Server(usize),
    /// Every server that would do is at its maximum.
    Wait,
    /// No server would do.
    Nobody,
}

/// The share of a server that has all of its weight.
pub(crate) const WHOLE: u16 = 1000;
/// The share of a server that has just come back, where it has to start slowly.
const FIRST: u16 = WHOLE / 10;

/// What a full round costs a server of weight 1.
const ROUND: u64 = 1 << 20;

/// Chooses for a client with hash `client`; `home` is where persistence wants it.
pub(crate) fn choose(rule: Rule, field: &[Candidate], client: u64, home: Option<usize>) -> Choice {
    if let Some(home) = home.filter(|&at| field[at].keeps_clients()) {
        return if field[home].room { Choice::Server(home) } else { Choice::Wait };
    }
    let sure = field.iter().any(|server| server.in_service() && server.health == Health::Healthy);
    let in_service = |suspect: bool| {
        move |&at: &usize| {
            let server = &field[at];
            let known = !sure || server.health == Health::Healthy;
            server.in_service() && known && server.suspect == suspect
        }
    };
    let best = among(rule, field, client, in_service(false));
    if let Choice::Server(_) = best {
        return best;
    }
    match among(rule, field, client, in_service(true)) {
        Choice::Nobody => best,
        suspect => suspect,
    }
}

/// What taking one connection adds to the pass of a server.
pub(crate) fn stride(server: &Candidate) -> u64 {
    ROUND * u64::from(WHOLE) / server.pull().max(1)
}

/// The share of a server that came back this long ago, if it ever did, where its weight grows for
/// `slow_start`: from a tenth, evenly.
pub(crate) fn share(back_for: Option<Duration>, slow_start: Option<Duration>) -> u16 {
    let (Some(back_for), Some(slow_start)) = (back_for, slow_start) else { return WHOLE };
    if back_for >= slow_start {
        return WHOLE;
    }
    let grown = u128::from(WHOLE - FIRST) * back_for.as_nanos() / slow_start.as_nanos();
    u16::try_from(grown).map_or(WHOLE, |grown| FIRST + grown)
}

/// A hash that is the same on every appliance and in every release: FNV-1a, then the finaliser
/// of SplitMix64, without which the high bits of short keys hardly differ.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// Of an address.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl Candidate {
    /// The weight that counts where load is spread, in thousandths.
    fn pull(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.share)
    }

    /// Takes new clients.
    fn in_service(&self) -> bool {
        self.weight > 0 && self.works()
    }

    /// Keeps the clients it has: weight 0 turns away new ones only.
    pub(crate) fn keeps_clients(&self) -> bool {
        self.works() && !self.suspect
    }

    pub(crate) fn works(&self) -> bool {
        self.online && !self.tried && self.health != Health::Unhealthy
    }
}

fn among(
    rule: Rule,
    field: &[Candidate],
    client: u64,
    eligible: impl Fn(&usize) -> bool,
) -> Choice {
    let eligible = (0..field.len()).filter(eligible);
    let with_room = |at: &usize| field[*at].room;
    match rule {
        Rule::LeastConnection => spread(eligible, with_room, |a, b| {
            load(&field[*a], &field[*b]).then(field[*a].pass.cmp(&field[*b].pass))
        }),
        Rule::RoundRobin => spread(eligible, with_room, |a, b| field[*a].pass.cmp(&field[*b].pass)),
        Rule::SourceHash => only(
            eligible.max_by(|a, b| score(&field[*a], client).total_cmp(&score(&field[*b], client))),
            with_room,
        ),
        Rule::Failover => only(eligible.min_by_key(|at| field[*at].priority), with_room),
    }
}

/// The least by `order` that has room.
fn spread(
    eligible: impl Iterator<Item = usize>,
    room: impl Fn(&usize) -> bool,
    order: impl Fn(&usize, &usize) -> Ordering,
) -> Choice {
    let mut eligible = eligible.peekable();
    if eligible.peek().is_none() {
        return Choice::Nobody;
    }
    eligible.filter(room).min_by(order).map_or(Choice::Wait, Choice::Server)
}

/// The one server that it has to be, even if that means to wait.
fn only(server: Option<usize>, room: impl Fn(&usize) -> bool) -> Choice {
    match server {
        None => Choice::Nobody,
        Some(at) if room(&at) => Choice::Server(at),
        Some(_) => Choice::Wait,
    }
}

/// Compares the load per weight that one more connection would make.
fn load(a: &Candidate, b: &Candidate) -> Ordering {
    let after = |server: &Candidate| u64::from(server.active) + 1;
    (after(a) * b.pull()).cmp(&(after(b) * a.pull()))
}

/// Weighted rendezvous: the highest score takes the client, and a score depends on nothing but
/// the client and the server.
fn score(server: &Candidate, client: u64) -> f64 {
    let draw = ((mix(client ^ server.key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(server.weight) / -draw.ln()
}

#[cfg(test)]
mod tests;
