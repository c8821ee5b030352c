//! What layer 4 needs of the machine beside IPVS: kernel settings, timeouts, the rules of nft.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use gantry_model::name::ServiceName;
use gantry_model::service::{Method, Protocol};
use gantry_proto::v1;
use gantry_runtime::rpc;
use tracing::{info, warn};

use super::{Deployed, Director, Draft, Outcomes};
use crate::desired::seconds;
use crate::host::nft::{Listed, Rules};
use crate::host::route::{self, Interface};
use crate::host::sysctl::{self, Needs, Outcome, Setting, Value};
use crate::ipvs::Timeouts;
use crate::kernel::{Kernel, Trouble};

/// What was made of the machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// The rules in force, once they were read; none: there is no table.
    rules: Option<Option<Rules>>,
    needs: Option<Needs>,
    timeouts: Option<Timeouts>,
    settings: BTreeMap<String, v1::KernelSetting>,
}

impl Machine {
    pub(super) fn settings(&self) -> Vec<v1::KernelSetting> {
        self.settings.values().cloned().collect()
    }

    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()?.as_ref()
    }
}

impl<K: Kernel> Director<K> {
    /// Makes the settings that the services need, if they need others than before; gives whether
    /// they do.
    pub(super) fn see_to_settings(&mut self) -> bool {
        let Some(needs) = self.needs() else { return false };
        let others = self.machine.needs.as_ref() != Some(&needs);
        if others {
            self.machine.needs = Some(needs);
            self.make_settings();
        }
        self.set_timeouts();
        others
    }

    /// Whether the services of a change need of the machine what they needed before, and have it. Then
    /// there is no need to ask all the others too.
    pub(super) fn is_settled(&self, draft: &Draft) -> bool {
        let same = |(name, former): (&ServiceName, &Option<Deployed>)| {
            let forms = former.as_ref().zip(self.services.get(name));
            forms.is_some_and(|(former, now)| former.form.needs_the_same(&now.form))
        };
        let is_up = |address| self.addresses.up().contains_key(address);
        self.machine.needs.is_some()
            && draft.former.iter().all(same)
            && draft.addresses.iter().all(is_up)
    }

    /// Makes settings what they should be, whoever has changed them.
    pub(super) fn make_settings(&mut self) {
        let Some(needs) = &self.machine.needs else { return };
        let settings = sysctl::settings(needs);
        let outcomes = self.kernel.ensure(&settings);
        for (setting, outcome) in settings.iter().zip(outcomes) {
            self.take_outcome(setting, &outcome);
        }
    }

