//! How many connections one client may have, and how fast it may make them.
//!
//! A client is an IPv4 address, or an IPv6 network of 64 bits: one host has all the addresses of that. Nobody is
//! counted where there is no limit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::address;
use gantry_model::service::ClientLimits;
use parking_lot::Mutex;

use crate::fading::Fading;
use crate::pick;
use crate::service::Service;

/// The clients of one service.
#[derive(Debug, Default)]
pub(crate) struct Clients([Mutex<Fading<IpAddr, Client>>; SHARDS]);

/// A connection of a client that is counted; it is until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    service: Arc<Service>,
    client: IpAddr,
}

/// Why a client may not have one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    TooMany,
    TooFast,
}

#[derive(Debug)]
struct Client {
    open: u32,
    /// When as many as the rate allows in a second may be made at once.
    rested: Instant,
}

const SHARDS: usize = 16;
/// What may be made at once is what the rate gives in this time.
const BURST: Duration = Duration::from_secs(1);

impl Pass {
    /// Counts one more connection of `client`, if it may have it.
    pub(crate) fn issue(
        service: &Arc<Service>,
        client: IpAddr,
        limits: &ClientLimits,
        now: Instant,
    ) -> Result<Self, Limited> {
        let client = counted(client);
        let mut shard = service.clients().shard(client).lock();
        shard.sweep(|one| one.open == 0 && one.rested <= now);
        shard.entry(&client, || Client { open: 0, rested: now }).admit(limits, now)?;
        Ok(Self { service: Arc::clone(service), client })
    }

    /// Counts a connection that another process has let in.
    pub(crate) fn reissue(service: &Arc<Service>, client: IpAddr, now: Instant) -> Self {
        let client = counted(client);
        let mut shard = service.clients().shard(client).lock();
        shard.entry(&client, || Client { open: 0, rested: now }).open += 1;
        Self { service: Arc::clone(service), client }
    }

    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }
}

impl Clients {
    fn shard(&self, client: IpAddr) -> &Mutex<Fading<IpAddr, Client>> {
        let at = usize::from(pick::hash_address(client).to_be_bytes()[0]) % SHARDS;
        &self.0[at]
    }
}

impl Client {
    /// The generic cell rate algorithm (ITU-T I.371, annex A), with what a second brings as its burst.
    fn admit(&mut self, limits: &ClientLimits, now: Instant) -> Result<(), Limited> {
        if limits.connections.is_some_and(|most| self.open >= most.get()) {
            return Err(Limited::TooMany);
        }
        if let Some(rate) = limits.per_second {
            let next = self.rested.max(now) + BURST / rate.get();
            if next.saturating_duration_since(now) > BURST {
                return Err(Limited::TooFast);
            }
            self.rested = next;
        }
        self.open += 1;
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(client) = self.service.clients().shard(self.client).lock().get_mut(&self.client)
        {
            client.open -= 1;
        }
    }
}

fn counted(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        v6 @ IpAddr::V6(_) => address::network(v6, 64),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(connections: u32, per_second: u32) -> ClientLimits {
        let [connections, per_second] = [connections, per_second].map(NonZeroU32::new);
        ClientLimits { connections, per_second }
    }

    #[test]
    fn a_client_gets_what_its_rate_brings() {
        let start = gantry_runtime::clock::monotonic();
        let mut client = Client { open: 0, rested: start };
        let limits = limits(0, 4);
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut admitted = |now, wanted: usize| {
            (0..wanted).filter(|_| client.admit(&limits, now) == Ok(())).count()
        };
        for (milliseconds, wanted, got) in
            [(0, 10, 4), (249, 1, 0), (250, 2, 1), (800, 9, 2), (5000, 9, 4)]
        {
            assert_eq!(admitted(at(milliseconds), wanted), got, "after {milliseconds} ms");
        }
    }

    #[test]
    fn a_client_has_as_many_as_it_may_have_and_one_more_when_one_ends() {
        let now = gantry_runtime::clock::monotonic();
        let mut client = Client { open: 0, rested: now };
        let limits = limits(2, 0);
        let admit = |client: &mut Client| client.admit(&limits, now);
        assert_eq!([(); 3].map(|()| admit(&mut client)), [Ok(()), Ok(()), Err(Limited::TooMany)]);
        client.open -= 1;
        assert_eq!(admit(&mut client), Ok(()));
    }

    #[test]
    fn a_host_of_ipv6_is_one_client_whatever_address_it_takes() {
        for (client, network) in [
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
        ] {
            assert_eq!(counted(client.parse().unwrap()), network.parse::<IpAddr>().unwrap());
        }
    }
}
