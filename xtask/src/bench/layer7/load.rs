//! The load: many connections that all do one kind of thing, over a few threads.
//!
//! Every connection completes one exchange before time counts. What comes back is compared byte by
//! byte, and what is wrong is counted as an error and told.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use gantry_runtime::clock;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustls::ClientConfig;

use exchange::{Exchange, Next};

mod exchange;

/// What each connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sends one object after the other.
    Up,
    /// Fetches one object after the other.
    Down,
    /// Sends one message after the other, each when the one before is acknowledged.
    Message,
    /// Is opened, sends one message and is closed again.
    Connect,
    /// Asks for one page after the other.
    Http,
    /// Sends one message, and is held.
    Idle,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Up, Self::Down, Self::Message, Self::Connect, Self::Http, Self::Idle];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Message => "msg",
            Self::Connect => "cps",
            Self::Http => "http",
            Self::Idle => "idle",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) kind: Kind,
    pub(super) to: SocketAddr,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// Connections speak TLS by this.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// What all threads of a load share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) exchanges: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Connections that have completed their first exchange.
    ready: AtomicU64,
    measuring: AtomicBool,
    /// Held connections are to say something again.
    speak: AtomicBool,
    stop: AtomicBool,
    last_error: Mutex<Option<String>>,
}

/// A load that is under way.
#[derive(Debug)]
pub(super) struct Running {
    load: Load,
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<Histogram<u64>>>>,
}

/// Bulk at a time: shared out, so that many connections do not take longer for their first.
const BULK: u64 = 64 << 20;
const LEAST_OBJECT: u64 = 1 << 20;
/// Connections that one thread opens at a time.
const OPENING: usize = 128;
/// How long the first exchange of all may take, and the last.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS: usize = 1024;
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Addresses that short connections come from: one has too few ports.
const SOURCES: usize = 64;

impl Load {
    /// The length of one object of bulk.
    fn object(&self) -> u64 {
        (BULK / self.connections as u64).max(LEAST_OBJECT)
    }

    /// Starts it, and waits until every connection has completed one exchange.
    pub(super) fn start(self) -> anyhow::Result<Running> {
        let shared = Arc::new(Shared::default());
        let threads = (0..self.threads).map(|number| {
            let (load, shared) = (self.clone(), Arc::clone(&shared));
            std::thread::spawn(move || Thread::new(load, shared, number)?.run())
        });
        let running = Running { threads: threads.collect(), load: self, shared };
        let began = clock::monotonic();
        while running.load.kind != Kind::Connect && !running.is_ready() {
            let waited = clock::monotonic() - began;
            anyhow::ensure!(
                waited < PATIENCE,
                "not all connections work: {}",
                running.last_error()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(running)
    }
}

impl Running {
    fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed) >= self.load.connections as u64
    }

    /// Counts latencies from now on, or no more.
    pub(super) fn measure(&self, whether: bool) {
        self.shared.measuring.store(whether, Ordering::Relaxed);
    }

    /// Has every tenth held connection say something; an error if one is not answered.
    pub(super) fn speak(&self) -> anyhow::Result<()> {
        let before = self.shared.exchanges.load(Ordering::Relaxed);
        let wanted = self.load.connections.div_ceil(TENTH) as u64;
        self.shared.speak.store(true, Ordering::Relaxed);
        let began = clock::monotonic();
        while self.shared.exchanges.load(Ordering::Relaxed) - before < wanted {
            let waited = clock::monotonic() - began;
            anyhow::ensure!(waited < PATIENCE, "held connections do not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it; gives the latencies in nanoseconds.
    pub(super) fn stop(self) -> anyhow::Result<Histogram<u64>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = histogram()?;
        for thread in self.threads {
            let part = thread.join().map_err(|_| anyhow!("a thread of the load panicked"))??;
            all.add(part)?;
        }
        Ok(all)
    }

    /// What went wrong last.
    pub(super) fn last_error(&self) -> String {
        self.shared.last_error.lock().clone().unwrap_or_else(|| "nothing went wrong".to_owned())
    }
}

/// Every tenth held connection speaks again.
const TENTH: usize = 10;

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000_000, 3)?)
}

/// One thread's share of the connections.
struct Thread {
    load: Load,
    shared: Arc<Shared>,
    number: usize,
    poller: std::os::fd::OwnedFd,
    slots: Vec<Option<Exchange>>,
    /// Slots without a connection.
    empty: VecDeque<usize>,
    /// Slots that are to have a turn.
    ready: VecDeque<usize>,
    opening: usize,
    opened: usize,
    latencies: Histogram<u64>,
    tools: exchange::Tools,
}

