//! What is concluded about every real server, for whoever needs to know.
//!
//! The task that checks a server has a seat and records results there. A reader takes
//! [`Board::changes_since`] its last version whenever [`Board::subscribe`] wakes it: it misses no
//! change of conclusion, though it may see only the last of several about one server. Results that
//! confirm a conclusion wake nobody; [`Board::results`] shows them when asked. A change costs the
//! same with ten servers and with twenty thousand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use gantry_model::name::ServerName;
use gantry_model::verdict::{CheckResult, Verdict};
use parking_lot::RwLock;
use tokio::sync::watch;

/// How many names of servers that are gone are remembered for readers that are behind.
const REMEMBERED: usize = 4096;

/// The verdicts, and where each reader left off.
#[derive(Debug)]
pub struct Board {
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

/// What a reader has to learn to be at `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The verdicts are all there are: whatever is not among them is gone.
    pub whole: bool,
    pub verdicts: Vec<Verdict>,
    /// Servers that are no longer checked.
    pub gone: Vec<ServerName>,
    pub version: u64,
}

/// A server's place on the board, held by the one task that checks it.
#[derive(Debug)]
pub(crate) struct Seat {
    board: Arc<Board>,
    server: ServerName,
    ticket: u64,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    entries: HashMap<ServerName, Entry>,
    /// Servers with a result that nobody has taken yet, each once.
    fresh: VecDeque<ServerName>,
    /// Each server at the version of its last change; those without an entry are gone.
    changes: BTreeMap<u64, ServerName>,
    /// The servers that left, by version; one that came back has a verdict again.
    gone: BTreeMap<u64, ServerName>,
    /// Who is older than this has missed a server that is gone.
    forgotten: u64,
    tickets: u64,
}

/// One server: before its first result it has no verdict.
#[derive(Debug, Default)]
struct Entry {
    ticket: u64,
    verdict: Option<Verdict>,
    newest: Option<CheckResult>,
    is_fresh: bool,
    changed: u64,
}

impl Board {
    /// A board with the verdicts from before a restart; each stands until its server's checks have
    /// earned another.
    pub fn new(restored: impl IntoIterator<Item = Verdict>) -> Arc<Self> {
        let mut state = State::default();
        for verdict in restored {
            let entry = Entry { ticket: 0, ..Entry::default() };
            state.entries.insert(verdict.server.clone(), entry);
            state.conclude(verdict);
        }
        let (version, _) = watch::channel(state.version);
        Arc::new(Self { state: RwLock::new(state), version })
    }

    /// Wakes with the newest version after each change of conclusion.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What changed after `version`; everything, for version 0, for a reader far behind and for one
    /// whose version is another board's.
    pub fn changes_since(&self, version: u64) -> Changes {
        let state = self.state.read();
        if version == 0 || version < state.forgotten || version > state.version {
            let verdicts = state.entries.values().filter_map(|entry| entry.verdict.clone());
            return Changes {
                whole: true,
                verdicts: verdicts.collect(),
                gone: Vec::new(),
                version: state.version,
            };
        }
        let after = version.saturating_add(1)..;
        let verdicts = state.changes.range(after.clone());
        let verdicts = verdicts.filter_map(|(_, server)| state.entries[server].verdict.clone());
        let gone = state.gone.range(after).map(|(_, server)| server);
        let gone = gone.filter(|server| !state.is_judged(server)).cloned();
        Changes {
            whole: false,
            verdicts: verdicts.collect(),
            gone: gone.collect(),
            version: state.version,
        }
    }

    /// What stands for servers checked since they were given here last, with their newest result,
    /// also where that did not change the conclusion; those that wait longest first.
    pub fn take_results(&self, most: usize) -> Vec<Verdict> {
        let mut state = self.state.write();
        let count = most.min(state.fresh.len());
        let servers: Vec<_> = state.fresh.drain(..count).collect();
        let taken = servers.iter().filter_map(|server| {
            let entry = state.entries.get_mut(server)?;
            entry.is_fresh = false;
            let last = entry.newest.clone()?;
            Some(Verdict { last, ..entry.verdict.clone()? })
        });
        taken.collect()
    }

    /// The verdict that stands for `server`.
    pub fn verdict(&self, server: &ServerName) -> Option<Verdict> {
        self.state.read().entries.get(server)?.verdict.clone()
    }

    /// Takes a server off the board; results of checks still under way are ignored.
    pub fn forget(&self, server: &ServerName) {
        let version = {
            let mut state = self.state.write();
            state.forget(server);
            state.version
        };
        self.announce(version);
    }

    /// Makes one task the only one that may record results for `server`.
    pub(crate) fn seat(self: &Arc<Self>, server: ServerName) -> Seat {
        let mut state = self.state.write();
        state.tickets += 1;
        let ticket = state.tickets;
        let entry = state.entries.entry(server.clone());
        let empty = Entry { ticket, ..Entry::default() };
        entry.or_insert(empty).ticket = ticket;
        Seat { board: Arc::clone(self), server, ticket }
    }

    fn announce(&self, version: u64) {
        self.version.send_if_modified(|announced| {
            let newer = version > *announced;
            *announced = version.max(*announced);
            newer
        });
    }
}

impl Seat {
    pub(crate) fn server(&self) -> &ServerName {
        &self.server
    }

    /// What stands for this server.
    pub(crate) fn opinion(&self) -> Option<bool> {
        self.board.verdict(&self.server).map(|verdict| verdict.healthy)
    }

    /// Notes a result, and what is now thought of the server.
    pub(crate) fn record(&self, healthy: bool, result: CheckResult) {
        let version = {
            let mut state = self.board.state.write();
            state.record(self, healthy, result);
            state.version
        };
        self.board.announce(version);
    }
}

impl State {
    fn record(&mut self, seat: &Seat, healthy: bool, result: CheckResult) {
        let Some(entry) = self.entries.get_mut(&seat.server) else { return };
        if entry.ticket != seat.ticket {
            return;
        }
        entry.newest = Some(result.clone());
        if !std::mem::replace(&mut entry.is_fresh, true) {
            self.fresh.push_back(seat.server.clone());
        }
        match &mut entry.verdict {
            Some(verdict) if verdict.healthy == healthy => {
                if result.healthy == healthy {
                    verdict.last = result;
                }
            }
            _ => {
                let (server, since) = (seat.server.clone(), result.at);
                self.conclude(Verdict { server, healthy, since, last: result });
            }
        }
    }

    fn is_judged(&self, server: &ServerName) -> bool {
        self.entries.get(server).is_some_and(|entry| entry.verdict.is_some())
    }

    /// Puts a verdict in place of the one that stood.
    fn conclude(&mut self, verdict: Verdict) {
        let Some(entry) = self.entries.get_mut(&verdict.server) else { return };
        self.version += 1;
        self.changes.remove(&entry.changed);
        self.changes.insert(self.version, verdict.server.clone());
        entry.changed = self.version;
        entry.verdict = Some(verdict);
    }

    fn forget(&mut self, server: &ServerName) {
        let Some(entry) = self.entries.remove(server) else { return };
        if entry.verdict.is_none() {
            return;
        }
        self.version += 1;
        self.changes.remove(&entry.changed);
        self.gone.insert(self.version, server.clone());
        while self.gone.len() > REMEMBERED {
            self.forgotten = self.gone.pop_first().map_or(self.forgotten, |(version, _)| version);
        }
    }
}

#[cfg(test)]
mod tests;
