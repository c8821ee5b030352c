//! The way to the controller: a channel under the newest certificate, without a restart.
//!
//! The agents of an appliance share one identity. Any of them renews it, one at a time by a lock on
//! its folder; all look at the files every so often and connect anew when they changed. A renewal
//! that does not work is tried again, and costs nothing until the certificate expires.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::AgentOptions;
use crate::backoff::Backoff;
use crate::identity::{Identity, IdentityError, Validity};
use crate::{clock, renewal, rpc};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is asked whether the older of two CAs is still to be trusted.
const OVERLAP: Duration = Duration::from_secs(3600);

const NOT_RENEWED: &str =
    "the certificate was not renewed; trying again, and going on with it until it expires";
const UNUSABLE: &str = "the identity found cannot be used; going on with the one held";

/// What streams take the newest channel from.
#[derive(Clone, Debug)]
pub(super) struct Way {
    channel: watch::Receiver<Channel>,
    asked: Arc<Notify>,
}

/// Keeps the identity good, and the way open under it.
pub(super) struct Keeper {
    controller: String,
    dir: PathBuf,
    /// What the newest channel was made with.
    identity: Identity,
    channel: watch::Sender<Channel>,
    asked: Arc<Notify>,
    /// The controller asks for a renewal, whatever the certificate's age.
    wanted: bool,
    /// Since when it is held, as far as this process knows.
    since: Instant,
    /// How far this agent is behind others in renewing, from 0 to 1.
    delay: f64,
    backoff: Backoff,
    next_try: Instant,
    /// What was wrong last, so that the log says it once.
    complaint: String,
}

/// The way under `identity`, and what keeps it.
pub(super) fn open(
    options: &AgentOptions,
    identity: Identity,
) -> Result<(Way, Keeper), rpc::RpcError> {
    let channel = rpc::connect(&options.controller, &identity)?;
    let (channel, newest) = watch::channel(channel);
    let asked = Arc::new(Notify::new());
    let way = Way { channel: newest, asked: Arc::clone(&asked) };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(300));
    let keeper = Keeper {
        controller: options.controller.clone(),
        dir: options.identity.clone(),
        identity,
        channel,
        asked,
        wanted: false,
        since: clock::monotonic(),
        delay: backoff.random_share(),
        backoff,
        next_try: clock::monotonic(),
        complaint: String::new(),
    };
    Ok((way, keeper))
}

impl Way {
    /// One that never changes.
    pub(super) fn fixed(channel: Channel) -> Self {
        Self { channel: watch::channel(channel).1, asked: Arc::default() }
    }

    /// The newest channel; [`Self::moved`] tells of the next.
    pub(super) fn newest(&mut self) -> Channel {
        self.channel.borrow_and_update().clone()
    }

    /// Whether there is a newer one than was taken last.
    pub(super) fn has_moved(&self) -> bool {
        self.channel.has_changed().unwrap_or(false)
    }

    /// Waits until there is a newer one than was taken last. Cancel safe, as `changed` is.
    pub(super) async fn moved(&mut self) {
        if self.channel.changed().await.is_err() {
            // Nobody keeps the way: the process is about to stop.
            std::future::pending::<()>().await;
        }
    }

    /// The controller asks for another certificate.
    pub(super) fn renew(&self) {
        self.asked.notify_one();
    }
}

