//! What keeps this appliance from connecting to a real server, and is not the server's fault.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use gantry_model::name::ServiceName;
use parking_lot::Mutex;
use rustix::io::Errno;
use tracing::warn;

use crate::socket;

/// The same thing is told once in this time, however often it happens.
const QUIET: Duration = Duration::from_secs(10);

/// When the log was last told that a service has no good source address.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    /// Tells the log of a connection that could not be made from `source`.
    pub(crate) fn tell(
        &self,
        service: &ServiceName,
        source: Option<IpAddr>,
        error: Errno,
        now: Instant,
    ) {
        let Some(source_address) = source else { return };
        if error != Errno::ADDRNOTAVAIL || !self.is_due(now) {
            return;
        }
        if socket::is_own(source_address) == Ok(false) {
            warn!(
                %service, %source_address,
                "this appliance lacks layer7.source_address and cannot connect from it: add the \
                 address to an interface, or change the field"
            );
        } else {
            warn!(
                %service, %source_address,
                "no port of layer7.source_address is left for a real server: widen \
                 net.ipv4.ip_local_port_range, or spread the servers over more addresses"
            );
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock();
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= QUIET);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use gantry_runtime::clock;

    use super::*;

    #[test]
    fn the_log_is_told_once_in_a_while() {
        let (trouble, begin) = (Trouble::default(), clock::monotonic());
        let told = [0, 1, 9_999, 10_000, 10_001, 20_000]
            .map(|after| trouble.is_due(begin + Duration::from_millis(after)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
