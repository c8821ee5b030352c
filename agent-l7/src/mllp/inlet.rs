//! Frames out of what one side sends.

use gantry_medical::mllp::{Decoder, Frame, TooLong};

use crate::leg::Leg;
use crate::relay::Bench;

/// The frames of one side. Between frames it holds no memory to speak of.
#[derive(Debug)]
pub(crate) struct Inlet {
    decoder: Decoder,
    /// Received and not decoded yet.
    unread: Vec<u8>,
    at: usize,
}

/// What came of a look.
#[derive(Debug)]
pub(crate) enum Inward {
    Frame(Frame),
    /// There may be more at once; others first.
    More,
    /// Nothing more until the poller speaks.
    Dry,
}

/// Reads of one side before others get their turn.
const READS: usize = 16;
/// How much of a buffer is kept for later when it is empty.
const KEPT: usize = 512;

impl Inlet {
    /// Takes messages of up to `longest` bytes; `early` was received already.
    pub(crate) fn new(longest: u32, early: Vec<u8>) -> Self {
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        Self { decoder: Decoder::new(longest), unread: early, at: 0 }
    }

    /// The next frame, if it is there.
    pub(crate) fn next(&mut self, leg: &mut Leg, bench: &mut Bench) -> Result<Inward, TooLong> {
        for _ in 0..READS {
            let mut rest = &self.unread[self.at..];
            let frame = self.decoder.read(&mut rest)?;
            self.at = self.unread.len() - rest.len();
            if let Some(frame) = frame {
                return Ok(Inward::Frame(frame));
            }
            self.unread.clear();
            self.unread.shrink_to(KEPT);
            self.at = 0;
            if !leg.may_read() {
                return Ok(Inward::Dry);
            }
            let read = leg.read(&mut bench.buffer, &mut bench.plain);
            self.unread.extend_from_slice(read.plain);
        }
        Ok(Inward::More)
    }

    /// A frame has begun, and its end has not come.
    pub(crate) fn is_amid(&self) -> bool {
        !self.decoder.is_between_frames()
    }

    /// Nothing of the side's stream is held here.
    pub(crate) fn is_empty(&self) -> bool {
        self.decoder.is_between_frames() && self.at == self.unread.len()
    }
}
