//! What can be asked of the kernel.

use super::{
    DestinationEntry, Error, Failure, Info, OpenError, Operation, ServiceEntry, ServiceKey,
    SyncDaemon, SyncRole, Timeouts,
};

/// A connection to the load balancer of one network namespace.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Opens the load balancer of this thread's network namespace, and loads its module.
    pub fn open() -> Result<Self, OpenError> {
        Err(OpenError::NotInKernel)
    }

    /// Every TCP and UDP service, in no particular order. Those of another protocol (SCTP) are
    /// left out: they cannot collide with one of these.
    pub fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        Err(Error::Silent)
    }

    /// Every server of a service; none if there is no such service.
    pub fn destinations(&mut self, _key: &ServiceKey) -> Result<Vec<DestinationEntry>, Error> {
        Err(Error::Silent)
    }

    /// Carries out `operations` in order. One that fails does not stop the rest; those that did
    /// are returned in order.
    pub fn apply(&mut self, _operations: &[Operation]) -> Result<Vec<Failure>, Error> {
        Err(Error::Silent)
    }

    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        Err(Error::Silent)
    }

    pub fn set_timeouts(&mut self, _timeouts: Timeouts) -> Result<(), Error> {
        Err(Error::Silent)
    }

    /// Begins to count anew, for one service and its servers or for all.
    pub fn zero(&mut self, _key: Option<&ServiceKey>) -> Result<(), Error> {
        Err(Error::Silent)
    }

    pub fn info(&mut self) -> Result<Info, Error> {
        Err(Error::Silent)
    }

    pub fn start_sync(&mut self, _daemon: &SyncDaemon) -> Result<(), Error> {
        Err(Error::Silent)
    }

    pub fn stop_sync(&mut self, _role: SyncRole) -> Result<(), Error> {
        Err(Error::Silent)
    }

    pub fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        Err(Error::Silent)
    }
}
