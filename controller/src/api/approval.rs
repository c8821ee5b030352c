//! FleetService.ApproveRemovals: lets agents take a configuration that they hold back.

use gantry_model::agent::AgentName;
use gantry_model::name::ApplianceName;
use gantry_model::revision::{Revision, SetHash};
use gantry_proto::v1 as pb;

use super::Control;
use super::error::ApiError;
use super::resources;
use crate::store::{Change, NewEvent};

/// A state that an agent holds back.
struct Hold {
    agent: AgentName,
    revision: Revision,
    hash: SetHash,
    removal_count: i32,
}

pub(super) async fn approve(
    control: &Control,
    actor: String,
    request: pb::ApproveRemovalsRequest,
) -> Result<pb::Appliance, ApiError> {
    let name: ApplianceName =
        request.name.parse().map_err(|error| ApiError::name("name", &error))?;
    let wanted = revision(&request.revision)?;
    let state = control.state();
    let not_found = || ApiError::NotFound { kind: "appliance", name: request.name.clone() };
    let entry = state.appliance(&name).ok_or_else(not_found)?;
    let holds = on_offer(control, &name, holds(control, &name, wanted)?)?;
    let events = holds.iter().map(|hold| event(&name, hold)).collect();
    let change = Change { actor, comment: request.comment, events, ..Change::default() };
    control.change(|_| Ok((change, ()))).await?;
    for hold in holds {
        control.approvals.approve(hold.agent, hold.revision, hold.hash);
    }
    Ok(control.with_facts(|facts| resources::appliance(entry, facts)))
}

/// What the agents of the appliance hold back now: all, or the revision wanted.
fn holds(
    control: &Control,
    name: &ApplianceName,
    wanted: Option<Revision>,
) -> Result<Vec<Hold>, ApiError> {
    let holds: Vec<Hold> = control.observed.read(|agents| {
        let own = crate::observed::of_cluster(agents, &name.cluster);
        let own = own.filter(|(agent, seen)| agent.appliance == *name && seen.is_connected());
        own.filter_map(|(agent, seen)| {
            let held = seen.held_back()?;
            Some(Hold {
                agent: agent.clone(),
                revision: held.revision?.into(),
                hash: held.hash.parse().ok()?,
                removal_count: held.removal_count,
            })
        })
        .collect()
    });
    if holds.is_empty() {
        let message = format!("no agent of {name} that is connected holds a configuration back");
        return Err(refused("NOTHING_HELD", name, message));
    }
    let Some(wanted) = wanted else { return Ok(holds) };
    let held: Vec<_> = holds.iter().map(|hold| hold.revision.to_string()).collect();
    let right: Vec<_> = holds.into_iter().filter(|hold| hold.revision == wanted).collect();
    if right.is_empty() {
        let held = held.join(", ");
        let message = format!("{name} holds back revision {held} now, not {wanted}: look again");
        return Err(refused("OTHER_REVISION_HELD", name, message));
    }
    Ok(right)
}

/// Gives `holds` back if each is of what this controller has to offer now.
fn on_offer(
    control: &Control,
    name: &ApplianceName,
    holds: Vec<Hold>,
) -> Result<Vec<Hold>, ApiError> {
    for hold in &holds {
        let shelf = control.publisher.shelf(&name.cluster(), hold.agent.kind);
        if !shelf.is_some_and(|shelf| shelf.is_at(hold.revision, hold.hash)) {
            let Hold { agent, revision, .. } = hold;
            let message = format!(
                "the configuration has changed since {agent} said that it holds back revision \
                 {revision}: wait for its next word, and look again"
            );
            return Err(refused("OUTDATED_HOLD", name, message));
        }
    }
    Ok(holds)
}

fn event(name: &ApplianceName, hold: &Hold) -> NewEvent {
    let Hold { agent, revision, removal_count, .. } = hold;
    let kind = agent.kind;
    let message = format!(
        "{kind} may take revision {revision}, which removes {removal_count} virtual services"
    );
    NewEvent::info("REMOVALS_APPROVED", name, &message)
}

fn refused(reason: &'static str, name: &ApplianceName, message: String) -> ApiError {
    ApiError::Precondition { reason, subject: name.to_string(), message }
}

fn revision(text: &str) -> Result<Option<Revision>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.split_once('.').and_then(|(epoch, number)| {
        Some(Revision { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    });
    let shown: String = text.chars().take(80).collect();
    let what = format!("{shown:?} does not have the form epoch.number, such as \"1.118\"");
    parsed.map(Some).ok_or_else(|| ApiError::field("revision", "INVALID_REVISION", what))
}
