//! How often a password may be tried, by address and in all.
//!
//! Every address has a few attempts, which come back with time. Strangers together have a few
//! more, so that many addresses are worth no more than some. An address from which somebody logged
//! in before, and this machine itself, have only their own limit: an outsider cannot lock the
//! administrator out. The time comes in as a value.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// For one address.
const OWN: Limit = Limit { burst: 5.0, each: Duration::from_secs(12) };
/// For all addresses together that nobody has logged in from.
const STRANGERS: Limit = Limit { burst: 20.0, each: Duration::from_secs(3) };
/// For events of failed attempts.
const EVENTS: Limit = Limit { burst: 10.0, each: Duration::from_secs(30) };
/// Addresses that are remembered of each kind.
const MOST: usize = 4096;

/// So many at once, and one more each time this long.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: f64,
    each: Duration,
}

/// Counts attempts.
#[derive(Debug)]
pub(super) struct Throttle {
    sources: HashMap<IpAddr, Bucket>,
    strangers: Bucket,
    known: HashMap<IpAddr, Instant>,
    events: Bucket,
    /// Failed attempts without an event of their own.
    unsaid: u64,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sources: HashMap::new(),
            strangers: Bucket::full(STRANGERS, now),
            known: HashMap::new(),
            events: Bucket::full(EVENTS, now),
            unsaid: 0,
        }
    }

    /// Takes one attempt, or says how long to wait for one.
    pub(super) fn attempt(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let source = source(from);
        self.make_room(now);
        let own = self.sources.entry(source).or_insert_with(|| Bucket::full(OWN, now));
        let wait = own.wait(OWN, now);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if !self.known.contains_key(&source) && !source.is_loopback() {
            let wait = self.strangers.wait(STRANGERS, now);
            if wait > Duration::ZERO {
                return Err(wait);
            }
            self.strangers.left -= 1.0;
        }
        own.left -= 1.0;
        Ok(())
    }

    /// The attempt was good: the address is known from now on, and nothing is held against it.
    pub(super) fn succeeded(&mut self, from: IpAddr, now: Instant) {
        let source = source(from);
        self.sources.remove(&source);
        if self.known.len() >= MOST
            && let Some(oldest) = self.known.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(source, now);
    }

    /// Whether a failed attempt gets an event, and how many before it got none.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        if self.events.wait(EVENTS, now) > Duration::ZERO {
            self.unsaid += 1;
            return None;
        }
        self.events.left -= 1.0;
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Forgets addresses that have all their attempts again; if that is not enough, any one.
    fn make_room(&mut self, now: Instant) {
        if self.sources.len() < MOST {
            return;
        }
        self.sources.retain(|_, bucket| {
            bucket.fill(OWN, now);
            bucket.left < OWN.burst
        });
        if self.sources.len() >= MOST
            && let Some(any) = self.sources.keys().next().copied()
        {
            self.sources.remove(&any);
        }
    }
}

impl Bucket {
    fn full(limit: Limit, now: Instant) -> Self {
        Self { left: limit.burst, at: now }
    }

    fn fill(&mut self, limit: Limit, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = limit.burst.min(self.left + passed / limit.each.as_secs_f64());
        self.at = now;
    }

    /// How long until there is one.
    fn wait(&mut self, limit: Limit, now: Instant) -> Duration {
        self.fill(limit, now);
        limit.each.mul_f64((1.0 - self.left).max(0.0))
    }
}

/// Who has one IPv6 address has a whole network of them.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use gantry_runtime::clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_five_attempts_and_then_one_every_twelve_seconds() {
        let now = clock::monotonic();
        let mut throttle = Throttle::new(now);
        for _ in 0..5 {
            throttle.attempt(ip("10.0.0.1"), now).unwrap();
        }
        let wait = throttle.attempt(ip("10.0.0.1"), now).unwrap_err();
        assert_eq!(wait.as_secs(), 12);
        throttle.attempt(ip("10.0.0.2"), now).unwrap();
        throttle.attempt(ip("10.0.0.1"), now + 11 * SECOND).unwrap_err();
        throttle.attempt(ip("10.0.0.1"), now + 13 * SECOND).unwrap();
        throttle.attempt(ip("10.0.0.1"), now + 13 * SECOND).unwrap_err();
    }

    #[test]
    fn many_addresses_together_have_few_attempts_and_lock_no_known_one_out() {
        let now = clock::monotonic();
        let mut throttle = Throttle::new(now);
        throttle.attempt(ip("10.0.0.1"), now).unwrap();
        throttle.succeeded(ip("10.0.0.1"), now);
        let strangers = (0..200_u8).map(|last| IpAddr::from([192, 0, 2, last]));
        let let_in = strangers.filter(|ip| throttle.attempt(*ip, now).is_ok()).count();
        assert_eq!(let_in, 19, "with the first one, before it was known");
        throttle.attempt(ip("10.0.0.9"), now).unwrap_err();
        throttle.attempt(ip("10.0.0.1"), now).unwrap();
        throttle.attempt(ip("127.0.0.1"), now).unwrap();
        throttle.attempt(ip("10.0.0.9"), now + 4 * SECOND).unwrap();
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let now = clock::monotonic();
        let mut throttle = Throttle::new(now);
        for last in 0..5_u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, last, 0, 0, last);
            throttle.attempt(address.into(), now).unwrap();
        }
        throttle.attempt(ip("2001:db8::77"), now).unwrap_err();
        throttle.attempt(ip("2001:db8:0:1::77"), now).unwrap();
        assert_eq!(source(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[test]
    fn a_flood_is_told_in_few_events_and_counted() {
        let now = clock::monotonic();
        let mut throttle = Throttle::new(now);
        let told = (0..100).filter(|_| throttle.failed(now).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!(throttle.failed(now + 31 * SECOND), Some(90));
        assert_eq!(throttle.failed(now + 62 * SECOND), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = clock::monotonic();
        let mut throttle = Throttle::new(now);
        for number in 0..4_500_u32 {
            let _ = throttle.attempt(IpAddr::V4(number.into()), now);
            throttle.succeeded(IpAddr::V4((number + 50_000).into()), now);
        }
        assert!(throttle.sources.len() <= MOST && throttle.known.len() <= MOST);
    }
}
