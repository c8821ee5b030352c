//! One process takes over from another without cutting a connection.
//!
//! The successor connects to the socket in the state folder. It is lent all listening sockets, puts its
//! services in force with them, and asks for the rest. From then on the old process stands still: it
//! says what it has counted, whom it remembers and what each connection is, with its descriptors. The
//! successor touches nothing before it has all of it and has heard "go". If anything fails before that
//! word, the old process goes on with everything it had. After it the old process keeps what cannot
//! move: connections whose keys are in its memory alone.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_runtime::clock;
use tracing::info;

use crate::plane::{Plane, PlaneError, Settings, Still, Told};

use channel::{Channel, DESCRIPTORS};
use format::{All, Connection, Go, Hello, Listener, NEWEST, OLDEST, Offer, Ready, Take, Word};

pub use channel::ChannelError;
pub use former::Former;
pub use reader::Reader;
pub use successors::Successors;

mod channel;
mod difference;
pub(crate) mod format;
mod former;
mod reader;
mod successors;

/// A process that wants to take over.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    hello: Hello,
}

/// A process that has taken over.
#[derive(Debug)]
pub struct Heir {
    channel: Channel,
    /// What was counted when it was told last.
    told: Told,
    /// It waits for the first word, and for no other.
    spoke: bool,
    listens: bool,
}

/// What a successor was lent: a plane that begins once it has the rest.
#[derive(Debug)]
pub struct Loan {
    channel: Channel,
    plane: Plane,
    version: u32,
}

