use proptest::prelude::*;

use super::*;

fn element(number: u8, group: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_le_bytes();
    [&[0, 0, number, group], &length[..], value].concat()
}

/// A command set as dcmtk writes it: group length, SOP class, field, message, data set type, status.
fn command(field: u16, status: Option<u16>) -> Vec<u8> {
    let status = status.map(|status| element(0, 9, &status.to_le_bytes())).unwrap_or_default();
    let rest = [
        element(2, 0, b"1.2.840.10008.5.1.4.1.1.2\0"),
        element(0, 1, &field.to_le_bytes()),
        element(0x20, 1, &[1, 0]),
        element(0, 8, &[1, 1]),
        status,
    ]
    .concat();
    let length = u32::try_from(rest.len()).unwrap();
    [element(0, 0, &length.to_le_bytes()), rest].concat()
}

/// One presentation data value in context 1.
fn value(control: u8, fragment: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fragment.len() + 2).unwrap().to_be_bytes();
    [&length[..], &[1, control], fragment].concat()
}

fn unit(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], body].concat()
}

fn look(stream: &[u8], size: usize) -> Vec<Seen> {
    let (mut watcher, mut seen) = (Watcher::new(), Vec::new());
    stream.chunks(size).for_each(|piece| watcher.look(piece, |what| seen.push(what)));
    seen
}

const COMMAND: u8 = 1;
const LAST: u8 = 2;

/// An archive's side of an association in which two images come, the second in vain.
fn archive() -> (Vec<u8>, Vec<Seen>) {
    let stored = command(Command::STORE_RESPONSE, Some(0));
    let full = command(Command::STORE_RESPONSE, Some(0xa700));
    let (front, back) = full.split_at(30);
    let stream = [
        unit(2, &[0; 120]),
        unit(4, &value(COMMAND | LAST, &stored)),
        unit(4, &value(COMMAND, front)),
        unit(4, &value(COMMAND | LAST, back)),
        unit(6, &[0; 4]),
    ];
    let of = |status| {
        let status = Some(status);
        Seen::Command(Command { field: Command::STORE_RESPONSE, status })
    };
    let data = Seen::Unit(Kind::Data);
    let accepted = Seen::Unit(Kind::AssociateAccept);
    let released = Seen::Unit(Kind::ReleaseResponse);
    (stream.concat(), vec![accepted, of(0), data, data, of(0xa700), data, released])
}

#[test]
fn responses_are_told_with_their_status_wherever_they_are_cut() {
    let (stream, expected) = archive();
    for size in 1..=stream.len() {
        assert_eq!(look(&stream, size), expected, "in pieces of {size}");
    }
}

#[test]
fn data_sets_are_passed_by_their_length() {
    let request = command(Command::STORE_REQUEST, None);
    let image = vec![0xff; 70_000];
    let both = [value(COMMAND | LAST, &request), value(0, &image)].concat();
    let stream = [unit(4, &both), unit(4, &value(LAST, &image)), unit(5, &[0; 4])].concat();
    let store = Command { field: Command::STORE_REQUEST, status: None };
    let data = Seen::Unit(Kind::Data);
    let expected = [Seen::Command(store), data, data, Seen::Unit(Kind::ReleaseRequest)];
    for size in [1, 7, 4096, stream.len()] {
        assert_eq!(look(&stream, size), expected);
    }
    assert_eq!(store.outcome(), None);
}

#[test]
fn what_makes_no_sense_is_told_once() {
    let long = vec![0; LONGEST_COMMAND + 1];
    for stream in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        unit(9, &[]),
        // A value that is longer than its unit, and one without room for its own header.
        unit(4, &[0, 0, 0, 9, 1, 3]),
        unit(4, &[0, 0, 0, 1, 1, 3]),
        unit(4, &[0, 0]),
        unit(4, &value(COMMAND, &long)),
        // Command sets that break off, or say nothing of what they command.
        unit(4, &value(COMMAND | LAST, &[0, 0, 0])),
        unit(4, &value(COMMAND | LAST, &element(0, 9, &[0, 0]))),
        unit(4, &value(COMMAND | LAST, &element(0, 1, &[0]))),
    ] {
        let more = [&stream[..], &unit(5, &[0; 4])].concat();
        assert_eq!(
            look(&more, 5),
            [Seen::Lost],
            "{}",
            stream[..12.min(stream.len())].escape_ascii()
        );
    }
}

#[test]
fn statuses_mean_what_the_standard_says() {
    for (status, outcome) in [
        (0x0000, Outcome::Success),
        (0xb000, Outcome::Warning),
        (0xb007, Outcome::Warning),
        (0xa700, Outcome::OutOfResources),
        (0xa702, Outcome::OutOfResources),
        (0xa900, Outcome::Failure),
        (0xc001, Outcome::Failure),
        (0x0110, Outcome::Failure),
        (0x0122, Outcome::Failure),
        (0xff00, Outcome::Pending),
        (0xfe00, Outcome::Cancelled),
    ] {
        let command = Command { field: Command::STORE_RESPONSE, status: Some(status) };
        assert_eq!(command.outcome(), Some(outcome), "{status:#06x}");
    }
}

proptest! {
    #[test]
    fn damage_is_harmless_and_told_alike_in_every_cut(
        at in 0_usize..1000, byte: u8, size in 1_usize..50,
    ) {
        let (mut stream, _) = archive();
        let length = stream.len();
        stream[at % length] = byte;
        let whole = look(&stream, length);
        prop_assert_eq!(look(&stream, size), &whole[..]);
        prop_assert!(whole.iter().filter(|seen| **seen == Seen::Lost).count() <= 1);
    }
}
