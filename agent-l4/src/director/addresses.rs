//! Virtual addresses: brought up on the right interface, and taken down when nobody wants them. An
//! address that was there before is used and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_model::name::ServiceName;
use gantry_runtime::agent::Rejection;
use gantry_runtime::rpc;
use tracing::{info, warn};

use super::{Deployed, Director, Moment, Outcomes};
use crate::desired::Address;
use crate::host::route::{self, Interface};
use crate::kernel::{Kernel, rejection};
use crate::owned::{Owned, Thing};

/// Who wants which address, and where each is.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    users: BTreeMap<IpAddr, BTreeMap<ServiceName, Address>>,
    /// The same by service.
    wanted: BTreeMap<ServiceName, Vec<IpAddr>>,
    up: BTreeMap<IpAddr, Place>,
    /// Those that were owned when the agent started, with the service each was for.
    owned: BTreeMap<IpAddr, String>,
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) interface: String,
    /// Gantry has put it there.
    pub(super) ours: bool,
}

impl Addresses {
    pub(super) fn of(owned: &Owned) -> Self {
        let addresses = owned.things().iter().filter_map(|(thing, service)| match thing {
            Thing::Address { address, .. } => Some((*address, service.clone())),
            Thing::Ipvs(_) => None,
        });
        Self { owned: addresses.collect(), ..Self::default() }
    }

    /// `name` wants these, and no others any more.
    pub(super) fn want(&mut self, name: &ServiceName, addresses: &[Address]) {
        self.leave(name);
        for wanted in addresses {
            self.users.entry(wanted.address).or_default().insert(name.clone(), wanted.clone());
        }
        let addresses = addresses.iter().map(|wanted| wanted.address);
        self.wanted.insert(name.clone(), addresses.collect());
    }

    pub(super) fn leave(&mut self, name: &ServiceName) {
        for address in self.wanted.remove(name).unwrap_or_default() {
            let Some(users) = self.users.get_mut(&address) else { continue };
            users.remove(name);
            if users.is_empty() {
                self.users.remove(&address);
            }
        }
    }

    /// Addresses from before the start that nobody wants, and the service each was for.
    pub(super) fn unwanted(&self) -> Vec<(IpAddr, String)> {
        let unwanted = self.owned.iter().filter(|(address, _)| !self.users.contains_key(address));
        unwanted.map(|(address, service)| (*address, service.clone())).collect()
    }

    pub(super) fn users(&self, address: &IpAddr) -> impl Iterator<Item = &ServiceName> {
        self.users.get(address).into_iter().flat_map(BTreeMap::keys)
    }

    pub(super) fn up(&self) -> &BTreeMap<IpAddr, Place> {
        &self.up
    }
}

/// Where `wanted` is to be brought up; none if it is there already.
pub(super) fn place<'a>(
    wanted: &Address,
    interfaces: &'a [Interface],
) -> Result<&'a Interface, Rejection> {
    let refuse = |message| Err(rejection("NO_INTERFACE", wanted.field, message));
    if let Some(name) = &wanted.interface {
        let found = interfaces.iter().find(|interface| interface.name == name.as_str());
        return found.map_or_else(
            || {
                let others =
                    interfaces.iter().filter(|interface| interface.up && !interface.loopback);
                let others: Vec<_> = others.map(|interface| interface.name.as_str()).collect();
                let there = match others.as_slice() {
                    [] => "none is up but the loopback".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                let message = format!("the appliance has no interface {name}: {there}");
                Err(rejection("NO_INTERFACE", "listener.interface", message))
            },
            Ok,
        );
    }
    match route::interface_for(interfaces, wanted.address) {
        Some(interface) => Ok(interface),
        None => refuse(format!(
            "no interface of the appliance has an address in the network of {}: give it one, or say \
             in listener.interface which interface brings the address up",
            wanted.address
        )),
    }
}

/// The interface that has `address` already.
pub(super) fn holder(interfaces: &[Interface], address: IpAddr) -> Option<&Interface> {
    interfaces
        .iter()
        .find(|interface| interface.addresses.iter().any(|held| held.address == address))
}

impl<K: Kernel> Director<K> {
    /// Brings up those of `addresses` that somebody wants.
    pub(super) fn bring_up(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        outcomes: &mut Outcomes,
        now: Moment,
    ) {
        let wanted = addresses.iter().filter_map(|address| {
            let wanted = self.addresses.users.get(address)?.values().next()?.clone();
            (!self.is_in_place(&wanted)).then_some(wanted)
        });
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        let interfaces = match self.kernel.interfaces() {
            Ok(interfaces) => interfaces,
            Err(trouble) => {
                let rejection = trouble.rejection("listener.address");
                wanted.iter().for_each(|wanted| self.blame_users(wanted, &rejection, outcomes));
                return;
            }
        };
        let mut missing = Vec::new();
        for wanted in &wanted {
            match self.find_place(wanted, &interfaces, now) {
                Ok(place) => missing.extend(place.map(|interface| (wanted, interface))),
                Err(rejection) => self.blame_users(wanted, &rejection, outcomes),
            }
        }
        let noted = self.own_addresses(&missing);
        for (wanted, interface) in missing {
            let done = noted.clone().and_then(|()| self.bring_up_one(wanted, interface, now));
            if let Err(rejection) = done {
                self.blame_users(wanted, &rejection, outcomes);
            }
        }
    }

