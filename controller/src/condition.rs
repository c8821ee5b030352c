//! What an agent sees of its machine: findings and kernel settings, fit to be kept and shown.
//!
//! Pure. An agent speaks of its own appliance and of the virtual services of its own cluster, and of
//! nothing else; what it says has a bounded size. What becomes of it is another matter: `status`
//! shows it, `api::agent` turns what is new into events.

use std::collections::BTreeMap;

use gantry_model::agent::AgentName;
use gantry_model::name::{ServerName, ServiceName};
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use tracing::warn;

/// Every service of a large cluster may be found fault with at once.
const MOST_FINDINGS: usize = 20_000;
const MOST_SETTINGS: usize = 200;
const LONGEST_TEXT: usize = 1000;
const LONGEST_WORD: usize = 64;

/// What one agent said last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// By virtual service or appliance: what concerns a real server is with its service.
    findings: BTreeMap<String, Vec<pb::Finding>>,
    pub settings: Vec<pb::KernelSetting>,
}

impl Condition {
    /// Takes what `agent` said, as far as it has a say.
    pub fn read(agent: &AgentName, said: agent_pb::Condition) -> Self {
        let count = said.findings.len();
        if count > MOST_FINDINGS {
            warn!(%agent, count, kept = MOST_FINDINGS, "more findings than are kept");
        }
        let mut condition = Self::default();
        for finding in said.findings.into_iter().take(MOST_FINDINGS) {
            let Some(about) = About::read(agent, &finding.resource) else {
                warn!(%agent, resource = text(&finding.resource), "a finding that is not its own");
                continue;
            };
            let finding = pb::Finding {
                appliance: agent.appliance.to_string(),
                agent: agent.kind.to_string(),
                reason: word(&finding.reason),
                message: text(&finding.message),
                resource: about.resource,
            };
            let known = condition.findings.entry(about.holder).or_default();
            if !known.contains(&finding) {
                known.push(finding);
            }
        }
        condition.settings = said.settings.iter().take(MOST_SETTINGS).map(setting).collect();
        condition
    }

    /// What is wrong with this service or appliance.
    pub fn findings_of(&self, resource: &str) -> &[pb::Finding] {
        self.findings.get(resource).map_or(&[], Vec::as_slice)
    }

    pub fn findings(&self) -> impl Iterator<Item = &pb::Finding> {
        self.findings.values().flatten()
    }
}

/// What something that an agent says is about.
#[derive(Debug, PartialEq, Eq)]
pub struct About {
    /// The name given; that of the appliance, if none was.
    pub resource: String,
    /// The virtual service or the appliance whose status shows it.
    holder: String,
}

impl About {
    /// None if it is not for `agent` to speak of.
    pub fn read(agent: &AgentName, given: &str) -> Option<Self> {
        let appliance = agent.appliance.to_string();
        if given.is_empty() || given == appliance {
            return Some(Self { resource: appliance.clone(), holder: appliance });
        }
        let service = match given.parse::<ServiceName>() {
            Ok(service) => service,
            Err(_) => given.parse::<ServerName>().ok()?.service,
        };
        let own = service.cluster == agent.appliance.cluster;
        own.then(|| Self { resource: given.to_owned(), holder: service.to_string() })
    }
}

fn setting(said: &pb::KernelSetting) -> pb::KernelSetting {
    pb::KernelSetting {
        name: text(&said.name),
        wanted: text(&said.wanted),
        value: text(&said.value),
        former: text(&said.former),
        purpose: text(&said.purpose),
        error: text(&said.error),
    }
}

/// A name for programs, such as `ADDRESS_CONFLICT`.
pub fn word(given: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let good = (1..=LONGEST_WORD).contains(&given.len()) && given.bytes().all(fits);
    if good { given.to_owned() } else { "UNKNOWN".to_owned() }
}

/// Words for people, on one line and not without end.
pub fn text(given: &str) -> String {
    let mut letters = given.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = letters.by_ref().take(LONGEST_TEXT).collect();
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use gantry_model::agent::AgentKind;

    use super::*;

    fn agent() -> AgentName {
        AgentName {
            appliance: "clusters/main/appliances/lb1".parse().unwrap(),
            kind: AgentKind::L4,
        }
    }

    fn finding(resource: &str, reason: &str) -> pb::Finding {
        pb::Finding {
            // What an agent has no say in.
            appliance: "clusters/main/appliances/lb2".to_owned(),
            agent: "healthd".to_owned(),
            reason: reason.to_owned(),
            message: "two\nlines".to_owned(),
            resource: resource.to_owned(),
        }
    }

    #[test]
    fn an_agent_speaks_of_its_own_appliance_and_cluster_only() {
        const LB1: &str = "clusters/main/appliances/lb1";
        const DICOM: &str = "clusters/main/virtualServices/dicom";
        let server = format!("{DICOM}/realServers/pacs-1");
        for (given, resource, holder) in
            [("", LB1, LB1), (LB1, LB1, LB1), (DICOM, DICOM, DICOM), (&server, &server, DICOM)]
        {
            let about = About { resource: resource.to_owned(), holder: holder.to_owned() };
            assert_eq!(About::read(&agent(), given), Some(about), "{given}");
        }
        for given in [
            "clusters/main/appliances/lb2",
            "clusters/lab/virtualServices/dicom",
            "clusters/lab/virtualServices/dicom/realServers/pacs-1",
            "clusters/main",
            "users/admin",
            "dicom",
        ] {
            assert_eq!(About::read(&agent(), given), None, "{given}");
        }
    }

    #[test]
    fn what_is_said_is_kept_by_whom_it_concerns() {
        const DICOM: &str = "clusters/main/virtualServices/dicom";
        let said = agent_pb::Condition {
            findings: vec![
                finding(DICOM, "ADDRESS_CONFLICT"),
                finding(DICOM, "ADDRESS_CONFLICT"),
                finding(&format!("{DICOM}/realServers/a"), "not a word"),
                finding("", "FOREIGN_TABLE"),
                finding("clusters/lab/virtualServices/dicom", "ADDRESS_CONFLICT"),
            ],
            settings: vec![pb::KernelSetting { name: "x".repeat(5000), ..Default::default() }],
        };
        let condition = Condition::read(&agent(), said);
        let of_service = condition.findings_of(DICOM);
        let reasons: Vec<_> = of_service.iter().map(|finding| finding.reason.as_str()).collect();
        assert_eq!(reasons, ["ADDRESS_CONFLICT", "UNKNOWN"]);
        let one = &of_service[0];
        assert_eq!(one.appliance, "clusters/main/appliances/lb1");
        assert_eq!((one.agent.as_str(), one.message.as_str()), ("agent-l4", "two lines"));
        assert_eq!(condition.findings_of("clusters/main/appliances/lb1").len(), 1);
        assert_eq!(condition.findings().count(), 3);
        assert_eq!(condition.settings[0].name.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn what_has_no_end_is_cut() {
        let findings = (0..MOST_FINDINGS + 5)
            .map(|at| pb::Finding { message: at.to_string(), ..finding("", "MANY") })
            .collect();
        let said = agent_pb::Condition { findings, settings: Vec::new() };
        assert_eq!(Condition::read(&agent(), said).findings().count(), MOST_FINDINGS);
    }
}
