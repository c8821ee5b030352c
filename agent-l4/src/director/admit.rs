//! Whether a plan can be put in force on this machine, before anything is touched: each conflict is a
//! rejection of that service alone, with a reason and the way out.

use std::net::IpAddr;

use gantry_model::address;
use gantry_model::plan::ServicePlan;
use gantry_model::service::Method;
use gantry_runtime::agent::Rejection;

use super::addresses::{holder, place};
use super::program::foreign;
use super::{Director, Moment};
use crate::desired::{Address, Form};
use crate::host::route::{self, Interface, PolicyRule};
use crate::ipvs::{Family, ServiceKey};
use crate::kernel::{Kernel, Trouble, rejection};
use crate::owned::Thing;

/// What was looked up on the machine for one change; once, whatever the number of plans.
#[derive(Debug, Default)]
pub(super) struct Look {
    interfaces: Option<Vec<Interface>>,
    marks: Option<(Vec<PolicyRule>, Vec<String>)>,
}

impl<K: Kernel> Director<K> {
    /// What `plan` wants, if the machine can give it.
    pub(super) fn admit(
        &mut self,
        plan: &ServicePlan,
        look: &mut Look,
        now: Moment,
    ) -> Result<Form, Rejection> {
        let form = self.form(plan, now);
        if plan.service.needs_mark() && plan.mark.is_none() && form.method.is_some() {
            let message = "it needs a firewall mark, and the controller has given it none: update \
                           the controller";
            return Err(rejection("NO_MARK", "listener.ports", message));
        }
        if form.method.is_some() {
            self.check_table(&form)?;
        }
        self.check_rules(&form, look)?;
        for wanted in &form.addresses {
            self.check_address(wanted, look)?;
        }
        if form.method == Some(Method::Nat) {
            let interfaces = self.interfaces(look)?;
            check_arms(plan, interfaces)?;
        }
        Ok(form)
    }

    /// No one else's kernel service is in the way.
    fn check_table(&mut self, form: &Form) -> Result<(), Rejection> {
        let in_layer4 = |trouble: Trouble| trouble.rejection("layer4");
        self.table.read(&mut self.kernel, &self.owned).map_err(in_layer4)?;
        for key in form.services.keys() {
            if let Some(other) = self.claims.get(key) {
                let message = format!("{key} is carried for {other} already: use another address");
                return Err(rejection("ADDRESS_IN_USE", "listener", message));
            }
            if self.table.is_foreign(key) {
                self.adopt(key)?;
            }
        }
        Ok(())
    }

    /// Takes over what somebody else has made, if that was asked for and it is still there.
    fn adopt(&mut self, key: &ServiceKey) -> Result<(), Rejection> {
        let in_layer4 = |trouble: Trouble| trouble.rejection("layer4");
        let entries = self.kernel.services().map_err(in_layer4)?;
        let Some(entry) = entries.into_iter().find(|entry| entry.key == *key) else {
            self.table.is_gone(key);
            return Ok(());
        };
        let ours = self.owned.has(&Thing::Ipvs(*key));
        if !ours && !self.settings.adopt {
            return Err(foreign(key));
        }
        self.table.adopt(&mut self.kernel, entry).map_err(in_layer4)?;
        if ours {
            return Ok(());
        }
        let thing = vec![(Thing::Ipvs(*key), String::new())];
        if let Err(why) = self.owned.add(thing) {
            Self::warn_not_noted(&why);
        }
        tracing::info!(%key, "adopted");
        self.journal.notice(
            "SERVICE_ADOPTED",
            None,
            format!("{key} was in the kernel already and was taken over with its connections"),
        );
        Ok(())
    }

    /// nft is there where rules are needed, and nobody else sets the marks of packets.
    fn check_rules(&mut self, form: &Form, look: &mut Look) -> Result<(), Rejection> {
        let field = form.rules.field();
        if form.rules != Default::default() {
            self.read_rules().map_err(|trouble| trouble.rejection(field))?;
        }
        if form.rules.marks.is_empty() {
            return Ok(());
        }
        if look.marks.is_none() {
            let failed = |trouble: Trouble| trouble.rejection(field);
            let rules = self.kernel.mark_rules().map_err(failed)?;
            look.marks = Some((rules, self.kernel.foreign_marks().map_err(failed)?));
        }
        let Some((rules, foreign)) = &look.marks else { return Ok(()) };
        check_marks(form, rules, foreign)
    }

