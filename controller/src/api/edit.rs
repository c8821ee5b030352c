//! Create, update and delete in one shape, for every resource that is configuration.
//!
//! A request says who asks, why, and perhaps that nothing is to be changed or that it may come
//! twice. What is looked at, decided and written differs by resource, and each says it once
//! ([`Resource`]); the order of things, the answers and the events are the same for all.

use std::fmt::Display;
use std::str::FromStr;

use gantry_model::name::NameError;
use sha2::{Digest, Sha256};

use super::Control;
use super::error::ApiError;
use super::fields::{self, Reflected};
use super::resources::check_etag;
use crate::state::State;
use crate::status::Facts;
use crate::store::{By, Change, NewEvent, Once, Request, Write};

/// The longest comment, in characters: a reason, not a report.
const LONGEST_COMMENT: usize = 1024;

/// A resource of the state that has a name.
pub(super) trait Named: Sized {
    type Name: FromStr<Err = NameError> + Display;
    /// What people call it: `virtual service`.
    const KIND: &'static str;

    fn find<'a>(state: &'a State, name: &Self::Name) -> Option<&'a Self>;
}

/// A resource of the state that clients create, update and delete.
pub(super) trait Resource: Named {
    /// Its configuration, which cannot be wrong.
    type Config;
    type Message: Reflected + PartialEq + Send;

    /// The field of a request that holds it.
    const FIELD: &'static str;
    /// The events of a creation, an update and a deletion.
    const EVENTS: [&'static str; 3];

    fn name(&self) -> &Self::Name;
    /// The revision number that changed it last.
    fn number(&self) -> u64;
    /// Its configuration as a message.
    fn message(&self) -> Self::Message;
    fn message_of(config: &Self::Config) -> Self::Message;
    /// All that clients are shown.
    fn shown(&self, facts: Facts<'_>) -> Self::Message;
    /// The name and the etag that a message carries.
    fn name_and_etag(message: &Self::Message) -> (&str, &str);
    /// Reads what the resource that is there is to become, and checks it against its neighbours.
    fn read(
        state: &State,
        current: &Self,
        message: &Self::Message,
    ) -> Result<Self::Config, ApiError>;
    fn put(config: Self::Config) -> Write;
    /// What its deletion writes and how it is put on record, unless something is in the way.
    fn deletion(state: &State, current: &Self) -> Result<(Write, String), ApiError>;
}

/// What a request for a change says besides the change.
#[derive(Debug)]
pub(super) struct Asked {
    by: By,
    validate_only: bool,
    once: Option<Request>,
}

/// A creation that was found sound.
pub(super) struct Draft<R: Resource> {
    pub(super) config: R::Config,
    /// What is created with it.
    pub(super) with: Vec<Write>,
    /// One line for the event log.
    pub(super) message: String,
}

impl Asked {
    pub(super) fn new(actor: String, comment: &str) -> Result<Self, ApiError> {
        check_comment(comment)?;
        let by = By { actor, comment: comment.to_owned() };
        Ok(Self { by, validate_only: false, once: None })
    }

    /// Nothing is to be changed.
    pub(super) fn only_validate(self, validate_only: bool) -> Self {
        Self { validate_only, ..self }
    }

    /// The request may come twice (AIP-155). `message` is all of it: a repeat must be the same.
    pub(super) fn once(
        self,
        id: &str,
        name: &impl Display,
        message: &impl prost::Message,
    ) -> Result<Self, ApiError> {
        if id.is_empty() {
            return Ok(self);
        }
        if uuid::Uuid::parse_str(id).is_err() {
            return Err(ApiError::field("request_id", "INVALID_UUID", "is not a UUID"));
        }
        let fingerprint = Sha256::digest(message.encode_to_vec()).to_vec();
        let once = Some(Request { id: id.to_owned(), fingerprint, name: name.to_string() });
        Ok(Self { once, ..self })
    }

    pub(super) fn by(self) -> By {
        self.by
    }

    /// A change for this reason, which writes nothing yet.
    pub(super) fn change(&self) -> Change {
        let By { actor, comment } = self.by.clone();
        Change { actor, comment, request: self.once.clone(), ..Change::default() }
    }
}

/// Refuses a comment that is too long for a log.
pub(super) fn check_comment(comment: &str) -> Result<(), ApiError> {
    let count = comment.chars().count();
    if count <= LONGEST_COMMENT {
        return Ok(());
    }
    let what = format!(
        "has {count} characters: at most {LONGEST_COMMENT} are kept, so say why in short and refer \
         to the rest"
    );
    Err(ApiError::field("comment", "TOO_LONG", what))
}

/// Finds the resource that a field of a request names.
pub(super) fn find<'a, R: Named>(
    state: &'a State,
    field: &str,
    name: &str,
) -> Result<&'a R, ApiError> {
    if name.is_empty() {
        let what = format!("is required: give the name of a {}", R::KIND);
        return Err(ApiError::field(field, "REQUIRED", what));
    }
    let parsed: R::Name = name.parse().map_err(|error| ApiError::name(field, &error))?;
    R::find(state, &parsed).ok_or_else(|| not_found::<R>(&parsed))
}

