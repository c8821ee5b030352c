//! A machine for tests: it keeps IPVS's rules about what exists, and notes what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::{Kernel, Trouble};
use crate::desired::Programmed;
use crate::host::nft::{Listed, NftError, Rules};
use crate::host::packet::Claim;
use crate::host::route::{Held, Interface, Neighbour, PolicyRule};
use crate::host::sysctl::{Outcome, Setting};
use crate::ipvs::{
    DestinationEntry, Failure, OpenError, Operation, ServiceEntry, ServiceKey, Statistics, Timeouts,
};

/// The machine, as both the test and the director see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) table: BTreeMap<ServiceKey, Programmed>,
    /// Every operation that was carried out.
    pub(crate) done: Vec<Operation>,
    pub(crate) no_ipvs: bool,
    pub(crate) no_nft: bool,
    /// Schedulers that this kernel has not got.
    pub(crate) missing: BTreeSet<crate::ipvs::Scheduler>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) rules: Option<Rules>,
    pub(crate) foreign_marks: Vec<String>,
    pub(crate) mark_rules: Vec<PolicyRule>,
    pub(crate) announced: Vec<IpAddr>,
    pub(crate) heard: Vec<Claim>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) timeouts: (u32, u32),
}

impl Fake {
    /// A machine with one interface in each of these networks.
    pub(crate) fn with(networks: &[(&str, u8)]) -> Self {
        let fake = Self::default();
        let interfaces = (1..).zip(networks).map(|(index, (address, prefix))| Interface {
            index,
            name: format!("eth{}", index - 1),
            hardware: Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            up: true,
            running: true,
            loopback: false,
            addresses: vec![held(address.parse().unwrap(), *prefix)],
        });
        fake.change(|state| state.interfaces = interfaces.collect());
        fake
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock())
    }

    /// What was carried out since this was asked last.
    pub(crate) fn take_done(&self) -> Vec<Operation> {
        self.change(|state| std::mem::take(&mut state.done))
    }

    /// The addresses on an interface.
    pub(crate) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.change(|state| {
            let found = state.interfaces.iter().find(|interface| interface.name == name).unwrap();
            found.addresses.iter().map(|held| held.address).collect()
        })
    }
}

fn held(address: IpAddr, prefix: u8) -> Held {
    Held { address, prefix, tag: None, valid_for: None }
}

impl State {
    fn carry_out(&mut self, operation: &Operation) -> Result<(), Errno> {
        match *operation {
            Operation::AddService(service) | Operation::SetService(service)
                if self.missing.contains(&service.scheduler) =>
            {
                return Err(Errno::NOENT);
            }
            Operation::AddService(service) => {
                if self.table.contains_key(&service.key) {
                    return Err(Errno::EXIST);
                }
                let destinations = BTreeMap::new();
                self.table.insert(service.key, Programmed { service, destinations });
            }
            Operation::SetService(service) => self.find(&service.key)?.service = service,
            Operation::DeleteService(key) => {
                self.table.remove(&key).ok_or(Errno::SRCH)?;
            }
            Operation::AddDestination(key, destination) => {
                let destinations = &mut self.find(&key)?.destinations;
                if destinations.insert(destination.key, destination).is_some() {
                    return Err(Errno::EXIST);
                }
            }
            Operation::SetDestination(key, destination) => {
                let held = self.find(&key)?.destinations.get_mut(&destination.key);
                *held.ok_or(Errno::NOENT)? = destination;
            }
            Operation::DeleteDestination(key, at) => {
                self.find(&key)?.destinations.remove(&at).ok_or(Errno::NOENT)?;
            }
        }
        Ok(())
    }

    fn find(&mut self, key: &ServiceKey) -> Result<&mut Programmed, Errno> {
        self.table.get_mut(key).ok_or(Errno::SRCH)
    }
}

impl Kernel for Fake {
    fn services(&mut self) -> Result<Vec<ServiceEntry>, Trouble> {
        self.change(|state| {
            if state.no_ipvs {
                return Err(Trouble::NoIpvs(OpenError::NotInKernel));
            }
            let entries = state.table.values().map(|held| ServiceEntry {
                key: held.service.key,
                service: Some(held.service),
                scheduler: held.service.scheduler.name().to_owned(),
                statistics: Statistics { connections: 7, ..Statistics::default() },
            });
            Ok(entries.collect())
        })
    }

    fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<DestinationEntry>, Trouble> {
        self.change(|state| {
            let held = state.table.get(key).into_iter().flat_map(|held| held.destinations.values());
            let entries = held.map(|destination| DestinationEntry {
                destination: *destination,
                active: 2,
                inactive: 1,
                persistent: 1,
                statistics: Statistics { connections: 3, ..Statistics::default() },
            });
            Ok(entries.collect())
        })
    }

    fn program(&mut self, operations: &[Operation]) -> Result<Vec<Failure>, Trouble> {
        self.change(|state| {
            let mut failures = Vec::new();
            for (at, operation) in operations.iter().enumerate() {
                match state.carry_out(operation) {
                    Ok(()) => state.done.push(*operation),
                    Err(errno) => {
                        failures.push(Failure { at, errno, message: errno.to_string() });
                    }
                }
            }
            Ok(failures)
        })
    }

    fn timeouts(&mut self) -> Result<Timeouts, Trouble> {
        self.change(|state| {
            let (tcp, udp) = state.timeouts;
            Ok(Timeouts { tcp, tcp_fin: 120, udp })
        })
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Trouble> {
        self.change(|state| {
            let kept = |new, old| if new == 0 { old } else { new };
            let (tcp, udp) = state.timeouts;
            state.timeouts = (kept(timeouts.tcp, tcp), kept(timeouts.udp, udp));
            Ok(())
        })
    }

    fn interfaces(&mut self) -> Result<Vec<Interface>, Trouble> {
        self.change(|state| Ok(state.interfaces.clone()))
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, Trouble> {
        Ok(address.is_loopback())
    }

    fn add_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble> {
        self.change(|state| {
            let mut interfaces = state.interfaces.iter_mut();
            let interface = interfaces.find(|interface| interface.index == index).unwrap();
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            interface.addresses.push(held(address, prefix));
            Ok(())
        })
    }

    fn remove_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble> {
        self.change(|state| {
            let mut interfaces = state.interfaces.iter_mut();
            let interface = interfaces.find(|interface| interface.index == index).unwrap();
            interface.addresses.retain(|held| held.address != address);
            Ok(())
        })
    }

    fn neighbours(&mut self) -> Result<Vec<Neighbour>, Trouble> {
        self.change(|state| Ok(state.neighbours.clone()))
    }

    fn mark_rules(&mut self) -> Result<Vec<PolicyRule>, Trouble> {
        self.change(|state| Ok(state.mark_rules.clone()))
    }

    fn rules(&mut self) -> Result<Option<Listed>, Trouble> {
        self.change(|state| {
            if state.no_nft {
                return Err(Trouble::Nft(NftError::Missing));
            }
            let listed = |rules| Listed { rules, whole: true, ..Listed::default() };
            Ok(state.rules.clone().map(listed))
        })
    }

    fn change_rules(&mut self, before: Option<&Rules>, after: &Rules) -> Result<(), Trouble> {
        self.change(|state| {
            assert!(before.is_none() || before == state.rules.as_ref(), "{before:?}");
            state.rules = Some(after.clone());
            Ok(())
        })
    }

    fn foreign_marks(&mut self) -> Result<Vec<String>, Trouble> {
        self.change(|state| Ok(state.foreign_marks.clone()))
    }

    fn ensure(&mut self, settings: &[Setting]) -> Vec<Outcome> {
        let right = |setting: &Setting| Outcome {
            name: setting.name.clone(),
            wanted: setting.value,
            before: Some("1".to_owned()),
            now: Some("1".to_owned()),
            error: None,
        };
        settings.iter().map(right).collect()
    }

    fn announce(&mut self, _interface: &Interface, address: IpAddr) -> Result<(), Trouble> {
        self.change(|state| state.announced.push(address));
        Ok(())
    }

    fn probe(&mut self, _interface: &Interface, _address: Ipv4Addr) -> Result<(), Trouble> {
        Ok(())
    }

    fn heard(&mut self) -> Result<Vec<Claim>, Trouble> {
        let closed = || Trouble::Packet(io::ErrorKind::NotConnected.into());
        self.change(|state| match state.interfaces.is_empty() {
            true => Err(closed()),
            false => Ok(std::mem::take(&mut state.heard)),
        })
    }
}
