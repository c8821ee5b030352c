//! The Minimal Lower Layer Protocol: messages of HL7 v2 on a stream (HL7 v2.9, appendix C; Transport
//! Specification: MLLP, release 1). A message stands between VT and FS CR.
//!
//! What stands between two messages is passed over and counted: senders put line ends and zeros there. FS is an end only
//! before CR; alone it belongs to the message. Each byte is looked at once, however the stream is cut, and
//! nothing is kept between two messages.

const VT: u8 = 0x0b;
const FS: u8 = 0x1c;
const CR: u8 = 0x0d;

/// How long a message may be where nothing else is said: reports as PDF come in OBX segments.
pub const LONGEST: usize = 16 << 20;

/// Takes messages out of a stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    longest: usize,
    message: Vec<u8>,
    place: Place,
    passed_over: u64,
}

/// A message is longer than it may be. The stream cannot be read on: nobody knows where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {longest} bytes")]
pub struct TooLong {
    longest: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Within,
    /// Behind an FS within a message.
    BehindFs,
}

impl Decoder {
    pub fn new(longest: usize) -> Self {
        Self { longest, message: Vec::new(), place: Place::Between, passed_over: 0 }
    }

    /// Reads on in the stream, up to the end of a message at most. Gives how many of `bytes` were read,
    /// and that message without its frame; none if all were read before it ended.
    ///
    /// # Errors
    ///
    /// [`TooLong`], from then on at each call.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), TooLong> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.place {
                Place::Between => self.pass_over(rest),
                Place::Within => self.take_in(rest)?,
                Place::BehindFs if rest[0] == CR => {
                    self.place = Place::Between;
                    return Ok((at + 1, Some(std::mem::take(&mut self.message))));
                }
                Place::BehindFs => {
                    self.add(&[FS])?;
                    self.place = Place::Within;
                    0
                }
            };
        }
        Ok((at, None))
    }

    /// Whether a message has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.place != Place::Between
    }

    /// Bytes that stood between messages.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    fn pass_over(&mut self, bytes: &[u8]) -> usize {
        let begin = bytes.iter().position(|byte| *byte == VT);
        let stray = begin.unwrap_or(bytes.len());
        self.passed_over += stray as u64;
        if begin.is_some() {
            self.place = Place::Within;
        }
        stray + usize::from(begin.is_some())
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<usize, TooLong> {
        let end = bytes.iter().position(|byte| *byte == FS);
        let words = &bytes[..end.unwrap_or(bytes.len())];
        self.add(words)?;
        if end.is_some() {
            self.place = Place::BehindFs;
        }
        Ok(words.len() + usize::from(end.is_some()))
    }

    fn add(&mut self, words: &[u8]) -> Result<(), TooLong> {
        if words.len() > self.longest - self.message.len() {
            return Err(TooLong { longest: self.longest });
        }
        self.message.extend_from_slice(words);
        Ok(())
    }
}

/// A message in its frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&[VT], message, &[FS, CR]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All messages of a stream that comes in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Decoder) {
        let mut decoder = Decoder::new(LONGEST);
        let mut messages = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                let (taken, message) = decoder.read(rest).unwrap();
                rest = &rest[taken..];
                match message {
                    Some(message) => messages.push(message),
                    None => break,
                }
            }
            assert!(rest.is_empty());
        }
        (messages, decoder)
    }

    #[test]
    fn messages_stand_between_their_marks() {
        for (stream, messages, stray) in [
            (&b"\x0bMSH|a\x1c\r"[..], &[&b"MSH|a"[..]][..], 0),
            (b"\x0ba\x1c\r\x0bb\x1c\r", &[b"a", b"b"], 0),
            (b"\r\n\0\x0ba\x1c\r\r\n\x0bb\x1c\r\0", &[b"a", b"b"], 6),
            (b"\x0ba\x1cb\x1c\x1cc\x1c\r", &[b"a\x1cb\x1c\x1cc"], 0),
            (b"\x0b\x1c\x1c\r", &[b"\x1c"], 0),
            (b"\x0b\x1c\r", &[b""], 0),
            (b"\x0ba\x0bb\x1c\r", &[b"a\x0bb"], 0),
            (b"GET / HTTP/1.1\r\n\r\n", &[], 18),
            (b"\x0ba\x1c", &[], 0),
        ] {
            let (found, decoder) = read([stream]);
            assert_eq!((&found[..], decoder.passed_over()), (&messages_of(messages)[..], stray));
            assert_eq!(decoder.is_within(), stream.ends_with(b"a\x1c"));
        }
    }

    fn messages_of(messages: &[&[u8]]) -> Vec<Vec<u8>> {
        messages.iter().map(|message| message.to_vec()).collect()
    }

    #[test]
    fn a_message_has_a_longest_length_and_an_idle_decoder_no_memory() {
        let mut decoder = Decoder::new(4);
        assert_eq!(decoder.read(b"\x0babcd\x1c\r"), Ok((7, Some(b"abcd".to_vec()))));
        assert_eq!(decoder.message.capacity(), 0);
        assert_eq!(decoder.read(b"\x0babcd"), Ok((5, None)));
        assert_eq!(decoder.read(b"\x1c"), Ok((1, None)));
        let too_long = Err(TooLong { longest: 4 });
        assert_eq!([decoder.read(b"e"), decoder.read(b"e")], [too_long.clone(), too_long]);
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_back_however_the_stream_is_cut(
            messages in prop::collection::vec(prop::collection::vec(0x0e_u8..=0xff, 0..40), 0..6),
            size in 1_usize..9,
        ) {
            // An FS at the end would be one with the frame's.
            let whole = |message: &Vec<u8>| message.last() != Some(&FS);
            let messages: Vec<_> = messages.into_iter().filter(whole).collect();
            let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
            let (found, decoder) = read(stream.chunks(size));
            prop_assert_eq!(found, messages);
            prop_assert!(!decoder.is_within());
        }

        #[test]
        fn every_cut_of_any_stream_reads_the_same(
            stream in prop::collection::vec(prop::sample::select(vec![VT, FS, CR, b'a', 0]), 0..60),
            size in 1_usize..9,
        ) {
            let (whole, cut) = (read([&stream[..]]), read(stream.chunks(size)));
            prop_assert_eq!(whole.0, cut.0);
            prop_assert_eq!(whole.1.passed_over(), cut.1.passed_over());
        }
    }
}
