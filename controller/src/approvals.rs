//! What operators have approved of: the removals in one very state, for one agent.
//!
//! Kept in memory only, until the agent has taken the state. An approval that is forgotten by a
//! restart is asked for again: the agent holds back what it was not told to take.

use std::collections::HashMap;

use gantry_model::agent::AgentName;
use gantry_model::name::ApplianceName;
use gantry_model::revision::{Revision, SetHash};
use parking_lot::RwLock;
use tokio::sync::watch;

/// The approvals that stand.
#[derive(Debug, Default)]
pub struct Approvals {
    given: RwLock<HashMap<AgentName, (Revision, SetHash)>>,
    count: watch::Sender<u64>,
}

impl Approvals {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `agent` take the state with this revision and hash, whatever it removes.
    pub fn approve(&self, agent: AgentName, revision: Revision, hash: SetHash) {
        self.given.write().insert(agent, (revision, hash));
        self.count.send_modify(|count| *count += 1);
    }

    /// Whether the removals in this very state are approved of.
    pub fn cover(&self, agent: &AgentName, revision: Revision, hash: SetHash) -> bool {
        self.given.read().get(agent) == Some(&(revision, hash))
    }

    /// The agent has the state with this revision in force: what was approved of up to there is
    /// done, or is no longer offered.
    pub fn spend(&self, agent: &AgentName, in_force: Revision) {
        let done = self.given.read().get(agent).is_some_and(|(revision, _)| *revision <= in_force);
        if done {
            self.given.write().remove(agent);
        }
    }

    /// An appliance was removed: so are the approvals for its agents.
    pub fn forget(&self, appliance: &ApplianceName) {
        self.given.write().retain(|agent, _| agent.appliance != *appliance);
    }

    /// Changes whenever something is approved of.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use gantry_model::agent::AgentKind;
    use gantry_model::revision::ItemHash;

    use super::*;

    #[test]
    fn an_approval_is_for_one_agent_and_one_very_state() {
        let appliance: ApplianceName = "clusters/main/appliances/lb1".parse().unwrap();
        let [l7, health] = [AgentKind::L7, AgentKind::Health]
            .map(|kind| AgentName { appliance: appliance.clone(), kind });
        let (revision, hash) = (Revision { epoch: 2, number: 7 }, SetHash::default());
        let mut other_hash = hash;
        other_hash.toggle(&ItemHash::of("a", b"1"));
        let approvals = Approvals::new();
        approvals.approve(l7.clone(), revision, hash);
        assert!(approvals.cover(&l7, revision, hash));
        assert!(!approvals.cover(&health, revision, hash));
        assert!(!approvals.cover(&l7, revision, other_hash));
        assert!(!approvals.cover(&l7, Revision { epoch: 2, number: 8 }, hash));
        approvals.spend(&health, revision);
        approvals.spend(&l7, Revision { epoch: 1, number: 9 });
        assert!(approvals.cover(&l7, revision, hash), "it was not taken yet");
        approvals.spend(&l7, revision);
        assert!(!approvals.cover(&l7, revision, hash));
        approvals.approve(l7.clone(), revision, hash);
        approvals.forget(&appliance);
        assert!(!approvals.cover(&l7, revision, hash));
    }
}
