use proptest::prelude::*;

use super::super::samples::{SECONDARY_CAPTURE, element, short, store_response};
use super::*;

#[test]
fn responses_say_what_came_of_a_request() {
    let bytes = store_response(0xa700);
    let expected = CommandSet {
        field: CommandField::C_STORE_RSP,
        message_id: None,
        responds_to: Some(7),
        status: Some(Status(0xa700)),
        sop_class: Some(SECONDARY_CAPTURE),
    };
    assert_eq!(CommandSet::read(&bytes), Ok(expected));
    assert!(expected.field.is_response());
}

#[test]
fn other_elements_are_passed_over() {
    let cancel = [short(0x0100, 0x0fff), short(0x0120, 9), short(0x0800, 0x0101)].concat();
    let read = CommandSet::read(&cancel).unwrap();
    assert_eq!((read.field, read.responds_to), (CommandField::C_CANCEL_RQ, Some(9)));
    assert!(!read.field.is_response());
    let odd =
        [element(0x0002, b""), short(0x0100, 0x8020), element(0x0902, b"x"), short(0x0110, 1)];
    let odd = odd.concat();
    let read = CommandSet::read(&odd).unwrap();
    assert_eq!((read.sop_class, read.message_id), (None, Some(1)));
    let odd = [element(0x0002, b"no uid"), short(0x0100, 1)].concat();
    assert_eq!(CommandSet::read(&odd).unwrap().sop_class, None);
}

#[test]
fn what_is_wrong_is_named() {
    let group_8 = [&[8, 0], &short(0x0100, 1)[2..]].concat();
    let undefined = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0];
    let cases: [(&[u8], Malformed); 8] = [
        (b"", Malformed::Missing(Item::CommandField)),
        (&short(0x0900, 0), Malformed::Missing(Item::CommandField)),
        (&group_8, Malformed::Value(Item::CommandElement)),
        (&undefined, Malformed::Length(Item::CommandElement)),
        (&element(0x0100, &[1]), Malformed::Length(Item::CommandElement)),
        (&element(0x0900, &[0; 4]), Malformed::Length(Item::CommandElement)),
        (&short(0x0100, 1)[..9], Malformed::Length(Item::CommandElement)),
        (&short(0x0100, 1)[..7], Malformed::Length(Item::CommandElement)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(CommandSet::read(bytes), Err(expected), "{bytes:02x?}");
    }
}

#[test]
fn of_a_beginning_what_is_whole_is_read() {
    let whole = [store_response(0), element(0x0902, b"comment")].concat();
    for cut in store_response(0).len()..=whole.len() {
        let read = CommandSet::read_beginning(&whole[..cut]).unwrap();
        assert_eq!(read.status, Some(Status(0)), "cut at {cut}");
    }
    let read = CommandSet::read_beginning(&whole[..store_response(0).len() - 1]).unwrap();
    assert_eq!((read.status, read.responds_to), (None, Some(7)));
    let none = CommandSet::read_beginning(&whole[..40]);
    assert_eq!(none, Err(Malformed::Missing(Item::CommandField)));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        field: u16,
        numbers: [Option<u16>; 3],
        uid in prop::option::of("[0-9.]{1,64}"),
        other in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let maybe = |number, value: Option<u16>| {
            value.map_or_else(Vec::new, |value| short(number, value))
        };
        let [message_id, responds_to, status] = numbers;
        let bytes = [
            element(0x0000, &[0; 4]),
            uid.as_ref().map_or_else(Vec::new, |uid| element(0x0002, uid.as_bytes())),
            short(0x0100, field),
            maybe(0x0110, message_id),
            maybe(0x0120, responds_to),
            maybe(0x0900, status),
            element(0x1000, &other),
        ]
        .concat();
        let expected = CommandSet {
            field: CommandField(field),
            message_id,
            responds_to,
            status: status.map(Status),
            sop_class: uid.as_deref(),
        };
        prop_assert_eq!(CommandSet::read(&bytes), Ok(expected));
    }

    #[test]
    fn any_bytes_are_a_command_set_or_not(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
        let _ = CommandSet::read(&bytes);
        let _ = CommandSet::read_beginning(&bytes);
        let mut changed = store_response(0);
        *at.get_mut(&mut changed) = byte;
        let _ = CommandSet::read(&changed);
        let _ = CommandSet::read_beginning(&changed);
    }
}
