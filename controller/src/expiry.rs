//! Watches the certificates that virtual services show: an event 30, 7 and 1 days before one ends, and
//! when it has.
//!
//! What was said already is read off the event log: an event of this kind that is younger than the
//! certificate says how far it was then. So a restart says nothing twice, and nothing is forgotten.

use std::time::Duration;

use gantry_model::name::CertificateName;
use gantry_runtime::{clock, rpc};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::state::{Certificate, State};
use crate::store::{NewEvent, Severity, Store, StoreError};

/// What the events are called.
pub const EXPIRING: &str = "CERTIFICATE_EXPIRING";
pub const EXPIRED: &str = "CERTIFICATE_EXPIRED";

/// How near the end of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Far,
    Month,
    Week,
    Day,
    Over,
}

/// The stages that there is something to say of, and how long before the end they begin.
const STAGES: [(Stage, SignedDuration); 4] = [
    (Stage::Month, SignedDuration::from_hours(30 * 24)),
    (Stage::Week, SignedDuration::from_hours(7 * 24)),
    (Stage::Day, SignedDuration::from_hours(24)),
    (Stage::Over, SignedDuration::ZERO),
];

/// How often to look: the clock may be set, and a certificate replaced.
const LOOK: Duration = Duration::from_secs(600);

/// Looks from time to time, and whenever the configuration changes.
pub async fn watch(store: Store, stop: CancellationToken) {
    let mut changes = store.watch();
    let forever = async {
        loop {
            changes.borrow_and_update();
            if let Err(failure) = look(&store, clock::wall()).await {
                error!(why = rpc::causes(&failure), "certificates were not looked at");
            }
            // Both arms are cancel safe: one sleeps, the other by its documentation.
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _changed = changes.changed() => {}
            }
        }
    };
    // Cancel safe: what is recorded is recorded to its end.
    let _stopped = stop.run_until_cancelled(forever).await;
}

/// Says what has not been said of certificates that end soon.
async fn look(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let state = store.state();
    let mut news = Vec::new();
    for certificate in state.certificates() {
        let stage = stage(certificate.facts.expire_time, now);
        if stage > Stage::Far && stage > said(store, certificate).await? {
            news.push(event(&state, certificate, stage));
        }
    }
    if news.is_empty() {
        return Ok(());
    }
    for event in &news {
        warn!(certificate = event.subject, "{}", event.message);
    }
    store.record("controller".to_owned(), news).await
}

/// The stage that the log has told of.
async fn said(store: &Store, certificate: &Certificate) -> Result<Stage, StoreError> {
    let last = store.last_event(&certificate.name.to_string(), [EXPIRING, EXPIRED]).await?;
    let last = last.filter(|time| *time >= certificate.update_time);
    Ok(last.map_or(Stage::Far, |time| stage(certificate.facts.expire_time, time)))
}

fn stage(end: Timestamp, now: Timestamp) -> Stage {
    let left = end.duration_since(now);
    let begun = STAGES.iter().rev().find(|(_, before)| left <= *before);
    begun.map_or(Stage::Far, |(stage, _)| *stage)
}

fn event(state: &State, certificate: &Certificate, stage: Stage) -> NewEvent {
    let end = certificate.facts.expire_time;
    let users = users(state, &certificate.name);
    let severity = match stage {
        _ if users.is_empty() => Severity::Info,
        Stage::Far | Stage::Month | Stage::Week => Severity::Warning,
        Stage::Day | Stage::Over => Severity::Critical,
    };
    let (kind, what) = match stage {
        Stage::Over => (EXPIRED, format!("ended at {end}")),
        _ => (EXPIRING, format!("ends at {end}")),
    };
    let way = "import its successor under the same name, and it is shown at once";
    let message = match users.as_str() {
        "" => format!("it {what}; no virtual service uses it"),
        users => format!("it {what} and is used by {users}: {way}"),
    };
    let subject = certificate.name.to_string();
    NewEvent { time: None, severity, kind: kind.into(), subject, message }
}

/// Who uses it, in words.
fn users(state: &State, name: &CertificateName) -> String {
    const MOST: usize = 3;
    let all: Vec<_> = state.users(name).map(ToString::to_string).collect();
    match all.len().saturating_sub(MOST) {
        0 => all.join(", "),
        more => format!("{} and {more} more", all[..MOST].join(", ")),
    }
}

#[cfg(test)]
mod tests;