    fn check_address(&mut self, wanted: &Address, look: &mut Look) -> Result<(), Rejection> {
        let known = self.addresses.up().get(&wanted.address);
        if known.is_some_and(|place| {
            wanted.interface.as_ref().is_none_or(|name| place.interface == name.as_str())
        }) {
            return Ok(());
        }
        let interfaces = self.interfaces(look)?;
        if holder(interfaces, wanted.address).is_some() || place(wanted, interfaces).is_ok() {
            return Ok(());
        }
        let local = self.kernel.is_local(wanted.address);
        if local.map_err(|trouble| trouble.rejection(wanted.field))? {
            return Ok(());
        }
        place(wanted, self.interfaces(look)?).map(drop)
    }

    pub(super) fn interfaces<'a>(
        &mut self,
        look: &'a mut Look,
    ) -> Result<&'a [Interface], Rejection> {
        if look.interfaces.is_none() {
            let found = self.kernel.interfaces();
            look.interfaces = Some(found.map_err(|trouble| trouble.rejection("listener.address"))?);
        }
        Ok(look.interfaces.as_deref().unwrap_or_default())
    }
}

/// IPVS knows the service by the whole mark of its packets: nobody else may set it, and nobody may
/// route by it.
fn check_marks(form: &Form, rules: &[PolicyRule], foreign: &[String]) -> Result<(), Rejection> {
    let refuse = |message| Err(rejection("MARK_IN_USE", "listener.ports", message));
    if let Some(rule) = foreign.first() {
        return refuse(format!(
            "several ports with persistence are known to the kernel by the mark of their packets, and \
             somebody else sets marks here ({rule}): take that rule away, or use one port for each \
             virtual service, or layer7"
        ));
    }
    for mark in form.rules.marks.values() {
        // A rule with mask 0 is for every packet and does not go by marks.
        let meets = |rule: &&PolicyRule| rule.mask != 0 && mark & rule.mask == rule.mark;
        if let Some(rule) = rules.iter().find(meets) {
            return refuse(format!(
                "the policy rule {} routes by packet mark {:#x}/{:#x}, which packets of this service \
                 ({mark:#x}) have, too: change the rule's mask, or use one port for each virtual service",
                rule.priority, rule.mark, rule.mask
            ));
        }
    }
    Ok(())
}

/// With NAT the real servers have to answer by way of the appliance. Where it has one network only,
/// clients and servers share it, and servers answer clients directly, who know nothing of them.
fn check_arms(plan: &ServicePlan, interfaces: &[Interface]) -> Result<(), Rejection> {
    let virtual_address = plan.service.listener.address;
    let family = Family::of(virtual_address);
    let networks = interfaces.iter().filter(|interface| !interface.loopback);
    let networks = networks.flat_map(|interface| interface.addresses.iter());
    let mut networks: Vec<_> = networks
        .filter(|held| Family::of(held.address) == family && held.has_network())
        .map(|held| (address::network(held.address, held.prefix), held.prefix))
        .collect();
    networks.sort_unstable();
    networks.dedup();
    let shared = |server: IpAddr| {
        let (one, other) = (
            route::interface_for(interfaces, virtual_address),
            route::interface_for(interfaces, server),
        );
        one.is_some() && one.map(|found| found.index) == other.map(|found| found.index)
    };
    let server = plan.servers.iter().find(|server| shared(server.endpoint.address));
    match (networks.as_slice(), server) {
        ([(network, prefix)], Some(server)) => {
            let message = format!(
                "NAT needs two arms, and this appliance has one: clients in {network}/{prefix} share it \
                 with {}, which would answer them directly, not through here. Use method SNAT or DR, or \
                 give the appliance a second network for the real servers",
                server.name.server
            );
            Err(rejection("ONE_ARM_NAT", "layer4.method", message))
        }
        _ => Ok(()),
    }
}
