use proptest::prelude::*;

use super::super::samples::*;
use super::super::{AbortReason, CommandField, Item, RejectReason, Status};
use super::assembly::KEPT;
use super::*;

/// What is told while a stream passes in pieces of at most that size, each event as text.
fn watch(watcher: &mut Watcher, stream: &[u8], size: usize) -> Vec<String> {
    let mut told = Vec::new();
    for mut piece in stream.chunks(size) {
        while let Some(event) = watcher.read(&mut piece) {
            told.push(format!("{event:?}"));
        }
        assert!(piece.is_empty());
    }
    told
}

/// The same for a whole stream, which must not depend on the size of the pieces.
fn told(stream: &[u8]) -> Vec<String> {
    let told = watch(&mut Watcher::new(), stream, usize::MAX);
    for size in [1, 2, 3, 5, 7, 11, 64] {
        assert_eq!(watch(&mut Watcher::new(), stream, size), told, "in pieces of {size}");
    }
    told
}

fn texts(events: &[Event<'_>]) -> Vec<String> {
    events.iter().map(|event| format!("{event:?}")).collect()
}

fn command(context: u8, field: CommandField, id: u16, status: Option<u16>) -> Event<'static> {
    let command = CommandSet {
        field,
        message_id: (!field.is_response()).then_some(id),
        responds_to: field.is_response().then_some(id),
        status: status.map(Status),
        sop_class: Some(SECONDARY_CAPTURE),
    };
    Event::Command { context, command }
}

#[test]
fn an_image_is_stored_by_dcmtk() {
    let client = [
        Event::Requested,
        command(1, CommandField::C_STORE_RQ, 1, None),
        Event::Data,
        Event::Data,
        Event::ReleaseRequested,
    ];
    assert_eq!(told(&bytes(STORE_CLIENT)), texts(&client));
    let server = [
        Event::Accepted,
        command(1, CommandField::C_STORE_RSP, 1, Some(0)),
        Event::Data,
        Event::Released,
    ];
    assert_eq!(told(&bytes(STORE_SERVER)), texts(&server));
}

#[test]
fn short_pdus_are_told_with_what_they_say() {
    let reject = Reject::transient(RejectReason::TemporaryCongestion);
    assert_eq!(told(&reject.to_bytes()), texts(&[Event::Rejected(reject)]));
    for abort in [Abort::User, Abort::Provider(AbortReason::UnexpectedPdu)] {
        assert_eq!(told(&abort.to_bytes()), texts(&[Event::Aborted(abort)]));
    }
    assert_eq!(told(&pdu(6, &[9; 4])), texts(&[Event::Released]));
    assert_eq!(told(&pdu(1, &[])), texts(&[Event::Requested]));
    assert_eq!(told(&pdu(4, &[])), texts(&[Event::Data]));
}

#[test]
fn command_sets_come_in_fragments() {
    let set = store_response(0xa700);
    let expected = command(3, CommandField::C_STORE_RSP, 7, Some(0xa700));
    for cut in 0..=set.len() {
        let (begin, end) = set.split_at(cut);
        let two = [data_value(3, 1, begin), data_value(3, 3, end)];
        let in_one = [pdu(4, &two.concat()), Abort::User.to_bytes().to_vec()].concat();
        let events = [expected, Event::Data, Event::Aborted(Abort::User)];
        assert_eq!(told(&in_one), texts(&events), "cut at {cut}");
        let in_two = [pdu(4, &two[0]), pdu(4, &two[1])].concat();
        assert_eq!(told(&in_two), texts(&[Event::Data, expected, Event::Data]), "cut at {cut}");
    }
}

#[test]
fn several_messages_share_a_pdu() {
    let image = data_value(3, 0, &[0xff; 100]);
    let last = data_value(3, 2, &[]);
    let set = data_value(3, 0xff, &store_response(0xb006));
    let stream = pdu(4, &[image, last, set.clone(), set].concat());
    let expected = command(3, CommandField::C_STORE_RSP, 7, Some(0xb006));
    assert_eq!(told(&stream), texts(&[expected, expected, Event::Data]));
}

#[test]
fn of_long_command_sets_the_beginning_counts() {
    let long = [store_response(0xc001), element(0x0902, &[b'x'; 2 * KEPT])].concat();
    let expected = command(3, CommandField::C_STORE_RSP, 7, Some(0xc001));
    let stream = pdu(4, &data_value(3, 3, &long));
    assert_eq!(told(&stream), texts(&[expected, Event::Data]));
    let mut watcher = Watcher::new();
    watch(&mut watcher, &stream, 100);
    assert_eq!(watcher.command.read().map(|set| set.status), Ok(Some(Status(0xc001))));
    let next = pdu(4, &data_value(3, 3, &store_response(0)));
    let expected = command(3, CommandField::C_STORE_RSP, 7, Some(0));
    assert_eq!(watch(&mut watcher, &next, 100), texts(&[expected, Event::Data]));
    let hidden = [element(0x0002, &[b'1'; 2 * KEPT]), short(0x0100, 1)].concat();
    let lost = Lost::Malformed(Malformed::Missing(Item::CommandField));
    assert_eq!(told(&pdu(4, &data_value(3, 3, &hidden))), texts(&[Event::Lost(lost)]));
}

