use proptest::prelude::*;

use super::super::samples::*;
use super::*;

#[test]
fn what_dcmtk_answers_is_read() {
    let pdu = first(STORE_SERVER);
    let accept = AssociateAccept::read(&pdu).unwrap();
    let answer = |id, transfer_syntax| AcceptedContext {
        id,
        result: ContextResult::Acceptance { transfer_syntax },
    };
    let expected = AssociateAccept {
        contexts: vec![answer(1, EXPLICIT_LITTLE), answer(3, "1.2.840.10008.1.2.2")],
        maximum_length: NonZeroU32::new(16_384),
    };
    assert_eq!(accept, expected);
    let pdu = first(ECHO_SERVER);
    let echo = AssociateAccept::read(&pdu).unwrap();
    assert!(echo.accepted().eq([(1, IMPLICIT_LITTLE)]));
}

#[test]
fn results_are_those_of_table_9_18() {
    let contexts = [
        answered(1, 1, &[transfer_syntax("nonsense")]),
        answered(3, 2, &[]),
        answered(5, 3, &[vec![0x40, 0, 9]]),
        answered(7, 4, &[transfer_syntax("")]),
        answered(9, 0, &[transfer_syntax(IMPLICIT_LITTLE)]),
    ];
    let pdu = associate(2, &[contexts.concat(), user(0)]);
    let accept = AssociateAccept::read(&pdu).unwrap();
    let results: Vec<_> = accept.contexts.iter().map(|context| context.result).collect();
    let expected = [
        ContextResult::UserRejection,
        ContextResult::NoReason,
        ContextResult::AbstractSyntaxNotSupported,
        ContextResult::TransferSyntaxesNotSupported,
        ContextResult::Acceptance { transfer_syntax: IMPLICIT_LITTLE },
    ];
    assert_eq!(results, expected);
    assert!(accept.accepted().eq([(9, IMPLICIT_LITTLE)]));
    assert_eq!(accept.maximum_length, None);
}

#[test]
fn what_is_wrong_is_named() {
    use super::super::Malformed::{Length, Missing, Twice, Value};
    let chosen = || transfer_syntax(IMPLICIT_LITTLE);
    let good = || answered(1, 0, &[chosen()]);
    let cases = [
        (vec![user(0)], Missing(Item::PresentationContext)),
        (vec![good()], Missing(Item::UserInformation)),
        (vec![good(), user(0), user(0)], Twice(Item::UserInformation)),
        (vec![good(), good(), user(0)], Twice(Item::PresentationContextId)),
        (vec![answered(4, 0, &[chosen()])], Value(Item::PresentationContextId)),
        (vec![answered(1, 5, &[chosen()])], Value(Item::PresentationContextResult)),
        (vec![answered(1, 0, &[])], Missing(Item::TransferSyntax)),
        (vec![answered(1, 0, &[chosen(), chosen()])], Twice(Item::TransferSyntax)),
        (vec![answered(1, 0, &[transfer_syntax("x")])], Value(Item::TransferSyntax)),
        (vec![answered(1, 0, &[vec![0x40]])], Length(Item::PresentationContext)),
        (vec![item(0x21, &[1, 0, 0])], Length(Item::PresentationContext)),
        (vec![good(), user(0), vec![0x21]], Length(Item::VariableItem)),
    ];
    for (items, expected) in cases {
        let pdu = associate(2, &items);
        assert_eq!(AssociateAccept::read(&pdu), Err(expected), "{items:02x?}");
    }
    let request = associate(1, &[good(), user(0)]);
    assert_eq!(AssociateAccept::read(&request), Err(Value(Item::PduType)));
    assert_eq!(AssociateAccept::read(&pdu(2, &[0; 67])), Err(Length(Item::FixedFields)));
}

proptest! {
    #[test]
    fn what_is_written_is_read(results in prop::collection::vec(0..5_u8, 1..128), length: u32) {
        let ids = (1..=255).step_by(2);
        let answers = ids.zip(&results);
        let contexts = answers.map(|(id, result)| answered(id, *result, &[transfer_syntax("1.2")]));
        let pdu = associate(2, &[contexts.collect::<Vec<_>>().concat(), user(length)]);
        let accept = AssociateAccept::read(&pdu).unwrap();
        prop_assert_eq!(accept.contexts.len(), results.len());
        prop_assert_eq!(accept.maximum_length, NonZeroU32::new(length));
        let accepted = results.iter().filter(|result| **result == 0).count();
        prop_assert_eq!(accept.accepted().count(), accepted);
    }
}
