//! Frames of HL7's Minimal Lower Layer Protocol: VT, the message, FS, CR.
//!
//! Source: HL7, "Transport Specification: MLLP, Release 1", block format.
//!
//! What senders do besides is borne with. Bytes between frames are skipped and counted: some send
//! CR LF or NUL there. FS alone ends nothing, only FS and CR do, because FS occurs in data. VT within
//! a message is data, too. What the message says is [`hl7`](crate::hl7)'s business.

use std::mem;

use crate::scan;

const VT: u8 = 0x0b;
const FS: u8 = 0x1c;
const CR: u8 = 0x0d;

/// The longest message that is taken unless told otherwise: documents travel within OBX segments.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// Finds the frames in a stream that comes in pieces. Between frames it holds no memory.
#[derive(Debug)]
pub struct Decoder {
    longest: usize,
    /// The frame so far, from VT on; empty between frames.
    frame: Vec<u8>,
    skipped: u64,
    overrun: bool,
}

/// One message as it travels, with VT before and FS and CR after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

/// A message is longer than the decoder takes; where the next one begins is not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an HL7 message of more than {longest} bytes")]
pub struct TooLong {
    pub longest: usize,
}

impl Decoder {
    /// A decoder that takes messages of up to `longest` bytes, not counting the frame.
    pub fn new(longest: usize) -> Self {
        Self { longest, frame: Vec::new(), skipped: 0, overrun: false }
    }

    /// Reads to the end of the next frame, or through all of `input` if it ends before; `input` is
    /// left with what comes after. Too long a message is told again for every later call.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, TooLong> {
        if self.overrun {
            return Err(self.too_long());
        }
        if self.frame.is_empty() {
            self.begin(input);
        }
        while let Some((next, rest)) = input.split_first() {
            if self.frame.last() == Some(&FS) && *next == CR {
                *input = rest;
                self.frame.push(CR);
                return Ok(Some(Frame(mem::take(&mut self.frame))));
            }
            let end = scan::find(input, |byte| byte == FS).map_or(input.len(), |at| at + 1);
            let (data, rest) = input.split_at(end);
            *input = rest;
            self.append(data)?;
        }
        Ok(None)
    }

    /// Whether no frame has begun: the peer may close here, and nothing is lost.
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_empty() && !self.overrun
    }

    /// How many bytes came that were in no frame.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Skips to the next VT.
    fn begin(&mut self, input: &mut &[u8]) {
        let start = scan::find(input, |byte| byte == VT);
        let skipped = start.unwrap_or(input.len());
        self.skipped = self.skipped.saturating_add(skipped as u64);
        *input = &input[start.map_or(skipped, |at| at + 1)..];
        self.frame.extend(start.map(|_| VT));
    }

    /// Takes data of a message, whose last byte may be the FS that ends it.
    fn append(&mut self, data: &[u8]) -> Result<(), TooLong> {
        let end = usize::from(data.last() == Some(&FS));
        if self.frame.len() - 1 + data.len() - end > self.longest {
            self.frame = Vec::new();
            self.overrun = true;
            return Err(self.too_long());
        }
        self.frame.extend_from_slice(data);
        Ok(())
    }

    fn too_long(&self) -> TooLong {
        TooLong { longest: self.longest }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(LONGEST)
    }
}

impl Frame {
    /// Frames a message; none if it contains FS and CR, and would end before its end.
    pub fn new(message: &[u8]) -> Option<Self> {
        let ends_early = message.windows(2).any(|two| two == [FS, CR]);
        (!ends_early).then(|| Self([&[VT], message, &[FS, CR]].concat()))
    }

    /// The message alone.
    pub fn message(&self) -> &[u8] {
        &self.0[1..self.0.len() - 2]
    }

    /// All of it, as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of it, as it is sent.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests;
