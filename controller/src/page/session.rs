//! Who is logged in. Sessions live in memory: a controller that starts again asks anew.
//!
//! A session is known by a random token that only its cookie holds; kept is the token's hash. The
//! time comes in as a value.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// A session ends when its user did nothing for so long.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
/// A session ends after this long in any case.
pub(super) const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// More than that are not kept: the one that was idle longest makes room.
const MOST: usize = 256;

/// The hash of a session's token.
pub(super) type Key = [u8; 32];

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<Key, Session>>,
}

/// What is known of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The last part of `users/{user}`.
    pub(super) user: String,
    /// When the password was set that it was opened with: another one ends it.
    pub(super) password_time: Timestamp,
    /// Stands in every form.
    pub(super) form_token: String,
    begun: Instant,
    used: Instant,
    /// Said on the next page, once.
    notice: Option<String>,
}

impl Sessions {
    /// Opens a session; gives its token, for the cookie.
    pub(super) fn open(&self, user: &str, password_time: Timestamp, now: Instant) -> String {
        let token = random();
        let session = Session {
            user: user.to_owned(),
            password_time,
            form_token: random(),
            begun: now,
            used: now,
            notice: None,
        };
        let mut all = self.all.lock();
        all.retain(|_, session| session.is_alive(now));
        if all.len() >= MOST {
            let oldest = all.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        all.insert(key(&token), session);
        token
    }

    /// The session, if it is alive.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Session> {
        let mut all = self.all.lock();
        let session = all.get(key)?;
        if session.is_alive(now) {
            return Some(session.clone());
        }
        all.remove(key);
        None
    }

    /// Its user did something.
    pub(super) fn touch(&self, key: &Key, now: Instant) {
        if let Some(session) = self.all.lock().get_mut(key).filter(|session| session.is_alive(now))
        {
            session.used = now;
        }
    }

    pub(super) fn close(&self, key: &Key) {
        self.all.lock().remove(key);
    }

    /// Ends every session of a user.
    pub(super) fn close_all(&self, user: &str) {
        self.all.lock().retain(|_, session| session.user != user);
    }

    /// Keeps a sentence for the next page.
    pub(super) fn leave_notice(&self, key: &Key, notice: String) {
        if let Some(session) = self.all.lock().get_mut(key) {
            session.notice = Some(notice);
        }
    }

    pub(super) fn take_notice(&self, key: &Key) -> Option<String> {
        self.all.lock().get_mut(key)?.notice.take()
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < IDLE
            && now.saturating_duration_since(self.begun) < LONGEST
    }
}

/// What is kept of a token.
pub(super) fn key(token: &str) -> Key {
    Sha256::digest(token).into()
}

/// 256 random bits, as they can stand in a cookie or form.
pub(super) fn random() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether both are the same, in a time that does not tell where they differ.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    // What differs is compared as a hash: it cannot be approached step by step.
    !one.is_empty() && key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use gantry_runtime::clock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn open(sessions: &Sessions, now: Instant) -> Key {
        key(&sessions.open("admin", Timestamp::UNIX_EPOCH, now))
    }

    #[test]
    fn a_session_ends_after_half_an_hour_of_silence() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let session = open(&sessions, now);
        assert!(sessions.find(&session, now + 29 * MINUTE).is_some());
        sessions.touch(&session, now + 29 * MINUTE);
        assert!(sessions.find(&session, now + 58 * MINUTE).is_some(), "it was used meanwhile");
        assert!(sessions.find(&session, now + 59 * MINUTE).is_none());
        assert!(sessions.find(&session, now).is_none(), "what has ended does not come back");
    }

    #[test]
    fn looking_alone_does_not_keep_a_session() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let session = open(&sessions, now);
        for minute in 0..30 {
            assert!(sessions.find(&session, now + minute * MINUTE).is_some());
        }
        assert!(sessions.find(&session, now + 30 * MINUTE).is_none());
    }

    #[test]
    fn a_session_ends_after_twelve_hours_in_any_case() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let session = open(&sessions, now);
        for minute in (0..719).step_by(10) {
            sessions.touch(&session, now + minute * MINUTE);
        }
        assert!(sessions.find(&session, now + 719 * MINUTE).is_some());
        assert!(sessions.find(&session, now + 720 * MINUTE).is_none());
        sessions.touch(&session, now + 720 * MINUTE);
        assert!(sessions.find(&session, now + 720 * MINUTE).is_none());
    }

    #[test]
    fn sessions_are_closed_alone_or_all_together() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let (one, two, three) = (open(&sessions, now), open(&sessions, now), open(&sessions, now));
        sessions.close(&one);
        assert!(sessions.find(&one, now).is_none());
        assert!(sessions.find(&two, now).is_some());
        sessions.close_all("admin");
        assert!(sessions.find(&two, now).is_none() && sessions.find(&three, now).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_one_unused_longest_makes_room() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let first = open(&sessions, now);
        let second = open(&sessions, now);
        sessions.touch(&first, now + MINUTE);
        for _ in 0..MOST - 1 {
            open(&sessions, now + MINUTE);
        }
        assert_eq!(sessions.all.lock().len(), MOST);
        assert!(sessions.find(&second, now + MINUTE).is_none());
    }

    #[test]
    fn a_notice_is_said_once_and_tokens_are_not_kept() {
        let (sessions, now) = (Sessions::default(), clock::monotonic());
        let token = sessions.open("admin", Timestamp::UNIX_EPOCH, now);
        sessions.leave_notice(&key(&token), "done".to_owned());
        assert_eq!(sessions.take_notice(&key(&token)).as_deref(), Some("done"));
        assert_eq!(sessions.take_notice(&key(&token)), None);
        assert!(!format!("{sessions:?}").contains(&token));
        assert!(is_same("a", "a") && !is_same("a", "b") && !is_same("", ""));
    }
}