pub(super) fn get<R: Resource>(control: &Control, name: &str) -> Result<R::Message, ApiError> {
    let state = control.state();
    let found = find::<R>(&state, "name", name)?;
    Ok(control.with_facts(|facts| found.shown(facts)))
}

/// Creates `name` as `draft` says. Who asks again under the same request id gets the same answer,
/// also when both ask at once.
pub(super) async fn create<R: Resource>(
    control: &Control,
    asked: Asked,
    name: R::Name,
    draft: impl FnOnce(&State, &R::Name) -> Result<Draft<R>, ApiError>,
) -> Result<R::Message, ApiError> {
    let once = asked.once.clone();
    let decide = |state: &State| {
        if R::find(state, &name).is_some() {
            return Err(ApiError::AlreadyExists { kind: R::KIND, name: name.to_string() });
        }
        let Draft { config, with, message } = draft(state, &name)?;
        let answer = R::message_of(&config);
        let mut change = asked.change();
        change.events.push(NewEvent::info(R::EVENTS[0], &name, message));
        change.writes.push(R::put(config));
        change.writes.extend(with);
        Ok((change, answer))
    };
    let done = if asked.validate_only {
        control.decide_once(once.as_ref(), decide).await?
    } else {
        control.change_once(once.as_ref(), decide).await?
    };
    match done {
        Once::Done(answer, _) if asked.validate_only => Ok(answer),
        Once::Done(_, state) => show::<R>(control, &state, &name),
        Once::Before(known)
            if Some(&known.fingerprint) == once.as_ref().map(|o| &o.fingerprint) =>
        {
            get::<R>(control, &known.name)
        }
        Once::Before(known) => {
            let what = format!("was used before, for {}: use a fresh UUID", known.name);
            Err(ApiError::field("request_id", "REUSED", what))
        }
    }
}

/// Changes the fields in the mask to those of `given`.
pub(super) async fn update<R: Resource>(
    control: &Control,
    asked: Asked,
    given: Option<R::Message>,
    mask: Option<prost_types::FieldMask>,
) -> Result<R::Message, ApiError> {
    let given = given.unwrap_or_default();
    let (name, etag) = R::name_and_etag(&given);
    let decide = |state: &State| {
        let current = find::<R>(state, &format!("{}.name", R::FIELD), name)?;
        check_etag(name, etag, current.number())?;
        let old = current.message();
        let merged = fields::merge(&old, &given, mask.as_ref())?;
        let config = R::read(state, current, &merged)?;
        let new = R::message_of(&config);
        let mut change = asked.change();
        if new != old {
            let message = format!("changed {}", fields::difference(&old, &new).join(", "));
            change.events.push(NewEvent::info(R::EVENTS[1], current.name(), message));
            change.writes.push(R::put(config));
        }
        Ok((change, new))
    };
    if asked.validate_only {
        return Ok(decide(&control.state())?.1);
    }
    let (_, state) = control.change(decide).await?;
    let found = find::<R>(&state, "name", name)?;
    Ok(control.with_facts(|facts| found.shown(facts)))
}

/// Deletes `name`, if its etag is the one given or none is given.
pub(super) async fn delete<R: Resource>(
    control: &Control,
    asked: Asked,
    name: &str,
    etag: &str,
) -> Result<(), ApiError> {
    let decide = |state: &State| {
        let current = find::<R>(state, "name", name)?;
        check_etag(name, etag, current.number())?;
        let (write, message) = R::deletion(state, current)?;
        let mut change = asked.change();
        change.events.push(NewEvent::info(R::EVENTS[2], current.name(), message));
        change.writes.push(write);
        Ok((change, ()))
    };
    control.change(decide).await?;
    Ok(())
}

fn show<R: Resource>(
    control: &Control,
    state: &State,
    name: &R::Name,
) -> Result<R::Message, ApiError> {
    let found = R::find(state, name).ok_or_else(|| not_found::<R>(name))?;
    Ok(control.with_facts(|facts| found.shown(facts)))
}

fn not_found<R: Named>(name: &R::Name) -> ApiError {
    ApiError::NotFound { kind: R::KIND, name: name.to_string() }
}

#[cfg(test)]
mod tests;
