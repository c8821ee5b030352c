//! Differences as the API tells them: field by field, with values, and in plans with what they cut.

use std::collections::HashMap;

use gantry_proto::v1 as pb;
use pb::change::Action;

use crate::api::fields::{self, Reflected};
use crate::difference::{Difference, Resource};
use crate::effects::Effect;
use crate::status::Facts;

/// Of what is created and deleted, all that was set, too.
pub(super) fn in_full(differences: &[Difference]) -> Vec<pb::Change> {
    differences.iter().map(|difference| change(difference, true)).collect()
}

/// Only fields that changed: who sent a document knows what was in it, and the answer to one that
/// creates thousands of services must fit into a message.
pub(super) fn in_brief(differences: &[Difference]) -> Vec<pb::Change> {
    differences.iter().map(|difference| change(difference, false)).collect()
}

fn change(difference: &Difference, in_full: bool) -> pb::Change {
    let Difference { name, before, after } = difference;
    let action = match (before, after) {
        (None, _) => Action::Create,
        (Some(_), Some(_)) => Action::Update,
        (Some(_), None) => Action::Delete,
    };
    let field_changes = match (before, after) {
        (Some(before), Some(after)) => field_changes(before, after),
        (Some(one), None) if in_full => field_changes(one, &unset(one)),
        (None, Some(one)) if in_full => field_changes(&unset(one), one),
        _ => Vec::new(),
    };
    pb::Change {
        action: action.into(),
        name: name.clone(),
        fields: field_changes.iter().map(|change| change.path.clone()).collect(),
        field_changes,
        cuts: Vec::new(),
    }
}

fn field_changes(before: &Resource, after: &Resource) -> Vec<pb::FieldChange> {
    match (before, after) {
        (Resource::Cluster(before), Resource::Cluster(after)) => changes(before, after),
        (Resource::Service(before), Resource::Service(after)) => changes(&**before, &**after),
        (Resource::Server(before), Resource::Server(after)) => changes(&**before, &**after),
        // A name is of one kind of resource.
        _ => Vec::new(),
    }
}

fn changes<M: Reflected>(before: &M, after: &M) -> Vec<pb::FieldChange> {
    fields::changes(before, after)
}

/// A resource of the same kind with nothing set.
fn unset(resource: &Resource) -> Resource {
    match resource {
        Resource::Cluster(_) => Resource::Cluster(pb::Cluster::default()),
        Resource::Service(_) => Resource::Service(Box::default()),
        Resource::Server(_) => Resource::Server(Box::default()),
    }
}

/// Notes at each change the open connections that it ends.
pub(super) fn note_cuts(changes: &mut [pb::Change], effects: Vec<Effect>, facts: Facts<'_>) {
    let named = effects.into_iter().map(|effect| (effect.name.clone(), effect.counted(facts)));
    let mut cuts: HashMap<String, pb::Cut> = named.collect();
    for change in changes {
        change.cuts.extend(cuts.remove(&change.name));
    }
}

/// Connections that these changes end, and whether the number is uncertain.
pub(super) fn total(changes: &[pb::Change]) -> (i64, bool) {
    let cuts = || changes.iter().flat_map(|change| &change.cuts);
    (cuts().map(|cut| cut.connections).sum(), cuts().any(|cut| cut.stale))
}

/// "2 created, 1 changed, 0 deleted"
pub(super) fn counted(differences: &[Difference]) -> String {
    let count = |kind: fn(&Difference) -> bool| differences.iter().filter(|it| kind(it)).count();
    format!(
        "{} created, {} changed, {} deleted",
        count(|it| it.before.is_none()),
        count(|it| it.before.is_some() && it.after.is_some()),
        count(|it| it.after.is_none()),
    )
}