impl Thread {
    fn new(load: Load, shared: Arc<Shared>, number: usize) -> anyhow::Result<Self> {
        let (share, rest) = (load.connections / load.threads, load.connections % load.threads);
        let slots = share + usize::from(number < rest);
        Ok(Self {
            tools: exchange::Tools::new(load.kind, load.object()),
            load,
            shared,
            number,
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
            empty: (0..slots).collect(),
            ready: VecDeque::new(),
            opening: 0,
            opened: 0,
            latencies: histogram()?,
        })
    }

    fn run(mut self) -> anyhow::Result<Histogram<u64>> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut spoken = false;
        let mut stopped: Option<Instant> = None;
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                let since = *stopped.get_or_insert_with(clock::monotonic);
                self.let_go();
                if self.slots.iter().all(Option::is_none) {
                    return Ok(self.latencies);
                }
                let waited = clock::monotonic() - since;
                anyhow::ensure!(waited < PATIENCE, "connections do not end");
            } else {
                self.open();
            }
            if !spoken && self.shared.speak.load(Ordering::Relaxed) {
                spoken = true;
                self.speak();
            }
            let timeout = if self.ready.is_empty() { LOOK } else { Timespec::default() };
            epoll::wait(&self.poller, spare_capacity(&mut events), Some(&timeout))?;
            for event in events.drain(..) {
                let slot = usize::try_from({ event.data }.u64())?;
                self.want_turn(slot);
            }
            for _ in 0..self.ready.len() {
                let slot = self.ready.pop_front().expect("nothing else takes from it");
                self.turn(slot);
            }
        }
    }

    fn want_turn(&mut self, slot: usize) {
        if let Some(exchange) = &mut self.slots[slot]
            && !std::mem::replace(&mut exchange.has_turn, true)
        {
            self.ready.push_back(slot);
        }
    }

    fn open(&mut self) {
        while self.opening < OPENING || self.load.kind == Kind::Connect {
            let Some(slot) = self.empty.pop_front() else { return };
            if let Err(error) = self.open_one(slot) {
                self.fail(&format!("opening: {error}"));
                self.empty.push_back(slot);
                return;
            }
        }
    }

    fn open_one(&mut self, slot: usize) -> std::io::Result<()> {
        let source = match self.load.kind {
            Kind::Connect | Kind::Idle => Some(self.source()),
            _ => None,
        };
        self.opened += 1;
        let serial = (self.number * self.load.connections + slot) as u64;
        let exchange = Exchange::open(&self.load, source, serial, &mut self.tools)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poller, &exchange, EventData::new_u64(slot as u64), interest)?;
        self.slots[slot] = Some(exchange);
        self.opening += 1;
        Ok(())
    }

    fn source(&self) -> SocketAddr {
        let number = 1 + (self.opened * self.load.threads + self.number) % SOURCES;
        let last = u8::try_from(number).expect("there are fewer sources than that");
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))
    }

    fn turn(&mut self, slot: usize) {
        let Some(exchange) = &mut self.slots[slot] else { return };
        exchange.has_turn = false;
        let was_first = exchange.is_first;
        let next = exchange.drive(&mut self.tools, &self.shared.bytes);
        match next {
            Ok(Next::Wait) => return,
            Ok(Next::Again) => return self.want_turn(slot),
            Ok(Next::Done) => {}
            Err(error) => {
                self.fail(&error.to_string());
                return self.clear(slot, was_first);
            }
        }
        let (took, stop) = (exchange.took(), self.shared.stop.load(Ordering::Relaxed));
        if self.shared.measuring.load(Ordering::Relaxed) {
            self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        self.shared.exchanges.fetch_add(1, Ordering::Relaxed);
        exchange.is_first = false;
        if was_first {
            self.opening -= 1;
            self.shared.ready.fetch_add(1, Ordering::Relaxed);
        }
        match self.load.kind {
            _ if stop => self.clear(slot, false),
            Kind::Connect => self.clear(slot, false),
            Kind::Idle => exchange.rest(),
            _ => {
                exchange.begin(&mut self.tools);
                self.want_turn(slot);
            }
        }
    }

    fn clear(&mut self, slot: usize, was_opening: bool) {
        self.opening -= usize::from(was_opening);
        self.slots[slot] = None;
        self.empty.push_back(slot);
    }

    /// Closes what rests.
    fn let_go(&mut self) {
        for slot in &mut self.slots {
            slot.take_if(|exchange| exchange.is_at_rest());
        }
    }

    fn speak(&mut self) {
        for slot in (0..self.slots.len()).step_by(TENTH) {
            if let Some(exchange) = &mut self.slots[slot] {
                exchange.begin(&mut self.tools);
            }
            self.want_turn(slot);
        }
    }

    fn fail(&self, what: &str) {
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        *self.shared.last_error.lock() = Some(what.to_owned());
    }
}
