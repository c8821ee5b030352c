use std::slice;

use proptest::prelude::*;

use super::super::samples::*;
use super::*;
use crate::scan;

fn whole() -> Vec<Vec<u8>> {
    let sub_items = [abstract_syntax(VERIFICATION), transfer_syntax(IMPLICIT_LITTLE)];
    vec![application_context(), proposed(1, &sub_items), user(16_384)]
}

#[test]
fn what_dcmtk_sends_is_read() {
    let pdu = first(STORE_CLIENT);
    let request = AssociateRequest::read(&pdu).unwrap();
    let context = |id| ProposedContext { id, abstract_syntax: SECONDARY_CAPTURE };
    let expected = AssociateRequest {
        protocol_version: 1,
        called: "PACS",
        calling: "MODALITY",
        application_context: APPLICATION_CONTEXT,
        contexts: vec![context(1), context(3)],
        maximum_length: NonZeroU32::new(16_384),
    };
    assert_eq!(request, expected);
    assert!(request.speaks_version_1());
    let pdu = first(ECHO_CLIENT);
    let echo = AssociateRequest::read(&pdu).unwrap();
    assert_eq!(echo.contexts, [ProposedContext { id: 1, abstract_syntax: VERIFICATION }]);
}

#[test]
fn what_is_not_known_is_passed_over() {
    let mut items = whole();
    items.insert(1, item(0x7f, b"what"));
    items[2] = proposed(255, &[item(0x31, b""), abstract_syntax(VERIFICATION)]);
    items[3] = item(0x50, &[item(0x52, b"1.2"), item(0x51, &[0; 4]), item(0xff, b"")].concat());
    let pdu = associate(1, &items);
    let request = AssociateRequest::read(&pdu).unwrap();
    assert_eq!(request.contexts, [ProposedContext { id: 255, abstract_syntax: VERIFICATION }]);
    assert_eq!(request.maximum_length, None);
    items[3] = item(0x50, &[]);
    assert_eq!(AssociateRequest::read(&associate(1, &items)).unwrap().maximum_length, None);
    let mut old = associate(1, &whole());
    old[7] = 2;
    assert!(!AssociateRequest::read(&old).unwrap().speaks_version_1());
}

#[test]
fn what_is_wrong_with_an_item_is_named() {
    use super::super::Malformed::{Length, Missing, Twice, Value};
    let named = || abstract_syntax(VERIFICATION);
    let cases = [
        (0, vec![], Missing(Item::ApplicationContext)),
        (0, item(0x10, b""), Value(Item::ApplicationContext)),
        (0, item(0x10, b"1.2.x"), Value(Item::ApplicationContext)),
        (
            0,
            [application_context(), application_context()].concat(),
            Twice(Item::ApplicationContext),
        ),
        (1, vec![], Missing(Item::PresentationContext)),
        (1, item(0x20, &[1, 0, 0]), Length(Item::PresentationContext)),
        (1, proposed(0, &[named()]), Value(Item::PresentationContextId)),
        (1, proposed(2, &[named()]), Value(Item::PresentationContextId)),
        (1, proposed(1, &[named()]).repeat(2), Twice(Item::PresentationContextId)),
        (1, proposed(1, &[]), Missing(Item::AbstractSyntax)),
        (1, proposed(1, &[item(0x30, b" ")]), Value(Item::AbstractSyntax)),
        (1, proposed(1, &[named(), named()]), Twice(Item::AbstractSyntax)),
        (1, proposed(1, &[named(), vec![0x40, 0, 0, 9]]), Length(Item::PresentationContext)),
        (2, vec![], Missing(Item::UserInformation)),
        (2, [user(1), user(2)].concat(), Twice(Item::UserInformation)),
        (2, item(0x50, &[0x51, 0, 0, 4, 0, 0]), Length(Item::UserInformation)),
        (2, item(0x50, &item(0x51, &[0; 3])), Length(Item::MaximumLength)),
        (2, item(0x50, &item(0x51, &[0; 4]).repeat(2)), Twice(Item::MaximumLength)),
        (2, vec![0x50, 0, 0], Length(Item::VariableItem)),
        (2, vec![0x50, 0, 0xff, 0xff, 0], Length(Item::VariableItem)),
    ];
    for (at, instead, expected) in cases {
        let mut items = whole();
        items[at] = instead;
        let pdu = associate(1, &items);
        let told = AssociateRequest::read(&pdu).unwrap_err();
        assert_eq!(told, expected, "{:02x?}: {told}", items[at]);
    }
}