    fn is_in_place(&self, wanted: &Address) -> bool {
        let Some(place) = self.addresses.up.get(&wanted.address) else { return false };
        let elsewhere = |name: &str| place.ours && name != place.interface;
        !wanted.interface.as_ref().is_some_and(|name| elsewhere(name.as_str()))
    }

    fn blame_users(&self, wanted: &Address, rejection: &Rejection, outcomes: &mut Outcomes) {
        for name in self.addresses.users(&wanted.address) {
            outcomes.entry(name.clone()).or_insert_with(|| rejection.clone());
        }
    }

    /// The interface to bring an address up on; none where it is in its place already.
    fn find_place<'a>(
        &mut self,
        wanted: &Address,
        interfaces: &'a [Interface],
        now: Moment,
    ) -> Result<Option<&'a Interface>, Rejection> {
        let address = wanted.address;
        if self.addresses.up.contains_key(&address) {
            return place(wanted, interfaces).map(Some);
        }
        if let Some(holder) = holder(interfaces, address) {
            let interface = holder.name.clone();
            let ours = self.owned.has(&Thing::Address { address, interface: interface.clone() });
            self.take_note(address, Place { index: holder.index, interface, ours }, now);
            return Ok(None);
        }
        let failed = |trouble: crate::kernel::Trouble| trouble.rejection(wanted.field);
        if self.kernel.is_local(address).map_err(failed)? {
            let interface = "lo".to_owned();
            self.addresses.up.insert(address, Place { index: 0, interface, ours: false });
            return Ok(None);
        }
        place(wanted, interfaces).map(Some)
    }

    /// Notes as owned what is about to be brought up, all at once: each note waits for the disk.
    fn own_addresses(&mut self, missing: &[(&Address, &Interface)]) -> Result<(), Rejection> {
        let things = missing.iter().map(|(wanted, interface)| {
            let address = wanted.address;
            let service = self.addresses.users(&address).next().map(ToString::to_string);
            let thing = Thing::Address { address, interface: interface.name.clone() };
            (thing, service.unwrap_or_default())
        });
        let things = things.collect();
        let noted = self.owned.add(things);
        noted.map_err(|why| rejection("STATE_NOT_WRITTEN", "", rpc::causes(&why)))
    }

    fn bring_up_one(
        &mut self,
        wanted: &Address,
        interface: &Interface,
        now: Moment,
    ) -> Result<(), Rejection> {
        let address = wanted.address;
        let added = self.kernel.add_address(interface.index, address);
        added.map_err(|trouble| trouble.rejection(wanted.field))?;
        info!(%address, interface = interface.name, "virtual address is up");
        if let Some(before) = self.addresses.up.get(&address).cloned() {
            self.remove(address, &before);
        }
        let (index, name) = (interface.index, interface.name.clone());
        self.take_note(address, Place { index, interface: name, ours: true }, now);
        Ok(())
    }

    /// An address is in its place: tells the link, and looks whether anybody else has it.
    fn take_note(&mut self, address: IpAddr, place: Place, now: Moment) {
        if place.ours {
            self.watch.announce(address, now);
        }
        self.addresses.up.insert(address, place);
    }

    /// Takes down those of `addresses` that nobody wants, if they are Gantry's.
    pub(super) fn take_down(&mut self, addresses: &BTreeSet<IpAddr>) {
        for address in addresses {
            if self.addresses.users.contains_key(address) {
                continue;
            }
            let place = self.addresses.up.remove(address);
            let place = place.or_else(|| self.left_over(*address)).filter(|place| place.ours);
            if let Some(place) = place {
                self.remove(*address, &place);
            }
            self.watch.forget(*address);
            self.addresses.owned.remove(address);
        }
    }

    /// Where an address is that was made before the start and never wanted since.
    fn left_over(&mut self, address: IpAddr) -> Option<Place> {
        let interfaces = self.kernel.interfaces().ok()?;
        let holder = holder(&interfaces, address)?;
        let interface = holder.name.clone();
        let ours = self.owned.has(&Thing::Address { address, interface: interface.clone() });
        Some(Place { index: holder.index, interface, ours })
    }

    fn remove(&mut self, address: IpAddr, place: &Place) {
        let interface = place.interface.clone();
        match self.kernel.remove_address(place.index, address) {
            Ok(()) => {
                info!(%address, interface, "virtual address is down");
                if let Err(why) = self.owned.remove(vec![Thing::Address { address, interface }]) {
                    Self::warn_not_noted(&why);
                }
            }
            Err(trouble) => {
                warn!(%address, interface, why = rpc::causes(&trouble), "address not taken down");
            }
        }
    }

    /// Puts back virtual addresses that somebody has taken away; gives which.
    pub(super) fn mend_addresses(&mut self, interfaces: &[Interface], now: Moment) -> Vec<IpAddr> {
        let missing = |(address, place): &(&IpAddr, &Place)| {
            place.ours && holder(interfaces, **address).is_none()
        };
        let missing: BTreeSet<IpAddr> =
            self.addresses.up.iter().filter(missing).map(|(address, _)| *address).collect();
        missing.iter().for_each(|address| drop(self.addresses.up.remove(address)));
        let mut outcomes = Outcomes::new();
        self.bring_up(&missing, &mut outcomes, now);
        self.journal.ailing.extend(outcomes);
        missing.into_iter().filter(|address| self.addresses.up.contains_key(address)).collect()
    }
}

impl Deployed {
    pub(super) fn wants(&self, address: IpAddr) -> bool {
        self.form.addresses.iter().any(|wanted| wanted.address == address)
    }
}