impl Keeper {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let forever = async {
            loop {
                // Both arms are cancel safe: `notified` keeps its place by tokio's documentation
                // when it is polled first, the other sleeps.
                tokio::select! {
                    biased;
                    () = self.asked.notified() => self.wanted = true,
                    () = tokio::time::sleep(LOOK) => {}
                }
                self.look();
                if self.is_due() && clock::monotonic() >= self.next_try {
                    self.renew().await;
                }
            }
        };
        // Cancel safe: the files are written whole, and the lock goes with the process.
        let _stopped = stop.run_until_cancelled(forever).await;
    }

    fn is_due(&self) -> bool {
        let age = clock::monotonic() - self.since;
        self.wanted || is_due(&self.identity, age, self.delay, clock::wall())
    }

    /// Takes what somebody else has put there.
    fn look(&mut self) {
        match Identity::load(&self.dir) {
            Ok(found) => self.take(found),
            Err(error) => self.complain(UNUSABLE, &rpc::causes(&error)),
        }
    }

    fn take(&mut self, found: Identity) {
        if found == self.identity {
            return;
        }
        if found.name() != self.identity.name() {
            let why = format!("it is for {} now: restart the agents", found.name());
            self.complain(UNUSABLE, &why);
            return;
        }
        // While somebody joins anew, a key and a certificate may not be each other's for a moment.
        match rpc::connect(&self.controller, &found) {
            Ok(channel) => {
                let until = found.validity().map(|validity| validity.until.to_string());
                info!(until, "connecting with a new certificate");
                self.channel.send_replace(channel);
                self.identity = found;
                self.since = clock::monotonic();
                self.wanted = false;
                self.backoff.reset();
                self.complaint.clear();
            }
            Err(error) => self.complain(UNUSABLE, &rpc::causes(&error)),
        }
    }

    async fn renew(&mut self) {
        let _lock = match self.lock() {
            Ok(Some(lock)) => lock,
            // Another agent is at it.
            Ok(None) => return,
            Err(error) => return self.put_off(&rpc::causes(&error)),
        };
        let before = self.identity.clone();
        self.look();
        if self.identity != before {
            return;
        }
        let channel = self.channel.borrow().clone();
        match renewal::renew(channel, &self.dir, &before).await {
            Ok(renewed) => self.take(renewed),
            Err(error) => self.put_off(&rpc::causes(&error)),
        }
    }

    fn lock(&self) -> Result<Option<File>, IdentityError> {
        let failed = |source| IdentityError::Write { path: self.dir.clone(), source };
        let folder = File::open(&self.dir).map_err(failed)?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    fn put_off(&mut self, why: &str) {
        self.next_try = clock::monotonic() + self.backoff.next_wait();
        self.complain(NOT_RENEWED, why);
    }

    fn complain(&mut self, what: &str, why: &str) {
        if self.complaint == why {
            return;
        }
        why.clone_into(&mut self.complaint);
        let until = self.identity.validity().map(|validity| validity.until.to_string());
        let dir = self.dir.display();
        warn!(%dir, until, why, "{what}");
    }
}

/// Whether it is time: because of the certificate's age, or because more than one CA is trusted and
/// the older may have been retired meanwhile.
fn is_due(held: &Identity, age: Duration, delay: f64, now: Timestamp) -> bool {
    let several = held.ca.matches("-----BEGIN CERTIFICATE-----").count() > 1;
    let due = |validity: Validity| validity.renew_time(delay) <= now;
    several && age >= OVERLAP.mul_f64(1.0 + delay / 5.0) || held.validity().is_some_and(due)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::identity::URI_SCHEME;

    #[test]
    fn it_is_time_by_age_or_while_two_cas_are_trusted() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("{URI_SCHEME}clusters/main/appliances/lb1").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 11);
        let certificate = params.self_signed(&key).unwrap().pem();
        let hour = Duration::from_secs(3600);
        for (trusted, age, now, expected) in [
            (1, hour * 2, "2026-03-16T23:59:59Z", false),
            (1, hour * 2, "2026-03-17T00:00:00Z", true),
            (1, Duration::ZERO, "2026-05-01T00:00:00Z", true),
            (2, hour - Duration::from_secs(1), "2026-02-01T00:00:00Z", false),
            (2, hour, "2026-02-01T00:00:00Z", true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let ca = certificate.repeat(trusted);
            Identity::save(dir.path(), &ca, &certificate, &key.serialize_pem()).unwrap();
            let held = Identity::load(dir.path()).unwrap();
            let due = is_due(&held, age, 0.0, now.parse().unwrap());
            assert_eq!(due, expected, "{trusted} {age:?} {now}");
        }
    }
}
