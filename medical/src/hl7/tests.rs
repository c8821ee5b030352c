use proptest::prelude::*;

use super::*;

const ADMISSION: &[u8] = b"MSH|^~\\&|ADT^1.2.3^ISO|WARD 7^4.5^ISO|ENGINE|HOSPITAL|20260102030405||\
ADT^A01^ADT_A01|MSG00001|P|2.5.1|||AL|NE\rEVN|A01\rPID|1||4711\r";

fn header(message: &[u8]) -> Result<Header<'_>, Malformed> {
    Header::read(message)
}

#[test]
fn the_header_is_read_by_the_numbers_of_its_fields() {
    let read = header(ADMISSION).unwrap();
    assert_eq!(read.sending_application, b"ADT^1.2.3^ISO");
    assert_eq!(read.sending_application_name(), b"ADT");
    assert_eq!(read.sending_facility, b"WARD 7^4.5^ISO");
    assert_eq!(read.sending_facility_name(), b"WARD 7");
    assert_eq!(read.message_type, MessageType { code: b"ADT", trigger: b"A01" });
    assert_eq!(read.control_id, b"MSG00001");
    assert_eq!((read.accept, read.application), (Condition::Always, Condition::Never));
    assert!(read.is_enhanced());
    let expected = Separators {
        field: b'|',
        component: b'^',
        repetition: Some(b'~'),
        escape: Some(b'\\'),
        subcomponent: Some(b'&'),
    };
    assert_eq!(read.separators, expected);
}

#[test]
fn senders_may_leave_out_what_is_not_needed() {
    let short = header(b"MSH|^~\\&|||||||ACK|1").unwrap();
    assert_eq!((short.sending_application, short.sending_facility_name()), (&b""[..], &b""[..]));
    assert_eq!(short.message_type, MessageType { code: b"ACK", trigger: b"" });
    assert!(!short.is_enhanced());
    let odd = header(b"MSH$!$A!B$C$$$$$ORU!R01$7$P$2.3$$$$SU\nPID$MSH").unwrap();
    assert_eq!((odd.separators.component, odd.separators.repetition), (b'!', None));
    assert_eq!((odd.sending_application_name(), odd.control_id), (&b"A"[..], &b"7"[..]));
    assert_eq!(odd.message_type, MessageType { code: b"ORU", trigger: b"R01" });
    assert_eq!((odd.accept, odd.application), (Condition::Unset, Condition::OnSuccess));
    let untyped = header(b"MSH|^~\\&|\xe4||||||\t|\xff 1|||||ER|yes\r\n").unwrap();
    assert_eq!((untyped.sending_application, untyped.control_id), (&b"\xe4"[..], &b"\xff 1"[..]));
    assert_eq!((untyped.accept, untyped.application), (Condition::OnError, Condition::Unknown));
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(&[u8], Malformed); 14] = [
        (b"", Malformed::NoHeader),
        (b"MS", Malformed::NoHeader),
        (b"PID|1", Malformed::NoHeader),
        (b"\rMSH|^~\\&|||||||ACK|1", Malformed::NoHeader),
        (b"MSH", Malformed::FieldSeparator),
        (b"MSH\r^~\\&", Malformed::FieldSeparator),
        (b"MSHa^~\\&a", Malformed::FieldSeparator),
        (b"MSH|", Malformed::EncodingCharacters),
        (b"MSH||A", Malformed::EncodingCharacters),
        (b"MSH|\r|A", Malformed::EncodingCharacters),
        (b"MSH|^~\\&#!|A", Malformed::EncodingCharacters),
        (b"MSH|ADT|A", Malformed::EncodingCharacters),
        (b"MSH|^~\\&|||||||ACK||P", Malformed::NoControlId),
        (b"MSH|^~\\&|A\rEVN|||||||B|C", Malformed::NoControlId),
    ];
    for (message, expected) in cases {
        assert_eq!(header(message), Err(expected), "{}", message.escape_ascii());
    }
}

#[test]
fn an_acknowledgement_is_found_among_segments() {
    let cases: [(&[u8], Code, &[u8]); 8] = [
        (b"MSH|^~\\&|A|B|C|D|||ACK|9|P|2.5\rMSA|AA|MSG1\r", Code::ApplicationAccept, b"MSG1"),
        (b"MSH|^~\\&|A\nMSA|AE|MSG1|text\nERR|x\n", Code::ApplicationError, b"MSG1"),
        (b"MSH|^~\\&|A\r\nSFT|x\r\nMSA|AR|MSG1\r\n", Code::ApplicationReject, b"MSG1"),
        (b"MSH|^~\\&\rMSA|CA|MSG 1", Code::CommitAccept, b"MSG 1"),
        (b"MSH|^~\\&\rNTE|MSA|AA\rMSA|CE|1^2|", Code::CommitError, b"1^2"),
        (b"MSH|^~\\&|A\rMSAX|AA|2\rMSA|CR||", Code::CommitReject, b""),
        (b"MSH#^~\\&#A\rMSA#AA", Code::ApplicationAccept, b""),
        (b"MSH|^~\\&|A\rMSA|AA|1\rMSA|AE|2\r", Code::ApplicationAccept, b"1"),
    ];
    for (message, code, control_id) in cases {
        let expected = Acknowledgement { code, control_id };
        assert_eq!(Acknowledgement::read(message), Ok(expected), "{}", message.escape_ascii());
    }
}

