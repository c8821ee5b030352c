//! The acceptance of an association: A-ASSOCIATE-AC (PS3.8, 9.3.3).
//!
//! The AE titles in it are reserved: they are sent as they came, and not looked at.

use std::num::NonZeroU32;

use super::item::{ContextIds, Item, Items, Malformed, once, uid};
use super::pdu::{Kind, body};
use super::request::{FIXED, USER_INFORMATION_ITEM, maximum_length};

/// What a server agrees to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociateAccept<'a> {
    /// The answers to what was proposed, refusals too.
    pub contexts: Vec<AcceptedContext<'a>>,
    /// How long the variable field of a P-DATA-TF to the server may be; none: as long as you like.
    pub maximum_length: Option<NonZeroU32>,
}

/// The answer to one presentation context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedContext<'a> {
    pub id: u8,
    pub result: ContextResult<'a>,
}

/// What became of a presentation context: table 9-18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextResult<'a> {
    /// 0, with the UID of the transfer syntax that was chosen.
    Acceptance { transfer_syntax: &'a str },
    /// 1
    UserRejection,
    /// 2
    NoReason,
    /// 3
    AbstractSyntaxNotSupported,
    /// 4
    TransferSyntaxesNotSupported,
}

const ACCEPTED_CONTEXT_ITEM: u8 = 0x21;
const TRANSFER_SYNTAX_ITEM: u8 = 0x40;

impl<'a> AssociateAccept<'a> {
    /// Reads a whole PDU, with its header.
    pub fn read(pdu: &'a [u8]) -> Result<Self, Malformed> {
        let body = body(pdu, Kind::AssociateAccept)?;
        let variable = body.get(FIXED..).ok_or(Malformed::Length(Item::FixedFields))?;
        let (mut ids, mut contexts, mut user) = (ContextIds::default(), Vec::new(), None);
        for item in Items::new(variable, Item::VariableItem) {
            match item? {
                (ACCEPTED_CONTEXT_ITEM, value) => {
                    contexts.push(AcceptedContext::read(value, &mut ids)?);
                }
                (USER_INFORMATION_ITEM, value) => once(&mut user, value, Item::UserInformation)?,
                _ => {}
            }
        }
        if contexts.is_empty() {
            return Err(Malformed::Missing(Item::PresentationContext));
        }
        Ok(Self { contexts, maximum_length: maximum_length(user)? })
    }

    /// The presentation contexts that hold, by ID and transfer syntax.
    pub fn accepted(&self) -> impl Iterator<Item = (u8, &'a str)> + '_ {
        self.contexts.iter().filter_map(|context| match context.result {
            ContextResult::Acceptance { transfer_syntax } => Some((context.id, transfer_syntax)),
            _ => None,
        })
    }
}

impl<'a> AcceptedContext<'a> {
    /// Reads a presentation context item (9.3.3.2). Where it is refused its sub-item says nothing.
    fn read(item: &'a [u8], ids: &mut ContextIds) -> Result<Self, Malformed> {
        let (fixed, sub_items) =
            item.split_first_chunk::<4>().ok_or(Malformed::Length(Item::PresentationContext))?;
        let id = ids.add(fixed[0])?;
        let result = match fixed[2] {
            0 => ContextResult::Acceptance { transfer_syntax: chosen_syntax(sub_items)? },
            1 => ContextResult::UserRejection,
            2 => ContextResult::NoReason,
            3 => ContextResult::AbstractSyntaxNotSupported,
            4 => ContextResult::TransferSyntaxesNotSupported,
            _ => return Err(Malformed::Value(Item::PresentationContextResult)),
        };
        Ok(Self { id, result })
    }
}

fn chosen_syntax(sub_items: &[u8]) -> Result<&str, Malformed> {
    let mut chosen = None;
    for sub_item in Items::new(sub_items, Item::PresentationContext) {
        if let (TRANSFER_SYNTAX_ITEM, value) = sub_item? {
            once(&mut chosen, uid(value, Item::TransferSyntax)?, Item::TransferSyntax)?;
        }
    }
    chosen.ok_or(Malformed::Missing(Item::TransferSyntax))
}

#[cfg(test)]
mod tests;
