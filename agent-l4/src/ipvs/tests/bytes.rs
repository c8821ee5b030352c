//! Datagrams: how operations are packed into them, and what is made of the kernel's.

use super::super::attribute::{Table, Writer};
use super::super::uapi::{
    ACK, ACK_ATTRIBUTES, CAPPED, DONE, DUMP_INTERRUPTED, ERROR, ERROR_TEXT, REQUEST,
};
use super::*;

const WIDE: Limits = Limits { bytes: 64 << 10, messages: 1024 };

fn deletions(count: u16) -> Vec<Operation> {
    (0..count).map(|port| Operation::DeleteService(tcp("10.0.0.1", port))).collect()
}

fn reply(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// An `NLMSG_ERROR` that echoes no more than the header.
fn error(sequence: u32, code: i32, text: Option<&str>) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend_from_slice(&[9; 16]);
    let flags = CAPPED | text.map_or(0, |_| ACK_ATTRIBUTES);
    if let Some(text) = text {
        Writer::new(&mut payload).text(ERROR_TEXT, text);
    }
    reply(ERROR, flags, sequence, &payload)
}

fn unpack(datagram: &[u8]) -> Vec<(u32, u16)> {
    Messages::new(datagram)
        .map(|message| message.map(|message| (message.sequence, message.flags)).unwrap())
        .collect()
}

#[test]
fn only_the_last_of_a_batch_is_acknowledged() {
    let mut bytes = Vec::new();
    let packed = pack(&mut bytes, &deletions(3), WIDE, 0x20, u32::MAX);
    assert_eq!(packed, 3);
    assert_eq!(unpack(&bytes), [(u32::MAX, REQUEST), (0, REQUEST), (1, REQUEST | ACK)]);
}

#[test]
fn a_batch_is_bounded_in_messages_and_in_bytes() {
    let operations = deletions(5000);
    let mut bytes = Vec::new();
    assert_eq!(pack(&mut bytes, &operations, Limits { messages: 7, ..WIDE }, 0x20, 0), 7);
    let packed = pack(&mut bytes, &operations, WIDE, 0x20, 0);
    assert!(packed > 500 && bytes.len() <= WIDE.bytes, "{packed} in {}", bytes.len());
    assert_eq!(unpack(&bytes).len(), packed);
    // One at a time rather than none.
    assert_eq!(pack(&mut bytes, &operations, Limits { bytes: 0, messages: 1 }, 0x20, 0), 1);
}

#[test]
fn the_longest_operation_fits_where_room_is_left_for_it() {
    let key = tcp("2001:db8::1", 65535);
    let gue = Tunnel::Gue { port: 6080, checksum: Checksum::Remote };
    let server = server("2001:db8:1::1", 65535, Method::Tunnel(gue));
    let service = Service {
        persistence: Some(Persistence { timeout: 1, prefix: 1 }),
        ..service(key, Scheduler::WeightedLeastConnection)
    };
    for operation in [Operation::AddService(service), Operation::AddDestination(key, server)] {
        let mut bytes = Vec::new();
        pack(&mut bytes, &[operation], WIDE, 0x20, 0);
        assert!(bytes.len() <= 256, "{}", bytes.len());
    }
}

#[test]
fn failures_are_put_down_to_their_operations() {
    let operations = deletions(4);
    let mut tally = Tally::new(&operations, u32::MAX);
    // An answer to a question that was given up, and one that is no verdict.
    let early = [error(7, -1, None), reply(0x20, 0, 0, &[0; 4])].concat();
    assert!(!tally.take(&early).unwrap());
    assert!(!tally.take(&error(u32::MAX, -3, None)).unwrap());
    let late = [error(1, -22, Some("port is odd")), error(2, 0, None)].concat();
    assert!(tally.take(&late).unwrap());
    let failures: Vec<_> = tally.failures(100).collect();
    let failure = |at, errno, message: &str| Failure { at, errno, message: message.to_owned() };
    let missing = failure(100, Errno::SRCH, "no such service");
    assert_eq!(failures, [missing, failure(102, Errno::INVAL, "port is odd")]);
}

#[test]
fn a_failure_of_the_last_ends_a_batch() {
    let operations = deletions(2);
    let mut tally = Tally::new(&operations, 0);
    assert!(tally.take(&error(1, -3, None)).unwrap());
    assert_eq!(tally.failures(0).map(|failure| failure.at).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_list_that_changed_is_read_again() {
    let item = |flags| reply(0x20, flags, 5, &[1, 1, 0, 0]);
    let done = |flags| reply(DONE, flags, 5, &[0; 4]);
    let changed = DUMP_INTERRUPTED;
    for (first, last, torn) in [(0, 0, false), (changed, 0, true), (0, changed, true)] {
        let mut reading = Reading::new(5);
        let read = |_: &Table<'_>| Ok(Some(()));
        assert!(!reading.take(&item(first), read).unwrap());
        // Of another question.
        assert!(!reading.take(&reply(DONE, 0, 4, &[0; 4]), read).unwrap());
        assert!(reading.take(&done(last), read).unwrap());
        assert_eq!(reading.finish().unwrap().is_none(), torn);
    }
}

#[test]
fn a_list_is_read_to_its_end_past_what_is_not_understood() {
    let mut reading = Reading::new(0);
    let read = |table: &Table<'_>| table.u8(1).map(Some);
    assert!(!reading.take(&reply(0x20, 0, 0, &[1, 1, 0, 0]), read).unwrap());
    assert!(reading.take(&reply(DONE, 0, 0, &[0; 4]), read).unwrap());
    assert!(matches!(reading.finish(), Err(Error::Malformed(_))));
}

#[test]
fn a_list_may_end_in_an_error() {
    let done = reply(DONE, 0, 0, &(-12_i32).to_ne_bytes());
    let refused = Reading::<()>::new(0).take(&done, |_| Ok(None)).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::NOMEM));
}

#[test]
fn broken_messages_are_errors() {
    let whole = error(0, -3, Some("no"));
    for length in 1..whole.len() {
        let operations = deletions(1);
        assert!(Tally::new(&operations, 0).take(&whole[..length]).is_err(), "{length}");
    }
    let positive = error(0, 3, None);
    assert!(Tally::new(&deletions(1), 0).take(&positive).is_err());
    let mut empty = whole;
    empty[0] = 0;
    let read: Vec<_> = Messages::new(&empty).map(|message| message.is_err()).collect();
    assert_eq!(read, [true]);
}