#[test]
fn what_is_wrong_before_the_items_is_named() {
    let whole = associate(1, &whole());
    let with = |at: usize, text: &[u8]| {
        let mut pdu = whole.clone();
        pdu[at..at + text.len()].copy_from_slice(text);
        pdu
    };
    let cases = [
        (with(10, &[b' '; 16]), Malformed::Missing(Item::CalledAeTitle)),
        (with(26, &[b' '; 16]), Malformed::Missing(Item::CallingAeTitle)),
        (with(10, b"PA\\CS"), Malformed::Value(Item::CalledAeTitle)),
        (with(26, b"\xfcBER"), Malformed::Value(Item::CallingAeTitle)),
        (with(0, &[2]), Malformed::Value(Item::PduType)),
        (with(5, &[0]), Malformed::Length(Item::Pdu)),
        (whole[..whole.len() - 1].to_vec(), Malformed::Length(Item::Pdu)),
        ([whole.as_slice(), &[0]].concat(), Malformed::Length(Item::Pdu)),
        (pdu(1, &whole[6..73]), Malformed::Length(Item::FixedFields)),
        (pdu(1, &[]), Malformed::Length(Item::FixedFields)),
    ];
    for (pdu, expected) in cases {
        assert_eq!(AssociateRequest::read(&pdu), Err(expected), "{pdu:02x?}");
    }
}

#[test]
fn no_byte_is_looked_at_twice() {
    let context = |id| proposed(id, &[abstract_syntax(VERIFICATION), item(0x40, &[0; 9_000])]);
    let contexts = (1..=255).step_by(2).map(context).collect::<Vec<_>>().concat();
    for contexts in [contexts, item(0x7f, b"").repeat(50_000)] {
        let pdu = associate(1, &[application_context(), contexts, user(0)]);
        let looked_at = scan::while_doing(|| {
            let _ = AssociateRequest::read(&pdu);
        });
        assert!(looked_at <= pdu.len(), "{looked_at}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        called in "[!-\\[\\]-~]{1,16}",
        calling in "[A-Z0-9_]{1,16}",
        uids in prop::collection::vec("[0-9.]{1,64}", 1..128),
        length: u32,
    ) {
        let mut items = vec![application_context()];
        for (id, uid) in (1..=255).step_by(2).zip(&uids) {
            items.push(proposed(id, &[abstract_syntax(uid), transfer_syntax(IMPLICIT_LITTLE)]));
        }
        items.push(user(length));
        let mut pdu = associate(1, &items);
        pdu[10..42].copy_from_slice(format!("{called:<16}{calling:>16}").as_bytes());
        let request = AssociateRequest::read(&pdu).unwrap();
        prop_assert_eq!((request.called, request.calling), (called.as_str(), calling.as_str()));
        prop_assert_eq!(request.maximum_length, NonZeroU32::new(length));
        let read = request.contexts.iter().map(|context| context.abstract_syntax);
        prop_assert!(read.eq(uids.iter().map(String::as_str)));
        let ids = request.contexts.iter().map(|context| context.id);
        prop_assert!(ids.eq((1..=255).step_by(2).take(uids.len())));
    }

    #[test]
    fn changed_requests_are_requests_or_not(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end: prop::sample::Index,
        cut: bool,
    ) {
        let mut pdu = first(STORE_CLIENT);
        for (at, byte) in changes {
            *at.get_mut(&mut pdu[6..]) = byte;
        }
        let body = if cut { &pdu[6..6 + end.index(pdu.len() - 6)] } else { &pdu[6..] };
        let _ = AssociateRequest::read(&super::super::samples::pdu(1, body));
        let _ = super::super::AssociateAccept::read(&super::super::samples::pdu(2, body));
    }

    #[test]
    fn any_bytes_are_a_request_or_not(bytes: Vec<u8>, variable: Vec<u8>) {
        let _ = AssociateRequest::read(&bytes);
        let _ = AssociateRequest::read(&associate(1, slice::from_ref(&variable)));
        let _ = super::super::AssociateAccept::read(&associate(2, slice::from_ref(&variable)));
    }
}
