//! What is remembered of the messages of a service: which were acknowledged and how, and which one a server
//! may have or not.
//!
//! Bounded by number and by bytes; what is oldest goes first. It is the memory of one process: where it
//! knows nothing, a message is delivered, as it would be without it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::Server;

use super::Name;
use super::letter::Sender;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<Sender, Entry>,
    /// In the order in which they were made; one that was made anew is here twice.
    order: VecDeque<(u64, Sender)>,
    /// How many were ever made.
    made: u64,
    /// Of acknowledgements that are kept.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// The number of its making.
    number: u64,
    content: u64,
    since: Instant,
    fate: Fate,
}

#[derive(Clone, Debug)]
enum Fate {
    Acknowledged(Arc<[u8]>),
    /// That server may have it.
    InDoubt(Arc<Server>),
}

/// What is known of a message that comes.
#[derive(Debug)]
pub(crate) enum Standing {
    New,
    /// It was acknowledged so.
    Acknowledged(Arc<[u8]>),
    /// That server may have it, and did not say.
    InDoubt(Arc<Server>),
    /// Another one had its control id.
    Reused,
}

const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;

impl Ledger {
    pub(crate) fn standing(&self, name: &Name, window: Duration, now: Instant) -> Standing {
        let Some(entry) = self.entries.get(&name.sender) else { return Standing::New };
        if now.saturating_duration_since(entry.since) > window {
            return Standing::New;
        }
        match &entry.fate {
            _ if entry.content != name.content => Standing::Reused,
            Fate::Acknowledged(answer) => Standing::Acknowledged(Arc::clone(answer)),
            Fate::InDoubt(server) => Standing::InDoubt(Arc::clone(server)),
        }
    }

    pub(crate) fn acknowledge(&mut self, name: &Name, answer: &[u8], now: Instant) {
        self.put(name, Fate::Acknowledged(answer.into()), now);
    }

    pub(crate) fn doubt(&mut self, name: &Name, server: &Arc<Server>, now: Instant) {
        self.put(name, Fate::InDoubt(Arc::clone(server)), now);
    }

    fn put(&mut self, name: &Name, fate: Fate, now: Instant) {
        self.bytes += fate.weight();
        self.made += 1;
        let entry = Entry { number: self.made, content: name.content, since: now, fate };
        if let Some(before) = self.entries.insert(name.sender.clone(), entry) {
            self.bytes -= before.fate.weight();
        }
        self.order.push_back((self.made, name.sender.clone()));
        while self.order.len() > MOST || self.bytes > MOST_BYTES {
            let Some((number, sender)) = self.order.pop_front() else { return };
            if self.entries.get(&sender).is_some_and(|entry| entry.number == number)
                && let Some(gone) = self.entries.remove(&sender)
            {
                self.bytes -= gone.fate.weight();
            }
        }
    }
}

impl Fate {
    fn weight(&self) -> usize {
        match self {
            Self::Acknowledged(answer) => answer.len(),
            Self::InDoubt(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_medical::mllp::Frame;
    use gantry_runtime::clock;

    use super::*;
    use crate::mllp::Letter;

    fn name(id: usize, content: &str) -> Name {
        let message = format!("MSH|^~\\&|HIS|SITE|||1||ADT^A01|{id}|P|2.5\r{content}");
        Letter::read(Frame::new(message.as_bytes()).unwrap()).name.unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_repetition_gets_what_was_answered_for_a_while() {
        let mut ledger = Ledger::default();
        let now = clock::monotonic();
        assert!(matches!(ledger.standing(&name(1, "a"), HOUR, now), Standing::New));
        ledger.acknowledge(&name(1, "a"), b"answer", now);
        let later = now + Duration::from_secs(60);
        match ledger.standing(&name(1, "a"), HOUR, later) {
            Standing::Acknowledged(answer) => assert_eq!(&*answer, b"answer"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(ledger.standing(&name(1, "b"), HOUR, later), Standing::Reused));
        assert!(matches!(ledger.standing(&name(2, "a"), HOUR, later), Standing::New));
        let window = Duration::from_secs(59);
        assert!(matches!(ledger.standing(&name(1, "a"), window, later), Standing::New));
        let server = Arc::new(Server::new(
            "clusters/main/virtualServices/x/realServers/a".parse().unwrap(),
            None,
        ));
        ledger.doubt(&name(1, "b"), &server, later);
        match ledger.standing(&name(1, "b"), HOUR, later) {
            Standing::InDoubt(doubtful) => assert!(Arc::ptr_eq(&doubtful, &server)),
            other => panic!("{other:?}"),
        }
        assert_eq!(ledger.bytes, 0, "the answer to the other one is gone");
    }

    #[test]
    fn it_never_grows_beyond_its_bounds_and_forgets_the_oldest() {
        let mut ledger = Ledger::default();
        let begin = clock::monotonic();
        let known = |ledger: &Ledger, id| {
            matches!(ledger.standing(&name(id, ""), HOUR, begin), Standing::Acknowledged(_))
        };
        for id in 0..MOST + 10 {
            let now = begin + Duration::from_micros(u64::try_from(id).unwrap());
            ledger.acknowledge(&name(id, ""), b"answer", now);
        }
        assert_eq!((ledger.entries.len(), ledger.bytes), (MOST, 6 * MOST));
        assert!(!known(&ledger, 9) && known(&ledger, 10));
        let now = begin + Duration::from_secs(1);
        let large = vec![0; MOST_BYTES / 4];
        (0..9).for_each(|id| ledger.acknowledge(&name(id, ""), &large, now));
        assert!(ledger.bytes <= MOST_BYTES && ledger.entries.len() <= 4);
        assert!(known(&ledger, 8) && !known(&ledger, 4));
        let same = |ledger: &mut Ledger| ledger.acknowledge(&name(8, ""), b"answer", now);
        (0..2 * MOST).for_each(|_| same(&mut ledger));
        assert!(ledger.order.len() <= MOST && known(&ledger, 8));
    }
}
