//! What the overview says, as far as `up` cares: is everything there, and if not, what is missing.
//!
//! Read from `gantry overview -o json`, so it is what an operator would see.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Overview {
    pub(super) rows: Vec<Row>,
    appliances: Vec<Appliance>,
    pub(super) clusters: Vec<Cluster>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cluster {
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Row {
    pub(super) service: Service,
    real_servers: Vec<RealServer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Service {
    name: String,
    display_name: String,
    pub(super) listener: Listener,
    pub(super) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listener {
    pub(super) address: String,
    pub(super) ports: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) state: String,
    reconciling: bool,
    stale: bool,
    pub(super) healthy_count: u32,
    pub(super) real_server_count: u32,
    message: String,
    rejections: Vec<Rejection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rejection {
    agent: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RealServer {
    name: String,
    status: ServerStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServerStatus {
    state: String,
    last_check: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Appliance {
    agents: Vec<Agent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Agent {
    agent: String,
    connected: bool,
    current: bool,
}

impl Service {
    /// What people call it.
    pub(super) fn label(&self) -> &str {
        if self.display_name.is_empty() { last(&self.name) } else { &self.display_name }
    }
}

impl Overview {
    /// What is not as it should be, a line each; nothing when all is well. `agents` are to report.
    pub(super) fn missing(&self, agents: &[&str]) -> Vec<String> {
        self.missing_agents(agents).chain(self.rows.iter().filter_map(Row::missing)).collect()
    }

    /// Whether waiting longer cannot help: the agents know everything, and what is not up is
    /// refused by one of them or in want of one that does not run here.
    pub(super) fn is_hopeless(&self, agents: &[&str]) -> bool {
        let mut left = self.rows.iter().filter(|row| !row.is_settled()).peekable();
        let settled = self.missing_agents(agents).next().is_none();
        settled && left.peek().is_some() && left.all(Row::is_hopeless)
    }

    fn missing_agents(&self, agents: &[&str]) -> impl Iterator<Item = String> {
        agents.iter().filter_map(|wanted| {
            let mut known = self.appliances.iter().flat_map(|appliance| &appliance.agents);
            match known.find(|agent| agent.agent == *wanted) {
                Some(agent) if agent.connected && agent.current => None,
                Some(agent) if agent.connected => Some(format!("{wanted} is behind")),
                _ => Some(format!("{wanted} does not report")),
            }
        })
    }
}

impl Row {
    /// Whether there is nothing to wait for any more. Servers that an operator took out stay out.
    fn is_settled(&self) -> bool {
        let status = &self.service.status;
        let good = match status.state.as_str() {
            "UP" | "OFF" => true,
            "DEGRADED" => self.real_servers.iter().all(|server| server.missing().is_none()),
            _ => false,
        };
        good && !status.reconciling && !status.stale
    }

    fn is_hopeless(&self) -> bool {
        let status = &self.service.status;
        !status.rejections.is_empty() || status.state == "NOT_IN_FORCE"
    }

    fn missing(&self) -> Option<String> {
        if self.is_settled() {
            return None;
        }
        let status = &self.service.status;
        let label = self.service.label();
        let mut why: Vec<String> = status
            .rejections
            .iter()
            .map(|rejection| format!("{} refuses: {}", rejection.agent, rejection.message))
            .collect();
        if why.is_empty() && status.state != "NOT_IN_FORCE" {
            why.extend(self.real_servers.iter().filter_map(RealServer::missing));
        }
        if why.is_empty() {
            why.push(if status.message.is_empty() {
                "not heard of yet".into()
            } else {
                status.message.clone()
            });
        }
        let state = status.state.to_lowercase().replace('_', " ");
        let state = if state.is_empty() { "unknown" } else { &state };
        let why = why.join("; ");
        let why = why.strip_prefix(&format!("{state}: ")).unwrap_or(&why);
        Some(format!("{label} is {state}: {why}"))
    }
}

impl RealServer {
    fn missing(&self) -> Option<String> {
        let name = last(&self.name);
        match self.status.state.as_str() {
            "SERVING" | "DRAINING" | "HALTED" => None,
            "FAILED" => Some(format!("{name} {}", self.status.last_check)),
            _ => Some(format!("{name} is not checked yet")),
        }
    }
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENTS: [&str; 2] = ["agent-l7", "healthd"];

    fn overview(status: &str, server: &str) -> Overview {
        let text = format!(
            r#"{{"clusters": [{{"name": "clusters/main"}}],
                "appliances": [{{"agents": [
                    {{"agent": "agent-l7", "connected": true, "current": true, "version": "1"}},
                    {{"agent": "healthd", "connected": true, "current": true}}]}}],
                "rows": [{{"service": {{"name": "clusters/main/virtualServices/hl7",
                        "listener": {{"address": "10.0.0.1", "ports": ["2575"]}},
                        "status": {status}}},
                    "realServers": [{{"name": "a/hl71", "status": {server}}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn all_well_means_nothing_missing() {
        let up = overview(r#"{"state": "UP", "healthyCount": 1}"#, r#"{"state": "SERVING"}"#);
        assert_eq!(up.missing(&AGENTS), [""; 0]);
        assert!(!up.is_hopeless(&AGENTS));
        let drained = overview(r#"{"state": "DEGRADED"}"#, r#"{"state": "DRAINING"}"#);
        assert_eq!(drained.missing(&AGENTS), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_said_with_its_cause() {
        let failed = r#"{"state": "FAILED", "lastCheck": "connection refused in 0 ms"}"#;
        let down = overview(r#"{"state": "DOWN"}"#, failed);
        assert_eq!(down.missing(&AGENTS), ["hl7 is down: hl71 connection refused in 0 ms"]);
        let early = overview("{}", "{}");
        assert_eq!(early.missing(&AGENTS), ["hl7 is unknown: hl71 is not checked yet"]);
        assert_eq!(
            Overview::default().missing(&AGENTS),
            ["agent-l7 does not report", "healthd does not report"]
        );
        assert_eq!(down.missing(&["agent-l4"])[0], "agent-l4 does not report");
    }

    #[test]
    fn a_refusal_ends_the_waiting() {
        let refused = overview(
            r#"{"state": "NOT_IN_FORCE",
                "rejections": [{"agent": "agent-l7", "message": "the port is taken"}]}"#,
            "{}",
        );
        assert!(refused.is_hopeless(&AGENTS));
        let message = r#"{"state": "NOT_IN_FORCE", "message": "not in force: no agent-l4"}"#;
        let layer4 = overview(message, r#"{"state": "FAILED"}"#);
        assert!(layer4.is_hopeless(&AGENTS));
        assert_eq!(layer4.missing(&AGENTS), ["hl7 is not in force: no agent-l4"]);
        assert_eq!(
            refused.missing(&AGENTS),
            ["hl7 is not in force: agent-l7 refuses: the port is taken"]
        );
    }
}