    fn take_outcome(&mut self, setting: &Setting, outcome: &Outcome) {
        let known = self.machine.settings.get(&setting.name);
        let changed = outcome.before != outcome.now;
        let before = outcome.before.clone().unwrap_or_default();
        if changed {
            let (name, now) = (&setting.name, outcome.now.as_deref());
            info!(name, before, now, "kernel setting made");
        }
        if changed && known.is_some_and(|known| known.error.is_empty()) {
            let message = format!(
                "{} had become {before}, and was set to {} again",
                setting.name,
                wanted(setting)
            );
            self.journal.notice("SETTING_RESTORED", None, message);
        }
        let former = match known {
            Some(known) if !known.former.is_empty() => known.former.clone(),
            _ if changed => before,
            _ => String::new(),
        };
        let told = v1::KernelSetting {
            name: setting.name.clone(),
            wanted: wanted(setting),
            value: outcome.now.clone().unwrap_or_default(),
            former,
            purpose: setting.why.to_owned(),
            error: outcome.error.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        self.machine.settings.insert(setting.name.clone(), told);
    }

    /// What the services need; none while none is layer 4's.
    fn needs(&self) -> Option<Needs> {
        let mut needs = Needs::default();
        let mut any = false;
        for deployed in self.services.values() {
            let form = &deployed.form;
            let Some(method) = form.method else { continue };
            any = true;
            let places = form.addresses.iter().filter_map(|wanted| {
                let place = self.addresses.up().get(&wanted.address)?;
                Some((wanted.address, place.interface.clone()))
            });
            if matches!(method, Method::Nat | Method::Snat) {
                let address = deployed.plan.service.listener.address;
                needs.forwards_ipv4 |= address.is_ipv4();
                needs.forwards_ipv6 |= address.is_ipv6();
                needs.forwarding.extend(places.clone().map(|(_, interface)| interface));
            }
            if method == Method::Snat {
                needs.snat = Some(needs.snat.unwrap_or_default().max(form.idle_timeout));
            }
            if form.checked_through {
                needs.checked.extend(places.map(|(_, interface)| interface));
            }
        }
        any.then_some(needs)
    }

    /// IPVS has one idle timeout for all of TCP, and one for UDP: the longest that is wanted.
    fn set_timeouts(&mut self) {
        let longest = |protocol| {
            let forms = self.services.values().map(|deployed| &deployed.form);
            let those = forms.filter(|form| form.protocol == Some(protocol));
            those.map(|form| form.idle_timeout).max()
        };
        let (tcp, udp) = (longest(Protocol::Tcp), longest(Protocol::Udp));
        let in_seconds = |timeout: Option<Duration>| timeout.map_or(0, seconds);
        let wanted = Timeouts { tcp: in_seconds(tcp), tcp_fin: 0, udp: in_seconds(udp) };
        if self.machine.timeouts == Some(wanted) || (tcp, udp) == (None, None) {
            return;
        }
        let before = self.kernel.timeouts().ok();
        match self.kernel.set_timeouts(wanted) {
            Ok(()) => self.machine.timeouts = Some(wanted),
            Err(trouble) => warn!(why = rpc::causes(&trouble), "idle timeouts not set"),
        }
        let now = self.kernel.timeouts().ok();
        let one = |of: fn(Timeouts) -> u32| (before.map(of), now.map(of));
        self.tell_timeout("ipvs.timeout.tcp", wanted.tcp, one(|timeouts| timeouts.tcp));
        self.tell_timeout("ipvs.timeout.udp", wanted.udp, one(|timeouts| timeouts.udp));
    }

    fn tell_timeout(&mut self, name: &str, wanted: u32, (before, now): (Option<u32>, Option<u32>)) {
        if wanted == 0 {
            return;
        }
        let text = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
        let known = self.machine.settings.get(name).map(|known| known.former.clone());
        let former = if before == now { String::new() } else { text(before) };
        let told = v1::KernelSetting {
            name: name.to_owned(),
            wanted: wanted.to_string(),
            value: text(now),
            former: known.filter(|former| !former.is_empty()).unwrap_or(former),
            purpose: "silent connections are remembered for the longest layer4.idle_timeout, in \
                      seconds"
                .to_owned(),
            error: String::new(),
        };
        self.machine.settings.insert(name.to_owned(), told);
    }

    /// Looks whether somebody has changed the idle timeouts.
    pub(super) fn mend_timeouts(&mut self) {
        let Some(wanted) = self.machine.timeouts else { return };
        let Ok(now) = self.kernel.timeouts() else { return };
        let differs = |wanted: u32, now: u32| wanted != 0 && wanted != now;
        if differs(wanted.tcp, now.tcp) || differs(wanted.udp, now.udp) {
            self.machine.timeouts = None;
            self.set_timeouts();
            let message = "the idle timeouts of IPVS were changed by somebody else, and set again";
            self.journal.notice("SETTING_RESTORED", None, message);
        }
    }

    /// Reads the rules that are there, once.
    pub(super) fn read_rules(&mut self) -> Result<(), Trouble> {
        if self.machine.rules.is_none() {
            let listed = self.kernel.rules()?;
            self.machine.rules =
                Some(listed.filter(|listed| listed.whole).map(|found| found.rules));
        }
        Ok(())
    }

    fn wanted_rules(&self) -> Rules {
        let mut rules = Rules::default();
        for deployed in self.services.values() {
            let wanted = &deployed.form.rules;
            rules.marks.extend(wanted.marks.iter().map(|(key, mark)| (*key, *mark)));
            rules.sources.extend(wanted.sources.iter().map(|(key, source)| (*key, *source)));
            rules.transparent |= wanted.transparent;
        }
        rules
    }

    /// Leads the rules to what is wanted.
    pub(super) fn lead_rules(&mut self, draft: &Draft, outcomes: &mut Outcomes) {
        let wanted = self.wanted_rules();
        let done = self.read_rules().and_then(|()| self.change_rules(wanted));
        let Err(trouble) = done else { return };
        for name in draft.former.keys() {
            let concerned = self.services.get(name);
            if concerned.is_some_and(|deployed| deployed.form.rules != Rules::default()) {
                let field = concerned.map_or("", |deployed| deployed.form.rules.field());
                let rejection = trouble.rejection(field);
                outcomes.entry(name.clone()).or_insert(rejection);
            }
        }
    }

    fn change_rules(&mut self, wanted: Rules) -> Result<(), Trouble> {
        let before = self.machine.rules.take().flatten();
        if before.is_none() && wanted == Rules::default() || before.as_ref() == Some(&wanted) {
            self.machine.rules = Some(before);
            return Ok(());
        }
        self.kernel.change_rules(before.as_ref(), &wanted)?;
        self.machine.rules = Some(Some(wanted));
        Ok(())
    }

    /// Puts the rules back that somebody has changed; gives what was found, with its counters, and
    /// whether it had to be mended.
    pub(super) fn mend_rules(&mut self) -> (Option<Listed>, bool) {
        let Some(wanted) = self.machine.rules().cloned() else { return (None, false) };
        let listed = match self.kernel.rules() {
            Ok(listed) => listed,
            Err(trouble) => {
                warn!(why = rpc::causes(&trouble), "the rules of nft cannot be read");
                return (None, false);
            }
        };
        let right = |listed: &Listed| listed.whole && listed.rules == wanted;
        if listed.as_ref().is_some_and(right) {
            return (listed, false);
        }
        self.machine.rules = Some(listed.filter(|listed| listed.whole).map(|found| found.rules));
        if let Err(trouble) = self.change_rules(wanted) {
            warn!(why = rpc::causes(&trouble), "the rules of nft cannot be put back");
        }
        (None, true)
    }
}

fn wanted(setting: &Setting) -> String {
    match setting.value {
        Value::Exactly(value) | Value::AtLeast(value) => value.to_string(),
    }
}

/// An address by which this machine itself may be answered: one of the interface in `network`'s
/// network that is not a virtual one.
pub(super) fn own_address(
    interfaces: &[Interface],
    server: IpAddr,
    is_virtual: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let interface = route::interface_for(interfaces, server)?;
    let usable = interface.addresses.iter().filter(|held| {
        held.address.is_ipv4() == server.is_ipv4()
            && held.has_network()
            && !is_virtual(&held.address)
    });
    usable.map(|held| held.address).next()
}
