//! What can be asked of the kernel.

use rustix::io::Errno;

use super::attribute::{Table, Writer};
use super::socket::{Question, Socket};
use super::uapi::command;
use super::{
    DestinationEntry, Error, Failure, Info, OpenError, Operation, ServiceEntry, ServiceKey,
    SyncDaemon, SyncRole, Timeouts, batch, decode, encode,
};

/// A connection to the load balancer of one network namespace.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
}

/// What the kernel's names of interfaces have room for.
const INTERFACE_BYTES: usize = 15;

impl Client {
    /// Opens the load balancer of this thread's network namespace; the kernel loads its module.
    pub fn open() -> Result<Self, OpenError> {
        let socket = match Socket::open() {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(OpenError::NotInKernel);
            }
            socket => socket?,
        };
        let mut client = Self { socket };
        match client.info() {
            Err(error) if error.errno() == Some(Errno::PERM) => Err(OpenError::Denied),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(client),
        }
    }

    /// Every TCP and UDP service, in no particular order. Those of another protocol (SCTP) are
    /// left out: they cannot collide with one of these.
    ///
    /// A long list is read in parts. Where somebody else changes it meanwhile, an entry may be
    /// missing or be there twice, unless the kernel notices: then it is read again.
    pub fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        self.list(command::GET_SERVICE, |_| {}, decode::service)
    }

    /// Every server of a service; none if there is no such service. As with
    /// [`services`](Self::services), others had better not change it meanwhile.
    pub fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<DestinationEntry>, Error> {
        let about = |message: &mut Writer<'_>| encode::service(message, key);
        self.list(command::GET_DEST, about, decode::destination)
    }

    /// Carries out `operations` in order. One that fails does not stop the rest; those that did
    /// are returned in order.
    ///
    /// There is no transaction: others see every step. After an [`Error`] some may be done and
    /// some not; what the kernel holds must then be read again.
    pub fn apply(&mut self, operations: &[Operation]) -> Result<Vec<Failure>, Error> {
        batch::apply(&mut self.socket, operations)
    }

    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.get(command::GET_CONFIG, decode::timeouts)
    }

    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        self.tell(command::SET_CONFIG, |message| encode::timeouts(message, &timeouts))
    }

    /// Begins to count anew, for one service and its servers or for all.
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Error> {
        self.tell(command::ZERO, |message| {
            key.inspect(|key| encode::service(message, key));
        })
    }

    pub fn info(&mut self) -> Result<Info, Error> {
        self.get(command::GET_INFO, decode::info)
    }

    /// Fails with `EEXIST` if there is one in this role.
    pub fn start_sync(&mut self, daemon: &SyncDaemon) -> Result<(), Error> {
        if daemon.interface.len() > INTERFACE_BYTES {
            let message = "no interface has so long a name".to_owned();
            return Err(Error::Refused { errno: Errno::NODEV, message });
        }
        self.tell(command::NEW_DAEMON, |message| encode::daemon(message, daemon))
    }

    /// Fails with `ESRCH` if there is none in this role.
    pub fn stop_sync(&mut self, role: SyncRole) -> Result<(), Error> {
        self.tell(command::DEL_DAEMON, |message| encode::role(message, role))
    }

    pub fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.list(command::GET_DAEMON, |_| {}, decode::daemon)
    }

    fn list<T>(
        &mut self,
        command: u8,
        about: impl Fn(&mut Writer<'_>),
        read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        self.socket.ask(Question { command, list: true }, about, read)
    }

    fn get<T>(
        &mut self,
        command: u8,
        read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let mut answers = self.socket.ask(Question { command, list: false }, |_| {}, read)?;
        answers.pop().ok_or(Error::Malformed("an acknowledgement without an answer"))
    }

    fn tell(&mut self, command: u8, about: impl Fn(&mut Writer<'_>)) -> Result<(), Error> {
        self.socket.ask(Question { command, list: false }, about, |_| Ok(None::<()>))?;
        Ok(())
    }
}
