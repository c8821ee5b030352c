//! One connection of the load, and the exchange that it is at.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gantry_runtime::clock;

use super::super::line::{Line, is_block};
use super::super::wire::{self, Object, ObjectKind};
use super::{Kind, Load};

/// What all connections of a thread use in their turns.
pub(super) struct Tools {
    kind: Kind,
    object: u64,
    pattern: Vec<u8>,
    buffer: Vec<u8>,
}

pub(super) struct Exchange {
    line: Line,
    state: State,
    is_connected: bool,
    /// No exchange has been completed yet.
    pub(super) is_first: bool,
    /// Has a turn coming.
    pub(super) has_turn: bool,
    question: Vec<u8>,
    answer: Vec<u8>,
    began: Instant,
    serial: u64,
    /// Where this connection's objects begin in the pattern.
    start: usize,
}

enum State {
    Asking { sent: usize },
    Sending { left: u64, phase: usize },
    Receiving { left: u64, phase: usize },
    Listening,
    Resting,
}

/// What comes of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    /// Others first, then another turn.
    Again,
    /// The exchange is complete.
    Done,
}

/// What one turn moves at most.
const BUDGET: u64 = 2 << 20;

impl Tools {
    pub(super) fn new(kind: Kind, object: u64) -> Self {
        let buffer = vec![0; wire::WINDOW];
        Self { kind, object, pattern: wire::pattern(), buffer }
    }
}

impl Exchange {
    pub(super) fn open(
        load: &Load,
        from: Option<SocketAddr>,
        serial: u64,
        tools: &mut Tools,
    ) -> io::Result<Self> {
        let began = clock::monotonic();
        let mut exchange = Self {
            line: Line::open(load.to, from, load.tls.as_ref())?,
            state: State::Resting,
            is_connected: false,
            is_first: true,
            has_turn: false,
            question: Vec::new(),
            answer: Vec::new(),
            began,
            serial: serial << 32,
            start: wire::advance(0, serial * 7919),
        };
        exchange.begin(tools);
        exchange.began = began;
        Ok(exchange)
    }

    /// Begins the next exchange.
    pub(super) fn begin(&mut self, tools: &mut Tools) {
        self.answer.clear();
        let object = |kind| Object { kind, length: tools.object, phase: self.start as u64 };
        match tools.kind {
            Kind::Up => self.question = object(ObjectKind::Up).header().to_vec(),
            Kind::Down => self.question = object(ObjectKind::Down).header().to_vec(),
            Kind::Http if self.question.is_empty() => self.question = wire::REQUEST.to_vec(),
            Kind::Http => {}
            Kind::Message | Kind::Connect | Kind::Idle => {
                if self.question.is_empty() {
                    self.question = wire::message();
                }
                self.serial += 1;
                wire::number(&mut self.question, self.serial);
            }
        }
        self.state = State::Asking { sent: 0 };
        self.began = clock::monotonic();
    }

    /// Holds the connection, with as little as can be.
    pub(super) fn rest(&mut self) {
        self.state = State::Resting;
        (self.question, self.answer) = (Vec::new(), Vec::new());
    }

    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    /// How long the exchange has taken so far.
    pub(super) fn took(&self) -> Duration {
        clock::monotonic() - self.began
    }

    /// Goes on as far as the socket lets it.
    pub(super) fn drive(&mut self, tools: &mut Tools, bytes: &AtomicU64) -> io::Result<Next> {
        if !self.is_connected {
            self.is_connected = self.line.is_connected()?;
            if !self.is_connected {
                return Ok(Next::Wait);
            }
        }
        match self.advance(tools, bytes) {
            Err(error) if is_block(&error) => Ok(Next::Wait),
            done => done,
        }
    }

    fn advance(&mut self, tools: &mut Tools, bytes: &AtomicU64) -> io::Result<Next> {
        let mut budget = BUDGET;
        loop {
            match &mut self.state {
                State::Asking { sent } => {
                    while *sent < self.question.len() {
                        *sent += self.line.write(&self.question[*sent..])?;
                    }
                    let (left, phase) = (tools.object, self.start);
                    self.state = match tools.kind {
                        Kind::Up => State::Sending { left, phase },
                        Kind::Down => State::Receiving { left, phase },
                        _ => State::Listening,
                    };
                }
                State::Sending { left, phase } => {
                    if *left == 0 {
                        self.state = State::Listening;
                        continue;
                    }
                    let sent =
                        self.line.write(&tools.pattern[*phase..*phase + wire::window(*left)])?;
                    wire::step(left, phase, sent);
                    budget = budget.saturating_sub(sent as u64);
                }
                State::Receiving { left: 0, .. } => return Ok(Next::Done),
                State::Receiving { left, phase } => {
                    let read = self.line.read(&mut tools.buffer[..wire::window(*left)])?;
                    if read == 0 {
                        return Err(io::Error::other("an object ended early"));
                    }
                    if tools.buffer[..read] != tools.pattern[*phase..*phase + read] {
                        return Err(io::Error::other("an object differs from what was sent"));
                    }
                    wire::step(left, phase, read);
                    bytes.fetch_add(read as u64, Ordering::Relaxed);
                    budget = budget.saturating_sub(read as u64);
                }
                State::Listening => {
                    let mut part = [0; 2048];
                    match self.line.read(&mut part)? {
                        0 => return Err(io::Error::other("closed instead of an answer")),
                        read => self.answer.extend_from_slice(&part[..read]),
                    }
                    if self.is_answered(tools)? {
                        if tools.kind == Kind::Up {
                            bytes.fetch_add(tools.object, Ordering::Relaxed);
                        }
                        return Ok(Next::Done);
                    }
                }
                State::Resting => {
                    return match self.line.read(&mut [0; 16])? {
                        0 => Err(io::Error::other("a held connection was closed")),
                        _ => Err(io::Error::other("a held connection was spoken to")),
                    };
                }
            }
            if budget == 0 {
                return Ok(Next::Again);
            }
        }
    }

    /// Whether the answer is there; an error when it is another one.
    fn is_answered(&self, tools: &Tools) -> io::Result<bool> {
        let wrong = |what: &str| Err(io::Error::other(what.to_owned()));
        match tools.kind {
            Kind::Up | Kind::Down => {
                let phase = wire::advance(self.start, tools.object) as u64;
                let whole = Object { kind: ObjectKind::Whole, length: tools.object, phase };
                match self.answer.len().cmp(&Object::HEADER) {
                    std::cmp::Ordering::Less => Ok(false),
                    _ if self.answer == whole.header() => Ok(true),
                    _ => wrong("an object did not arrive as it was sent"),
                }
            }
            Kind::Http => {
                let Some(head) = wire::head_end(&self.answer) else { return Ok(false) };
                if !self.answer.starts_with(b"HTTP/1.1 200") {
                    return wrong("an answer that is not 200");
                }
                match self.answer.len().cmp(&(head + wire::PAGE)) {
                    std::cmp::Ordering::Less => Ok(false),
                    std::cmp::Ordering::Equal => Ok(true),
                    std::cmp::Ordering::Greater => wrong("more than a page"),
                }
            }
            Kind::Message | Kind::Connect | Kind::Idle => {
                if !self.answer.ends_with(&wire::END) {
                    return Ok(false);
                }
                if !wire::acknowledges(&self.answer, &self.question) {
                    return wrong("an acknowledgement of another message");
                }
                Ok(true)
            }
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}
