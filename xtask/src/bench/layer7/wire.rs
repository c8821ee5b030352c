//! What travels: bulk whose every byte is known, HL7 messages with a number, and a page.
//!
//! Bulk is a pattern of a prime length, so that no buffer's size divides it: a byte that is lost,
//! doubled or moved shows. A message is acknowledged with its own number.

/// The pattern's length.
pub(super) const PERIOD: usize = 65_521;
/// As much as is sent or compared at a time.
pub(super) const WINDOW: usize = 256 * 1024;
/// The length of a message, of its acknowledgement, and of a number in them.
pub(super) const MESSAGE: usize = 1024;
pub(super) const ACKNOWLEDGEMENT: usize = 200;
const NUMBER: usize = 16;
/// Where the number is, in a message and in its acknowledgement.
const IN_MESSAGE: usize = 64;
const IN_ACKNOWLEDGEMENT: usize = 72;
/// The answer to a request.
pub(super) const PAGE: usize = 128;

/// Begins and ends a frame of MLLP.
pub(super) const BEGIN: u8 = 0x0b;
pub(super) const END: [u8; 2] = [0x1c, 0x0d];

/// The pattern, long enough for a window to begin anywhere in it.
pub(super) fn pattern() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes: Vec<u8> = std::iter::from_fn(|| {
        // Xorshift: no two stretches of it are alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    })
    .flatten()
    .take(PERIOD)
    .collect();
    bytes.extend_from_within(..);
    while bytes.len() < PERIOD + WINDOW {
        bytes.extend_from_within(PERIOD..2 * PERIOD);
    }
    bytes
}

/// One object of bulk, as it is asked for and as it is answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) length: u64,
    /// Where in the pattern it begins; in an answer, where it ended.
    pub(super) phase: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    /// The client sends it.
    Up,
    /// The server is to send it.
    Down,
    /// It has come in whole.
    Whole,
    /// It has come in, and was another.
    Spoilt,
}

impl Object {
    pub(super) const HEADER: usize = 17;

    pub(super) fn header(self) -> [u8; Self::HEADER] {
        let mut header = [0; Self::HEADER];
        header[0] = match self.kind {
            ObjectKind::Up => b'U',
            ObjectKind::Down => b'D',
            ObjectKind::Whole => b'K',
            ObjectKind::Spoilt => b'X',
        };
        header[1..9].copy_from_slice(&self.length.to_le_bytes());
        header[9..].copy_from_slice(&self.phase.to_le_bytes());
        header
    }

    /// Reads the request for an object, if these bytes begin with a whole one.
    pub(super) fn request(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.first()? {
            b'U' => ObjectKind::Up,
            b'D' => ObjectKind::Down,
            _ => return None,
        };
        let number = |range| {
            Some(u64::from_le_bytes(bytes.get::<std::ops::Range<_>>(range)?.try_into().ok()?))
        };
        Some(Self { kind, length: number(1..9)?, phase: number(9..17)? % PERIOD as u64 })
    }
}

/// Where in the pattern one is after so many bytes from `phase` on.
pub(super) fn advance(phase: usize, bytes: u64) -> usize {
    let period = PERIOD as u64;
    usize::try_from((phase as u64 + bytes % period) % period).unwrap_or_default()
}

/// How much of what is left goes at a time.
pub(super) fn window(left: u64) -> usize {
    usize::try_from(left).unwrap_or(WINDOW).min(WINDOW)
}

/// Notes that so many bytes have gone.
pub(super) fn step(left: &mut u64, phase: &mut usize, bytes: usize) {
    *left -= bytes as u64;
    *phase = advance(*phase, bytes as u64);
}

/// A message of the full length, with the number zero.
pub(super) fn message() -> Vec<u8> {
    let mut bytes = vec![BEGIN];
    bytes.extend_from_slice(b"MSH|^~\\&|BENCH|RADIOLOGY|RIS|HOSPITAL|20260101000000||");
    bytes.resize(IN_MESSAGE - 1, b' ');
    bytes.push(b'|');
    bytes.extend_from_slice(&[b'0'; NUMBER]);
    bytes.extend_from_slice(b"|P|2.5\rOBX|1|TX|");
    bytes.extend((b'a'..=b'z').cycle().take(MESSAGE - END.len() - bytes.len()));
    bytes.extend_from_slice(&END);
    bytes
}

/// An acknowledgement with the number zero.
pub(super) fn acknowledgement() -> Vec<u8> {
    let mut bytes = vec![BEGIN];
    bytes.extend_from_slice(
        b"MSH|^~\\&|RIS|HOSPITAL|BENCH|RADIOLOGY|20260101||ACK|1|P|2.5\rMSA|AA|",
    );
    bytes.resize(IN_ACKNOWLEDGEMENT, b' ');
    bytes.extend_from_slice(&[b'0'; NUMBER]);
    bytes.push(b'\r');
    bytes.resize(ACKNOWLEDGEMENT - END.len(), b'.');
    bytes.extend_from_slice(&END);
    bytes
}

/// Gives a message another number.
pub(super) fn number(message: &mut [u8], number: u64) {
    let digits = format!("{number:0NUMBER$x}");
    message[IN_MESSAGE..IN_MESSAGE + NUMBER].copy_from_slice(digits.as_bytes());
}

/// Puts the number of a message into its acknowledgement.
pub(super) fn acknowledge(acknowledgement: &mut [u8], message: &[u8]) {
    acknowledgement[IN_ACKNOWLEDGEMENT..IN_ACKNOWLEDGEMENT + NUMBER]
        .copy_from_slice(&message[IN_MESSAGE..IN_MESSAGE + NUMBER]);
}

/// Whether these bytes are the acknowledgement of this message.
pub(super) fn acknowledges(bytes: &[u8], message: &[u8]) -> bool {
    bytes.len() == ACKNOWLEDGEMENT
        && bytes[IN_ACKNOWLEDGEMENT..IN_ACKNOWLEDGEMENT + NUMBER]
            == message[IN_MESSAGE..IN_MESSAGE + NUMBER]
}

/// A request that is answered with a page.
pub(super) const REQUEST: &[u8] =
    b"GET /studies HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// The answer to it.
pub(super) fn page() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    let mut bytes = format!("{head}Content-Length: {PAGE}\r\n\r\n").into_bytes();
    bytes.extend((b'a'..=b'z').cycle().take(PAGE));
    bytes
}

/// The end of the head of a request or an answer.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_repeats_and_a_window_fits_anywhere() {
        let pattern = pattern();
        assert!(pattern.len() >= PERIOD + WINDOW);
        assert_eq!(pattern[..WINDOW - PERIOD], pattern[PERIOD..WINDOW]);
        assert_eq!(advance(PERIOD - 1, PERIOD as u64 + 2), 1);
    }

    #[test]
    fn objects_are_read_as_they_were_written() {
        let object = Object { kind: ObjectKind::Down, length: 1 << 40, phase: 65_520 };
        assert_eq!(Object::request(&object.header()), Some(object));
        assert_eq!(Object::request(&object.header()[..16]), None);
    }

    #[test]
    fn an_acknowledgement_belongs_to_one_message() {
        let (mut message, mut answer) = (message(), acknowledgement());
        assert_eq!((message.len(), answer.len()), (MESSAGE, ACKNOWLEDGEMENT));
        number(&mut message, 0xdead_beef);
        assert!(!acknowledges(&answer, &message));
        acknowledge(&mut answer, &message);
        assert!(acknowledges(&answer, &message));
        assert_eq!(head_end(&page()), Some(page().len() - PAGE));
    }
}