/// Why a process was not taken over from.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("taking over from the process before")]
    Channel(#[from] ChannelError),
    #[error("make ready to take over")]
    Plane(#[from] PlaneError),
}

/// Where a process waits for its successor.
pub fn socket(state: &Path) -> PathBuf {
    state.join("hand-over.sock")
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long the old process waits until its successor has put all services in force.
const PREPARING: Duration = Duration::from_secs(60);
/// How long either waits for the other while connections stand still.
const STANDSTILL: Duration = Duration::from_secs(10);

impl Successor {
    /// Hears who has connected.
    pub fn meet(stream: UnixStream) -> Result<Self, ChannelError> {
        let channel = Channel::new(stream)?;
        channel.set_patience(STANDSTILL)?;
        match channel.hear()? {
            (Word::Hello(hello), _) => Ok(Self { channel, hello }),
            _ => Err(ChannelError::OutOfOrder),
        }
    }

    /// Hands over all that `plane` has, but for what cannot move. If that fails, the plane goes on as
    /// before. Nothing must be put in force meanwhile.
    pub fn hand_over(self, plane: &mut Plane) -> Result<Heir, ChannelError> {
        let Self { channel, hello } = self;
        let version = format::agree(hello);
        for (address, sockets) in plane.listening() {
            let listener = Listener { address: address.to_string() };
            let sockets = &sockets[..sockets.len().min(DESCRIPTORS)];
            channel.give(Word::Listener(listener), sockets)?;
        }
        channel.say(Word::Offer(Offer { version, verdicts: plane.verdicts() }))?;
        channel.set_patience(PREPARING)?;
        let (Word::Take(Take {}), _) = channel.hear()? else {
            return Err(ChannelError::OutOfOrder);
        };
        channel.set_patience(STANDSTILL)?;
        let begun = clock::monotonic();
        let still = plane.freeze();
        let given = give(&channel, version, plane, &still);
        // Until "go" is said, the successor has nothing; from then on, all.
        match given.and_then(|given| channel.say(Word::Go(Go {})).map(|()| given)) {
            Ok((refused, told)) => {
                plane.retire(still, &refused);
                let (active, stood_still) = (plane.active(), begun.elapsed());
                info!(active, version, ?stood_still, "handed over; finishing what could not move");
                let listens = version > 0;
                let mut heir = Heir { channel, told, spoke: false, listens };
                heir.tell(plane);
                Ok(heir)
            }
            Err(error) => {
                plane.thaw(still);
                Err(error)
            }
        }
    }
}

impl Heir {
    /// Tells what `plane` still has, if that has changed. A successor that has gone is no loss.
    pub fn tell(&mut self, plane: &Plane) {
        if !self.listens {
            return;
        }
        let remaining = plane.remaining(&mut self.told);
        let is_news = !remaining.services.is_empty() || !self.spoke;
        self.listens = !is_news || self.channel.say(Word::Remaining(remaining)).is_ok();
        self.spoke = true;
    }
}

/// Says everything; gives the numbers of what stays here, and what was told of services.
fn give(
    channel: &Channel,
    version: u32,
    plane: &Plane,
    still: &Still,
) -> Result<(Vec<u32>, Told), ChannelError> {
    let mut told = Told::new();
    if version > 0 {
        for (name, service) in plane.ledger() {
            channel.say(Word::Service(service.clone()))?;
            told.insert(name, (None, format::Service { remembered: Vec::new(), ..service }));
        }
    }
    let now = clock::monotonic();
    let (mut stay, mut number) = (Vec::new(), 0);
    for one in still.all() {
        match one.describe(now).filter(|_| version > 0) {
            Some((said, descriptors)) => {
                let said = Connection { number, ..said };
                channel.give(Word::Connection(said), &descriptors)?;
            }
            None => stay.push(number),
        }
        number += 1;
    }
    channel.say(Word::All(All {}))?;
    let (Word::Ready(ready), _) = channel.hear()? else { return Err(ChannelError::OutOfOrder) };
    stay.extend(ready.refused);
    Ok((stay, told))
}

impl Loan {
    /// Asks the process that waits at `socket` for its listeners; none if there is no such process.
    pub fn ask(socket: &Path, settings: Settings) -> Result<Option<Self>, TakeError> {
        let Ok(stream) = UnixStream::connect(socket) else { return Ok(None) };
        let channel = Channel::new(stream)?;
        channel.set_patience(STANDSTILL)?;
        channel.say(Word::Hello(Hello { oldest: OLDEST, newest: NEWEST }))?;
        let mut plane = Plane::prepare(settings)?;
        loop {
            match channel.hear()? {
                (Word::Listener(listener), sockets) => plane.inherit(&listener, sockets),
                (Word::Offer(offer), _) => {
                    plane.believe(&offer.verdicts);
                    return Ok(Some(Self { channel, plane, version: offer.version }));
                }
                _ => return Err(ChannelError::OutOfOrder.into()),
            }
        }
    }

    /// The plane, for services to be put in force.
    pub fn plane(&mut self) -> &mut Plane {
        &mut self.plane
    }

    /// Takes the rest over, and begins.
    pub fn take(self) -> Result<(Plane, Former), TakeError> {
        let Self { channel, mut plane, version } = self;
        channel.set_patience(STANDSTILL)?;
        channel.say(Word::Take(Take {}))?;
        let (mut arrivals, mut refused) = (Vec::new(), Vec::new());
        loop {
            match channel.hear()? {
                (Word::Service(service), _) => plane.resume(&service),
                (Word::Connection(said), descriptors) => {
                    let number = said.number;
                    match plane.read(said, descriptors) {
                        Some(arrival) => arrivals.push(arrival),
                        None => refused.push(number),
                    }
                }
                (Word::All(All {}), _) => break,
                _ => return Err(ChannelError::OutOfOrder.into()),
            }
        }
        info!(connections = arrivals.len(), refused = refused.len(), "taking over");
        channel.say(Word::Ready(Ready { refused }))?;
        let (Word::Go(Go {}), _) = channel.hear()? else {
            return Err(ChannelError::OutOfOrder.into());
        };
        let former = Former::new(channel, version > 0, &mut plane);
        plane.take_in(arrivals);
        plane.begin()?;
        Ok((plane, former))
    }
}