#[test]
fn what_is_no_acknowledgement_is_named() {
    let cases: [(&[u8], Malformed); 8] = [
        (b"MSA|AA|1\r", Malformed::NoHeader),
        (b"MSH|A", Malformed::EncodingCharacters),
        (b"MSH|^~\\&|A|MSA|AA|1\r", Malformed::NoAcknowledgement),
        (b"MSH|^~\\&|A\rMSA\r", Malformed::NoAcknowledgement),
        (b"MSH|^~\\&|A\rMSA#AA#1\r", Malformed::NoAcknowledgement),
        (b"MSH|^~\\&|A\rMSA|\r", Malformed::Code),
        (b"MSH|^~\\&|A\rMSA|aa|1\r", Malformed::Code),
        (b"MSH|^~\\&|A\rMSA|AAA|1\r", Malformed::Code),
    ];
    for (message, expected) in cases {
        assert_eq!(Acknowledgement::read(message), Err(expected), "{}", message.escape_ascii());
    }
}

#[test]
fn an_answer_is_matched_by_the_control_id() {
    let read = header(ADMISSION).unwrap();
    let answer = |id| Acknowledgement { code: Code::ApplicationAccept, control_id: id };
    assert!(answer(b"MSG00001").answers(&read));
    for other in [&b""[..], b"MSG0000", b"MSG000011", b"msg00001"] {
        assert!(!answer(other).answers(&read));
    }
}

#[test]
fn codes_say_whether_and_when() {
    let cases = [
        ("AA", true, false),
        ("AE", false, false),
        ("AR", false, false),
        ("CA", true, true),
        ("CE", false, true),
        ("CR", false, true),
    ];
    for (text, positive, commit) in cases {
        let code = Code::read(text.as_bytes()).unwrap();
        assert_eq!(code.to_string(), text);
        assert_eq!((code.is_positive(), code.is_commit()), (positive, commit), "{text}");
    }
}

#[test]
fn no_more_is_looked_at_than_needed() {
    let long = [ADMISSION, b"OBX|", &[b'x'; 100_000]].concat();
    let looked_at = scan::while_doing(|| assert!(Header::read(&long).is_ok()));
    assert!(looked_at < 2 * ADMISSION.len(), "{looked_at}");
    let begin = b"MSH|^~\\&|";
    for filling in [&b"x"[..], b"|", b"\r", b"MSA", b"\rMSA", b"MSA|\n"] {
        let message = [begin, filling.repeat(20_000).as_slice()].concat();
        let looked_at = scan::while_doing(|| {
            let _ = Header::read(&message);
            let _ = Acknowledgement::read(&message);
        });
        let most = 2 * message.len() + 4 * begin.len();
        assert!(looked_at <= most, "{}: {looked_at}", filling.escape_ascii());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        fields in prop::collection::vec("[A-Za-z0-9 ^.~&-]{0,8}", 14),
        id in "[A-Za-z0-9.-]{1,20}",
        code in 0..6_usize,
    ) {
        let mut fields = fields;
        fields[7] = id.clone();
        let code = Code::ALL[code];
        let message = format!("MSH|^~\\&|{}\rEVN|\rMSA|{code}|{id}\r", fields.join("|"));
        let read = Header::read(message.as_bytes()).unwrap();
        prop_assert_eq!(read.sending_application, fields[0].as_bytes());
        prop_assert_eq!(read.sending_facility, fields[1].as_bytes());
        prop_assert_eq!(read.control_id, id.as_bytes());
        prop_assert_eq!(read.accept, Condition::read(fields[12].as_bytes()));
        let answer = Acknowledgement::read(message.as_bytes()).unwrap();
        prop_assert_eq!(answer.code, code);
        prop_assert!(answer.answers(&read));
    }

    #[test]
    fn any_bytes_are_a_message_or_not(bytes: Vec<u8>, begins: bool) {
        let message = [if begins { &b"MSH|^"[..] } else { b"" }, &bytes].concat();
        let _ = Header::read(&message);
        let _ = Acknowledgement::read(&message);
    }

    #[test]
    fn changed_messages_are_messages_or_not(
        at: prop::sample::Index,
        byte: u8,
        end: prop::sample::Index,
    ) {
        let mut message = [ADMISSION, b"MSA|AA|1\r"].concat();
        *at.get_mut(&mut message) = byte;
        message.truncate(end.index(message.len() + 1));
        let _ = Header::read(&message);
        let _ = Acknowledgement::read(&message);
    }
}
