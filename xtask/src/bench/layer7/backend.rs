//! The real server of the benchmark: takes objects and compares them, gives objects, acknowledges
//! messages, answers requests. The first byte says which.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::wire::{self, Object, ObjectKind};

const BACKLOG: i32 = 16_384;
const EVENTS: usize = 512;
/// What one turn of a connection moves at most.
const BUDGET: usize = 2 << 20;
/// What is read at a time of what is no bulk.
const PART: usize = 16 * 1024;
/// The listener's token; connections count up from zero.
const LISTENER: u64 = u64::MAX;

/// Serves at `listen` with so many threads, for ever.
pub(super) fn serve(listen: SocketAddr, threads: usize) -> anyhow::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(net::AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &listen).with_context(|| format!("listening at {listen}"))?;
    net::listen(&socket, BACKLOG)?;
    let socket = Arc::new(socket);
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let socket = Arc::clone(&socket);
            std::thread::spawn(move || Server::new(socket)?.run())
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

struct Server {
    listener: Arc<OwnedFd>,
    poller: OwnedFd,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    tools: Tools,
}

struct Tools {
    pattern: Vec<u8>,
    acknowledgement: Vec<u8>,
    page: Vec<u8>,
    buffer: Vec<u8>,
}

struct Client {
    socket: OwnedFd,
    state: State,
    heard: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    has_turn: bool,
}

enum State {
    Listening,
    Taking { object: Object, left: u64, phase: usize, is_whole: bool },
    Giving { left: u64, phase: usize },
}

/// What comes of a turn.
enum Next {
    Wait,
    Again,
    Close,
}

impl Server {
    fn new(listener: Arc<OwnedFd>) -> anyhow::Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poller, &*listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let tools = Tools {
            pattern: wire::pattern(),
            acknowledgement: wire::acknowledgement(),
            page: wire::page(),
            buffer: vec![0; wire::WINDOW],
        };
        let (clients, free, ready) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Self { listener, poller, clients, free, ready, tools })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Timespec::default();
            let timeout = (!self.ready.is_empty()).then_some(&now);
            epoll::wait(&self.poller, spare_capacity(&mut events), timeout)?;
            for event in events.drain(..) {
                match { event.data }.u64() {
                    LISTENER => self.accept()?,
                    client => self.want_turn(usize::try_from(client)?),
                }
            }
            for _ in 0..self.ready.len() {
                let at = self.ready.pop_front().expect("nothing else takes from it");
                self.turn(at);
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Those that others got, or that have gone, are no matter.
        while let Ok(socket) = net::accept_with(&*self.listener, flags) {
            let at = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.poller, &socket, EventData::new_u64(at as u64), interest)?;
            self.clients[at] = Some(Client::new(socket));
        }
        Ok(())
    }

    fn want_turn(&mut self, at: usize) {
        if let Some(client) = &mut self.clients[at]
            && !std::mem::replace(&mut client.has_turn, true)
        {
            self.ready.push_back(at);
        }
    }

    fn turn(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else { return };
        client.has_turn = false;
        match client.drive(&mut self.tools) {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.want_turn(at),
            Ok(Next::Close) | Err(_) => {
                self.clients[at] = None;
                self.free.push(at);
            }
        }
    }
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        let (heard, answer) = (Vec::new(), Vec::new());
        Self { socket, state: State::Listening, heard, answer, sent: 0, has_turn: false }
    }

    fn drive(&mut self, tools: &mut Tools) -> io::Result<Next> {
        match self.advance(tools) {
            Err(Errno::AGAIN) => {
                if self.heard.is_empty() && self.answer.is_empty() {
                    (self.heard, self.answer) = (Vec::new(), Vec::new());
                }
                Ok(Next::Wait)
            }
            done => Ok(done?),
        }
    }

    fn advance(&mut self, tools: &mut Tools) -> rustix::io::Result<Next> {
        let mut budget = BUDGET;
        loop {
            while self.sent < self.answer.len() {
                self.sent +=
                    net::send(&self.socket, &self.answer[self.sent..], SendFlags::NOSIGNAL)?;
            }
            self.answer.clear();
            self.sent = 0;
            let moved = match &mut self.state {
                State::Giving { left: 0, .. } => {
                    self.state = State::Listening;
                    0
                }
                State::Giving { left, phase } => {
                    let window = &tools.pattern[*phase..*phase + wire::window(*left)];
                    let sent = net::send(&self.socket, window, SendFlags::NOSIGNAL)?;
                    wire::step(left, phase, sent);
                    sent
                }
                State::Taking { object, left: 0, phase, is_whole } => {
                    let kind = if *is_whole { ObjectKind::Whole } else { ObjectKind::Spoilt };
                    let answer = Object { kind, length: object.length, phase: *phase as u64 };
                    self.answer.extend_from_slice(&answer.header());
                    self.state = State::Listening;
                    0
                }
                State::Taking { left, phase, is_whole, .. } => {
                    let length = wire::window(*left);
                    let read = if self.heard.is_empty() {
                        receive(&self.socket, &mut tools.buffer[..length])?
                    } else {
                        let length = length.min(self.heard.len());
                        tools.buffer[..length].copy_from_slice(&self.heard[..length]);
                        self.heard.drain(..length);
                        length
                    };
                    if read == 0 {
                        return Ok(Next::Close);
                    }
                    *is_whole &= tools.buffer[..read] == tools.pattern[*phase..*phase + read];
                    wire::step(left, phase, read);
                    read
                }
                State::Listening => 0,
            };
            if matches!(self.state, State::Listening)
                && self.answer.is_empty()
                && !self.understand(tools)
            {
                match receive(&self.socket, &mut tools.buffer[..PART])? {
                    0 => return Ok(Next::Close),
                    read => self.heard.extend_from_slice(&tools.buffer[..read]),
                }
            }
            budget = budget.saturating_sub(moved);
            if budget == 0 {
                return Ok(Next::Again);
            }
        }
    }

    /// Takes one question out of what was heard; false if there is no whole one.
    fn understand(&mut self, tools: &mut Tools) -> bool {
        let heard = &self.heard;
        let used = match heard.first() {
            Some(b'U' | b'D') => {
                let Some(object) = Object::request(heard) else { return false };
                let phase = wire::advance(0, object.phase);
                self.state = match object.kind {
                    ObjectKind::Up => {
                        State::Taking { object, left: object.length, phase, is_whole: true }
                    }
                    _ => State::Giving { left: object.length, phase },
                };
                Object::HEADER
            }
            Some(&wire::BEGIN) => {
                if heard.len() < wire::MESSAGE {
                    return false;
                }
                wire::acknowledge(&mut tools.acknowledgement, heard);
                self.answer.extend_from_slice(&tools.acknowledgement);
                wire::MESSAGE
            }
            Some(_) => {
                let Some(end) = wire::head_end(heard) else { return false };
                self.answer.extend_from_slice(&tools.page);
                end
            }
            None => return false,
        };
        self.heard.drain(..used);
        true
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    Ok(net::recv(socket, buffer, RecvFlags::empty())?.0)
}
