//! Reading of items, which a PDU is made of, and of the values in them; what is wrong is named.

use std::fmt;

use crate::scan;

/// What a PDU consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    Pdu,
    PduType,
    FixedFields,
    CalledAeTitle,
    CallingAeTitle,
    VariableItem,
    ApplicationContext,
    PresentationContext,
    PresentationContextId,
    PresentationContextResult,
    AbstractSyntax,
    TransferSyntax,
    UserInformation,
    MaximumLength,
    RejectResult,
    CommandElement,
    CommandField,
}

/// What is wrong with a PDU or a command set, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the length of the {0} does not fit")]
    Length(Item),
    #[error("the {0} has no valid value")]
    Value(Item),
    #[error("the {0} is missing")]
    Missing(Item),
    #[error("the {0} is there twice")]
    Twice(Item),
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pdu => "PDU",
            Self::PduType => "type of the PDU",
            Self::FixedFields => "part before the variable items",
            Self::CalledAeTitle => "called AE title",
            Self::CallingAeTitle => "calling AE title",
            Self::VariableItem => "variable item",
            Self::ApplicationContext => "application context",
            Self::PresentationContext => "presentation context",
            Self::PresentationContextId => "presentation context ID",
            Self::PresentationContextResult => "result of a presentation context",
            Self::AbstractSyntax => "abstract syntax",
            Self::TransferSyntax => "transfer syntax",
            Self::UserInformation => "user information",
            Self::MaximumLength => "maximum length",
            Self::RejectResult => "result of the rejection",
            Self::CommandElement => "command element",
            Self::CommandField => "command field",
        })
    }
}

/// Takes items off what is left of a PDU: type, a reserved byte, length and value, one by one.
pub(super) struct Items<'a> {
    rest: &'a [u8],
    within: Item,
}

impl<'a> Items<'a> {
    /// The items in that part of a PDU, which is named where they do not fit.
    pub(super) fn new(rest: &'a [u8], within: Item) -> Self {
        Self { rest, within }
    }

    fn take(&mut self) -> Option<(u8, &'a [u8])> {
        let ([kind, _, high, low], rest) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        scan::looked_at(4);
        Some((*kind, value))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.take().ok_or(Malformed::Length(self.within));
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// Keeps the value of an item that may be there once.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, item: Item) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Twice(item)),
    }
}

/// An AE title: up to 16 characters of ISO 646, the spaces around it not significant (table 9-11),
/// and neither a backslash nor a control character in it (PS3.5, 6.2). Some senders fill up with NUL.
pub(super) fn ae_title(bytes: &[u8], item: Item) -> Result<&str, Malformed> {
    let text = text(bytes, item)?.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
    if text.is_empty() {
        return Err(Malformed::Missing(item));
    }
    let valid = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\');
    valid.then_some(text).ok_or(Malformed::Value(item))
}

/// A UID: up to 64 digits and dots (PS3.5, 9.1). It is not filled up in a PDU (PS3.8, annex F), but
/// is in a command set, and some senders do so everywhere.
pub(super) fn uid(bytes: &[u8], item: Item) -> Result<&str, Malformed> {
    let text = text(bytes, item)?.trim_end_matches(['\0', ' ']);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let valid = digits && (1..=64).contains(&text.len());
    valid.then_some(text).ok_or(Malformed::Value(item))
}

fn text(bytes: &[u8], item: Item) -> Result<&str, Malformed> {
    scan::looked_at(bytes.len());
    std::str::from_utf8(bytes).map_err(|_| Malformed::Value(item))
}

/// Which presentation contexts a PDU has named: their IDs are odd, and each there once (7.1.1.13).
#[derive(Default)]
pub(super) struct ContextIds(u128);

impl ContextIds {
    pub(super) fn add(&mut self, id: u8) -> Result<u8, Malformed> {
        if id.is_multiple_of(2) {
            return Err(Malformed::Value(Item::PresentationContextId));
        }
        let bit = 1 << (id / 2);
        if self.0 & bit != 0 {
            return Err(Malformed::Twice(Item::PresentationContextId));
        }
        self.0 |= bit;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_trimmed_text() {
        let read = |bytes| ae_title(bytes, Item::CalledAeTitle);
        for (bytes, title) in [
            (&b"PACS            "[..], "PACS"),
            (b"  PACS          ", "PACS"),
            (b"CT 1 (OLD)      ", "CT 1 (OLD)"),
            (b"1234567890123456", "1234567890123456"),
            (b"PACS\0\0\0\0        ", "PACS"),
        ] {
            assert_eq!(read(bytes), Ok(title));
        }
        assert_eq!(read(b"                "), Err(Malformed::Missing(Item::CalledAeTitle)));
        assert_eq!(read(&[0; 16]), Err(Malformed::Missing(Item::CalledAeTitle)));
        for bytes in
            [&b"PA\\CS"[..], b"PA\0CS", b"\0PACS", b"PA\tCS", b"PACS\x7f", b"\xc3\xa4", b"\xff"]
        {
            let name = bytes.escape_ascii();
            assert_eq!(read(bytes), Err(Malformed::Value(Item::CalledAeTitle)), "{name}");
        }
    }

    #[test]
    fn uids_are_digits_and_dots() {
        let read = |bytes| uid(bytes, Item::AbstractSyntax);
        let longest = "1".repeat(64);
        for (bytes, text) in [("1.2.840", "1.2.840"), ("1.2\0", "1.2"), (&longest, &longest)] {
            assert_eq!(read(bytes.as_bytes()), Ok(text));
        }
        for bytes in ["", "\0", " 1.2", "1.2a", "1.2\0.1", "1.\u{e4}", &"1".repeat(65)] {
            assert_eq!(read(bytes.as_bytes()), Err(Malformed::Value(Item::AbstractSyntax)));
        }
    }

    #[test]
    fn items_follow_each_other() {
        let read = |bytes| Items::new(bytes, Item::VariableItem).collect::<Vec<_>>();
        let (empty, two): (&[u8], &[u8]) = (&[], &[7, 8]);
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[1, 9, 0, 0, 2, 0, 0, 2, 7, 8]), [Ok((1, empty)), Ok((2, two))]);
        let short = Err(Malformed::Length(Item::VariableItem));
        for bytes in [&[1][..], &[1, 0, 0], &[1, 0, 0, 1], &[1, 0, 1, 0, 7]] {
            assert_eq!(read(bytes), [short]);
        }
        assert_eq!(read(&[1, 0, 0, 0, 2, 0, 0, 9]), [Ok((1, empty)), short]);
    }

    #[test]
    fn context_ids_are_odd_and_unique() {
        let mut ids = ContextIds::default();
        for id in (1..=255).step_by(2) {
            assert_eq!(ids.add(id), Ok(id));
            assert_eq!(ids.add(id), Err(Malformed::Twice(Item::PresentationContextId)));
            assert_eq!(ids.add(id - 1), Err(Malformed::Value(Item::PresentationContextId)));
        }
    }
}
