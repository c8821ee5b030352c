//! The machine that this process runs on.

use std::net::{IpAddr, Ipv4Addr};

use super::{Kernel, Trouble};
use crate::host::nft::{self, Listed, Rules};
use crate::host::packet::{Announcer, Claim};
use crate::host::route::{Interface, Neighbour, PolicyRule, Route};
use crate::host::sysctl::{self, Outcome, Setting};
use crate::ipvs::{
    Client, DestinationEntry, Error, Failure, Operation, ServiceEntry, ServiceKey, Timeouts,
};

/// The network namespace of the thread that opened this.
#[derive(Debug)]
pub struct Linux {
    /// Opened when it is needed: a kernel may get its IPVS later.
    ipvs: Option<Client>,
    route: Route,
    announcer: Announcer,
}

impl Linux {
    pub fn open() -> Result<Self, Trouble> {
        let route = Route::open().map_err(Trouble::Packet)?;
        let announcer = Announcer::open().map_err(Trouble::Packet)?;
        Ok(Self { ipvs: None, route, announcer })
    }

    fn ipvs<T>(&mut self, ask: impl FnOnce(&mut Client) -> Result<T, Error>) -> Result<T, Trouble> {
        let client = match &mut self.ipvs {
            Some(client) => client,
            None => self.ipvs.insert(Client::open().map_err(Trouble::NoIpvs)?),
        };
        ask(client).map_err(Trouble::Ipvs)
    }
}

impl Kernel for Linux {
    fn services(&mut self) -> Result<Vec<ServiceEntry>, Trouble> {
        self.ipvs(Client::services)
    }

    fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<DestinationEntry>, Trouble> {
        self.ipvs(|client| client.destinations(key))
    }

    fn program(&mut self, operations: &[Operation]) -> Result<Vec<Failure>, Trouble> {
        self.ipvs(|client| client.apply(operations))
    }

    fn timeouts(&mut self) -> Result<Timeouts, Trouble> {
        self.ipvs(Client::timeouts)
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Trouble> {
        self.ipvs(|client| client.set_timeouts(timeouts))
    }

    fn interfaces(&mut self) -> Result<Vec<Interface>, Trouble> {
        self.route.interfaces().map_err(Trouble::Route)
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, Trouble> {
        self.route.is_local(address).map_err(Trouble::Route)
    }

    fn add_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble> {
        self.route.add_address(index, address, None).map_err(Trouble::Route)
    }

    fn remove_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble> {
        self.route.remove_address(index, address).map_err(Trouble::Route)
    }

    fn neighbours(&mut self) -> Result<Vec<Neighbour>, Trouble> {
        self.route.neighbours().map_err(Trouble::Route)
    }

    fn mark_rules(&mut self) -> Result<Vec<PolicyRule>, Trouble> {
        self.route.mark_rules().map_err(Trouble::Route)
    }

    fn rules(&mut self) -> Result<Option<Listed>, Trouble> {
        let Some(mut listed) = nft::read().map_err(Trouble::Nft)? else { return Ok(None) };
        // The mark is of no use without the rule that goes by it.
        if listed.rules.transparent {
            listed.whole &= self.route.has_return().map_err(Trouble::Route)?;
        }
        Ok(Some(listed))
    }

    fn change_rules(&mut self, before: Option<&Rules>, after: &Rules) -> Result<(), Trouble> {
        if after.transparent {
            self.route.add_return().map_err(Trouble::Route)?;
        }
        nft::change(before, after).map_err(Trouble::Nft)?;
        if !after.transparent && before.is_none_or(|before| before.transparent) {
            self.route.remove_return().map_err(Trouble::Route)?;
        }
        Ok(())
    }

    fn foreign_marks(&mut self) -> Result<Vec<String>, Trouble> {
        nft::foreign_marks().map_err(Trouble::Nft)
    }

    fn ensure(&mut self, settings: &[Setting]) -> Vec<Outcome> {
        sysctl::ensure(settings)
    }

    fn announce(&mut self, interface: &Interface, address: IpAddr) -> Result<(), Trouble> {
        let Some(hardware) = interface.hardware else { return Ok(()) };
        let announcer = &self.announcer;
        match address {
            IpAddr::V4(address) => announcer.gratuitous_arp(interface.index, hardware, address),
            IpAddr::V6(address) => {
                announcer.unsolicited_advertisement(interface.index, hardware, address)
            }
        }
        .map_err(Trouble::Packet)
    }

    fn probe(&mut self, interface: &Interface, address: Ipv4Addr) -> Result<(), Trouble> {
        let Some(hardware) = interface.hardware else { return Ok(()) };
        self.announcer.probe(interface.index, hardware, address).map_err(Trouble::Packet)
    }

    fn heard(&mut self) -> Result<Vec<Claim>, Trouble> {
        self.announcer.heard().map_err(Trouble::Packet)
    }
}