#[test]
fn what_cannot_be_followed_is_the_last_that_is_told() {
    let set = store_response(0);
    let part = data_value(1, 1, &set);
    let cases = [
        (b"GET / HTTP/1.1".to_vec(), Lost::Header(HeaderError::UnknownType(b'G'))),
        (vec![0], Lost::Header(HeaderError::UnknownType(0))),
        (pdu(3, &[0; 3]), Lost::Length(Kind::AssociateReject)),
        (pdu(5, &[0; 5]), Lost::Length(Kind::ReleaseRequest)),
        (pdu(7, &[]), Lost::Length(Kind::Abort)),
        (pdu(3, &[0, 3, 1, 1]), Lost::Malformed(Malformed::Value(Item::RejectResult))),
        (pdu(4, &[0, 0, 0]), Lost::DataValue),
        (pdu(4, &[0, 0, 0, 1, 1, 3]), Lost::DataValue),
        (pdu(4, &[0, 0, 0, 3, 1, 3]), Lost::DataValue),
        (pdu(4, &[0xff, 0xff, 0xff, 0xff, 1, 3]), Lost::DataValue),
        (pdu(4, &[data_value(1, 0, &[]), vec![0]].concat()), Lost::DataValue),
        (pdu(4, &[part.clone(), data_value(1, 0, &[])].concat()), Lost::Interleaved),
        (pdu(4, &[part, data_value(3, 1, &[])].concat()), Lost::Interleaved),
        (
            pdu(4, &data_value(1, 3, &set[1..])),
            Lost::Malformed(Malformed::Value(Item::CommandElement)),
        ),
        (pdu(4, &data_value(1, 3, &[])), Lost::Malformed(Malformed::Missing(Item::CommandField))),
    ];
    for (stream, lost) in cases {
        let expected = texts(&[Event::Requested, Event::Lost(lost)]);
        let stream = [pdu(1, &[7; 100]), stream, pdu(1, &[7; 100])].concat();
        assert_eq!(told(&stream), expected, "{lost}");
    }
}

#[test]
fn it_is_known_whether_a_pdu_is_over() {
    let stream = bytes(STORE_CLIENT);
    let mut watcher = Watcher::new();
    let mut between = vec![0];
    for at in 1..=stream.len() {
        watch(&mut watcher, &stream[at - 1..at], 1);
        between.extend(watcher.is_between_pdus().then_some(at));
    }
    assert_eq!(between, [0, 302, 418, 548, 558]);
    watch(&mut watcher, b"G", 1);
    assert!(!watcher.is_between_pdus());
}

#[test]
fn data_sets_are_not_touched() {
    let value = data_value(1, 2, &vec![0; 100_000]);
    let stream = [pdu(4, &value.repeat(10)), pdu(2, &vec![0; 100_000])].concat();
    for size in [1, 1_000, usize::MAX] {
        let looked_at = scan::while_doing(|| {
            watch(&mut Watcher::new(), &stream, size);
        });
        assert_eq!(looked_at, 12 * FIXED, "in pieces of {size}");
    }
}

#[test]
fn no_more_is_kept_than_is_allowed() {
    let long = element(0x0001, &vec![0; 1_000_000]);
    let mut watcher = Watcher::new();
    let stream = pdu(4, &data_value(1, 1, &long).repeat(3));
    let looked_at = scan::while_doing(|| {
        watch(&mut watcher, &stream, 1_000);
    });
    assert_eq!(looked_at, 4 * FIXED + KEPT);
    let empty = pdu(4, &data_value(1, 1, &[]).repeat(100_000));
    let looked_at = scan::while_doing(|| {
        watch(&mut watcher, &empty, 1_000);
    });
    assert_eq!(looked_at, empty.len());
    let sets = pdu(4, &data_value(1, 3, &store_response(0)).repeat(1_000));
    let looked_at = scan::while_doing(|| {
        watch(&mut Watcher::new(), &sets, 1_000);
    });
    assert!(looked_at <= 2 * sets.len(), "{looked_at}");
}

/// PDUs, of which most are good.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => any::<u16>().prop_map(store_response),
        2 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let value = (prop_oneof![8 => Just(3_u8), 1 => Just(1), 4 => Just(2), 1 => Just(0)], fragment)
        .prop_map(|(control, fragment)| data_value(1, control, &fragment));
    let one = prop_oneof![
        6 => prop::collection::vec(value, 0..4).prop_map(|values| pdu(4, &values.concat())),
        1 => Just(first(STORE_CLIENT)),
        1 => Just(first(STORE_SERVER)),
        1 => Just(Reject::permanent(RejectReason::NoReasonGiven).to_bytes().to_vec()),
        1 => Just(pdu(5, &[0; 4])),
    ];
    prop::collection::vec(one, 0..6).prop_map(|pdus| pdus.concat())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        stream in streams(),
        cuts: [prop::sample::Index; 4],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut stream = stream;
        for (at, byte) in changes {
            if !stream.is_empty() {
                *at.get_mut(&mut stream) = byte;
            }
        }
        let expected = told(&stream);
        let mut cuts = cuts.map(|cut| cut.index(stream.len() + 1));
        cuts.sort_unstable();
        let ends = cuts.into_iter().chain([stream.len()]);
        let mut watcher = Watcher::new();
        let mut events = Vec::new();
        for (from, to) in [0].into_iter().chain(cuts).zip(ends) {
            events.extend(watch(&mut watcher, &stream[from..to], usize::MAX));
        }
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn any_bytes_may_pass(stream: Vec<u8>, kind in 1..8_u8) {
        for stream in [stream.clone(), pdu(kind, &stream), pdu(4, &data_value(1, 3, &stream))] {
            let told = told(&stream);
            let lost = told.iter().position(|one| one.starts_with("Lost"));
            prop_assert!(lost.is_none_or(|at| at + 1 == told.len()));
        }
    }
}
