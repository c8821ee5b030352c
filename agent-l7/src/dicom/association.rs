//! An association that a real server has accepted, watched while its bytes pass.
//!
//! Two things come of that: it is known where an A-ABORT may be put in, and how the server does. A server
//! that aborts, leaves, or is out of resources is counted as failing; one that answers otherwise, or
//! ends in good order, is not.

use std::sync::Arc;
use std::time::Instant;

use gantry_medical::dicom::{
    Abort, AbortReason, CommandField, CommandSet, Event, Lost, StatusClass, Watcher,
};
use tracing::debug;

use crate::ending::Ending;
use crate::relay::Side;
use crate::server::Server;

use super::Member;

#[derive(Debug)]
pub(crate) struct Association {
    /// One for what each side says.
    watchers: [Watcher; 2],
    facts: Facts,
}

#[derive(Debug)]
struct Facts {
    member: Member,
    /// None: the fallback.
    server: Option<Arc<Server>>,
    state: State,
    /// The server has failed in it, so that its release proves nothing.
    faulted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Released,
    Aborted(Side),
    /// Ended by the proxy.
    BrokenOff,
    /// What passes is not understood: it is carried as any other bytes are.
    Unknown,
}

impl Association {
    /// What a side is told when the other one is lost (PS3.8, 9.3.8).
    pub(crate) const ABORT: Abort = Abort::Provider(AbortReason::NotSpecified);

    pub(crate) fn new(member: Member, server: Option<Arc<Server>>) -> Self {
        member.accepted();
        let facts = Facts { member, server, state: State::Open, faulted: false };
        Self { watchers: [Watcher::new(), Watcher::new()], facts }
    }

    /// Takes note of what `side` says.
    pub(crate) fn watch(&mut self, side: Side, mut said: &[u8], now: Instant) {
        while let Some(event) = self.watchers[side as usize].read(&mut said) {
            self.facts.note(side, &event, now);
        }
    }

    /// It has been neither released nor aborted.
    pub(crate) fn is_open(&self) -> bool {
        self.facts.state == State::Open
    }

    /// Who aborted it.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self.facts.state {
            State::Aborted(by) => Some(Ending::Aborted(by)),
            State::Open | State::Released | State::BrokenOff | State::Unknown => None,
        }
    }

    /// Whether an A-ABORT behind what `side` was told so far would be understood as one.
    pub(crate) fn may_be_aborted_to(&self, side: Side) -> bool {
        self.watchers[side.other() as usize].is_between_pdus()
    }

    /// It ends before its time; `left`: because this side has left it without a word.
    pub(crate) fn break_off(&mut self, left: Option<Side>, now: Instant) {
        self.facts.end(State::BrokenOff);
        if left == Some(Side::Server) {
            self.facts.fault(now);
        }
    }
}

impl Facts {
    fn note(&mut self, side: Side, event: &Event<'_>, now: Instant) {
        match (event, side) {
            (Event::Aborted(_), _) if self.state == State::Open => {
                self.end(State::Aborted(side));
                if side == Side::Server {
                    self.fault(now);
                }
            }
            (Event::Released, _) if self.state == State::Open => {
                self.state = State::Released;
                if !self.faulted {
                    self.trust();
                }
            }
            (Event::Command { command, .. }, Side::Server) => self.hear(command, now),
            (Event::Lost(why), _) => self.lose(side, why),
            _ => {}
        }
    }

    /// It is over, and was not released.
    fn end(&mut self, state: State) {
        if self.state == State::Open {
            self.state = state;
            self.member.aborted();
        }
    }

    /// The server has answered, or asked for something.
    fn hear(&mut self, command: &CommandSet<'_>, now: Instant) {
        let Some(status) = command.status.filter(|_| command.field.is_response()) else { return };
        let class = status.class();
        if command.field == CommandField::C_STORE_RSP {
            self.member.answered(class);
        }
        match class {
            StatusClass::OutOfResources => self.fault(now),
            class if class.is_failure() => {}
            _ => self.trust(),
        }
    }

    fn lose(&mut self, side: Side, why: &Lost) {
        let (service, calling) = (&self.member.service().name, &self.member.story().calling);
        debug!(%service, %calling, ?side, %why, "an association that is not followed any further");
        if self.state == State::Open {
            self.state = State::Unknown;
        }
    }

    fn fault(&mut self, now: Instant) {
        self.faulted = true;
        if let Some(server) = &self.server {
            server.suspect(&self.member.service().routing().layer7.passive_health, now);
        }
    }

    fn trust(&self) {
        self.server.iter().for_each(|server| server.trust());
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.end(State::BrokenOff);
    }
}
