//! The request for an association: A-ASSOCIATE-RQ (PS3.8, 9.3.2).
//!
//! What is not needed to route an association and to answer it is not judged: neither the transfer
//! syntaxes that are proposed, nor what is negotiated besides the maximum length.

use std::num::NonZeroU32;

use super::item::{ContextIds, Item, Items, Malformed, ae_title, once, uid};
use super::pdu::{Kind, body};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociateRequest<'a> {
    /// A bit for each version that the client speaks.
    pub protocol_version: u16,
    pub called: &'a str,
    pub calling: &'a str,
    pub application_context: &'a str,
    /// At least one, and at most 128.
    pub contexts: Vec<ProposedContext<'a>>,
    /// How long the variable field of a P-DATA-TF to the client may be; none: as long as you like.
    pub maximum_length: Option<NonZeroU32>,
}

/// Who asks for an association, and whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AeTitles<'a> {
    pub called: &'a str,
    pub calling: &'a str,
}

/// What a client proposes to do in an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedContext<'a> {
    pub id: u8,
    /// The UID of what it is about: a SOP class, mostly.
    pub abstract_syntax: &'a str,
}

/// The DICOM application context, the only one there is (PS3.7, A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Where the variable items begin: in A-ASSOCIATE-RQ and A-ASSOCIATE-AC after as many bytes.
pub(super) const FIXED: usize = 68;

const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
const PROPOSED_CONTEXT_ITEM: u8 = 0x20;
const ABSTRACT_SYNTAX_ITEM: u8 = 0x30;
pub(super) const USER_INFORMATION_ITEM: u8 = 0x50;
const MAXIMUM_LENGTH_ITEM: u8 = 0x51;

impl<'a> AeTitles<'a> {
    /// Reads them of a whole PDU, whose variable items are left for the server to judge.
    pub fn read(pdu: &'a [u8]) -> Result<Self, Malformed> {
        split(body(pdu, Kind::AssociateRequest)?).and_then(|(fixed, _)| Self::of(fixed))
    }

    fn of(fixed: &'a [u8; FIXED]) -> Result<Self, Malformed> {
        Ok(Self {
            called: ae_title(&fixed[4..20], Item::CalledAeTitle)?,
            calling: ae_title(&fixed[20..36], Item::CallingAeTitle)?,
        })
    }
}

/// The fixed fields, and what follows them.
fn split(body: &[u8]) -> Result<(&[u8; FIXED], &[u8]), Malformed> {
    body.split_first_chunk::<FIXED>().ok_or(Malformed::Length(Item::FixedFields))
}

impl<'a> AssociateRequest<'a> {
    /// Reads a whole PDU, with its header.
    pub fn read(pdu: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, variable) = split(body(pdu, Kind::AssociateRequest)?)?;
        let AeTitles { called, calling } = AeTitles::of(fixed)?;
        let (mut ids, mut contexts) = (ContextIds::default(), Vec::new());
        let (mut application, mut user) = (None, None);
        for item in Items::new(variable, Item::VariableItem) {
            match item? {
                (APPLICATION_CONTEXT_ITEM, value) => {
                    once(&mut application, value, Item::ApplicationContext)?;
                }
                (PROPOSED_CONTEXT_ITEM, value) => {
                    contexts.push(ProposedContext::read(value, &mut ids)?);
                }
                (USER_INFORMATION_ITEM, value) => once(&mut user, value, Item::UserInformation)?,
                _ => {}
            }
        }
        if contexts.is_empty() {
            return Err(Malformed::Missing(Item::PresentationContext));
        }
        let application = application.ok_or(Malformed::Missing(Item::ApplicationContext))?;
        Ok(Self {
            protocol_version: u16::from_be_bytes([fixed[0], fixed[1]]),
            called,
            calling,
            application_context: uid(application, Item::ApplicationContext)?,
            contexts,
            maximum_length: maximum_length(user)?,
        })
    }

    /// Whether the client speaks version 1 of the protocol, the only one there is.
    pub fn speaks_version_1(&self) -> bool {
        self.protocol_version & 1 != 0
    }
}

impl<'a> ProposedContext<'a> {
    /// Reads a presentation context item and its sub-items (9.3.2.2).
    fn read(item: &'a [u8], ids: &mut ContextIds) -> Result<Self, Malformed> {
        let (fixed, sub_items) =
            item.split_first_chunk::<4>().ok_or(Malformed::Length(Item::PresentationContext))?;
        let id = ids.add(fixed[0])?;
        let mut abstract_syntax = None;
        for sub_item in Items::new(sub_items, Item::PresentationContext) {
            if let (ABSTRACT_SYNTAX_ITEM, value) = sub_item? {
                let value = uid(value, Item::AbstractSyntax)?;
                once(&mut abstract_syntax, value, Item::AbstractSyntax)?;
            }
        }
        let abstract_syntax = abstract_syntax.ok_or(Malformed::Missing(Item::AbstractSyntax))?;
        Ok(Self { id, abstract_syntax })
    }
}

/// Reads the maximum length in the user information (annex D.1); 0 is none, and so is silence.
pub(super) fn maximum_length(user: Option<&[u8]>) -> Result<Option<NonZeroU32>, Malformed> {
    let user = user.ok_or(Malformed::Missing(Item::UserInformation))?;
    let mut length = None;
    for sub_item in Items::new(user, Item::UserInformation) {
        if let (MAXIMUM_LENGTH_ITEM, value) = sub_item? {
            let value = value.try_into().map_err(|_| Malformed::Length(Item::MaximumLength))?;
            once(&mut length, u32::from_be_bytes(value), Item::MaximumLength)?;
        }
    }
    Ok(length.and_then(NonZeroU32::new))
}

#[cfg(test)]
mod tests;
