use proptest::prelude::*;

use super::*;

/// A stream, the messages in it, and how many bytes are in none.
type Case = (&'static [u8], &'static [&'static [u8]], u64);

/// What comes of a stream in pieces: the messages, and whether one was too long.
fn decode(decoder: &mut Decoder, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut messages = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.read(&mut rest) {
                Ok(Some(frame)) => messages.push(frame.message().to_vec()),
                Ok(None) => break,
                Err(TooLong { .. }) => return (messages, true),
            }
        }
        assert!(rest.is_empty());
    }
    (messages, false)
}

#[test]
fn messages_come_out_and_the_rest_is_skipped() {
    let cases: [Case; 13] = [
        (b"\x0bMSH|a\r\x1c\r", &[b"MSH|a\r"], 0),
        (b"\x0ba\x1c\r\x0bb\x1c\r\x0bc\x1c\r", &[b"a", b"b", b"c"], 0),
        (b"\r\n\0\x0ba\x1c\r\r\n\0\0\x0bb\x1c\r\n", &[b"a", b"b"], 8),
        (b"\x0bone\x1ctwo\x1c\r", &[b"one\x1ctwo"], 0),
        (b"\x0ba\x1c\x1c\r", &[b"a\x1c"], 0),
        (b"\x0b\x1c\x1c\x1c\r", &[b"\x1c\x1c"], 0),
        (b"\x0ba\x1c\n\x1c\r", &[b"a\x1c\n"], 0),
        (b"\x0b\r\x1c\r", &[b"\r"], 0),
        (b"\x0ba\x0bb\x1c\r", &[b"a\x0bb"], 0),
        (b"\x0b\x1c\r", &[b""], 0),
        (b"\x0bunfinished\x1c", &[], 0),
        (b"GET / HTTP/1.1\r\n\r\n", &[], 18),
        (b"", &[], 0),
    ];
    for (stream, messages, skipped) in cases {
        let mut decoder = Decoder::default();
        let (decoded, too_long) = decode(&mut decoder, &[stream]);
        assert_eq!(decoded, messages, "{}", stream.escape_ascii());
        assert_eq!((decoder.skipped(), too_long), (skipped, false), "{}", stream.escape_ascii());
    }
}

#[test]
fn reading_stops_behind_each_frame() {
    let mut decoder = Decoder::default();
    let mut input: &[u8] = b"\x0ba\x1c\r\x0bb\x1c";
    let frame = decoder.read(&mut input).unwrap().unwrap();
    assert_eq!((frame.message(), frame.as_bytes()), (&b"a"[..], &b"\x0ba\x1c\r"[..]));
    assert_eq!(input, b"\x0bb\x1c");
    assert!(decoder.is_between_frames());
    assert_eq!(decoder.read(&mut input), Ok(None));
    assert!(!decoder.is_between_frames());
    assert_eq!(decoder.read(&mut &b"\r"[..]), Ok(Frame::new(b"b")));
}

#[test]
fn a_message_may_be_just_as_long_as_is_allowed() {
    let cases: [(&[u8], bool); 6] = [
        (b"\x0b12345\x1c\r", false),
        (b"\x0b123456\x1c\r", true),
        (b"\x0b123456", true),
        (b"\x0b1234\x1c\x1c\r", false),
        (b"\x0b12345\x1c\x1c\r", true),
        (b"\x0b12345\x1c6\x1c\r", true),
    ];
    for (stream, expected) in cases {
        for cut in 0..stream.len() {
            let (begin, end) = stream.split_at(cut);
            let mut decoder = Decoder::new(5);
            let (_, too_long) = decode(&mut decoder, &[begin, end]);
            assert_eq!(too_long, expected, "{} cut at {cut}", stream.escape_ascii());
            let later = decoder.read(&mut &b"\x0ba\x1c\r"[..]);
            assert_eq!(later.is_err(), expected, "{}", stream.escape_ascii());
        }
    }
}

#[test]
fn nothing_is_held_between_frames() {
    let mut decoder = Decoder::default();
    let long = [b"\x0b", vec![b'x'; 100_000].as_slice(), b"\x1c\r\r\n"].concat();
    decode(&mut decoder, &[&long]);
    assert_eq!(decoder.frame.capacity(), 0);
    let mut decoder = Decoder::new(50_000);
    decode(&mut decoder, &[&long[..40_000], &long[40_000..]]);
    assert_eq!((decoder.frame.capacity(), decoder.overrun), (0, true));
}

#[test]
fn no_byte_is_looked_at_twice() {
    let frame_ends = b"\x0ba\x1c\r".repeat(5_000);
    let streams: [&[u8]; 5] = [
        &[b'\r'; 20_000],
        &[VT; 20_000],
        &[&[VT], [FS; 20_000].as_slice()].concat(),
        &[&[VT], [FS, b'x'].repeat(10_000).as_slice()].concat(),
        &frame_ends,
    ];
    for (at, stream) in streams.into_iter().enumerate() {
        for size in [1, 7, 4_096, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            let looked_at = scan::while_doing(|| {
                decode(&mut Decoder::default(), &pieces);
            });
            assert!(looked_at <= stream.len(), "stream {at} in pieces of {size}: {looked_at}");
        }
    }
}

#[test]
fn what_would_end_early_is_not_framed() {
    for good in [&b""[..], b"\r", b"MSH|a\r", b"\x1c", b"a\x1cb", b"a\r\x1c"] {
        assert!(Frame::new(good).is_some(), "{}", good.escape_ascii());
    }
    for bad in [&b"\x1c\r"[..], b"a\x1c\rb"] {
        assert_eq!(Frame::new(bad), None, "{}", bad.escape_ascii());
    }
}

/// Bytes of which many mean something here.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![Just(VT), Just(FS), Just(CR), Just(b'\n'), any::<u8>()];
    prop::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn what_is_framed_is_decoded(messages in prop::collection::vec(bytes(), 0..5)) {
        let frames: Vec<Frame> = messages.iter().filter_map(|one| Frame::new(one)).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|one| one.clone().into_bytes()).collect();
        let (decoded, too_long) = decode(&mut Decoder::default(), &[&stream]);
        let expected: Vec<&[u8]> = frames.iter().map(Frame::message).collect();
        prop_assert_eq!(decoded, expected);
        prop_assert!(!too_long);
    }

    #[test]
    fn pieces_make_no_difference(
        stream in bytes(),
        cuts: [prop::sample::Index; 4],
        longest in 0..70_usize,
    ) {
        let mut whole = Decoder::new(longest);
        let expected = decode(&mut whole, &[&stream]);
        let mut single = Decoder::new(longest);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(decode(&mut single, &bytes), expected.clone());
        let mut cuts = cuts.map(|cut| cut.index(stream.len() + 1));
        cuts.sort_unstable();
        let ends = cuts.into_iter().chain([stream.len()]);
        let starts = [0].into_iter().chain(cuts);
        let pieces: Vec<&[u8]> = starts.zip(ends).map(|(from, to)| &stream[from..to]).collect();
        let mut pieced = Decoder::new(longest);
        prop_assert_eq!(decode(&mut pieced, &pieces), expected);
        prop_assert_eq!(single.skipped(), whole.skipped());
        prop_assert_eq!(pieced.skipped(), whole.skipped());
        prop_assert_eq!(pieced.is_between_frames(), whole.is_between_frames());
    }
}
