//! MLLP framing: VT, the message, FS CR.
//!
//! Frames come over many reads, and several in one. Bytes before a VT are passed over, as some
//! engines send line ends between frames; an FS that no CR follows belongs to the message.

use anyhow::ensure;

const VT: u8 = 0x0B;
const FS: u8 = 0x1C;
const CR: u8 = 0x0D;

/// The longest message; documents travel in messages.
const LIMIT: usize = 16 * 1024 * 1024;

/// What came and was not yet taken.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// How much of `bytes` was already given out or passed over.
    taken: usize,
    /// How far the end of the frame was looked for.
    searched: usize,
}

pub(super) fn wrap(message: &[u8]) -> Vec<u8> {
    [&[VT], message, &[FS, CR]].concat()
}

impl Frames {
    /// Adds what was read; all frames that were whole before must have been taken.
    pub(super) fn add(&mut self, read: &[u8]) -> anyhow::Result<()> {
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        ensure!(self.bytes.len() + read.len() <= LIMIT, "a message is longer than 16 MiB");
        self.bytes.extend_from_slice(read);
        Ok(())
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let waiting = &self.bytes[self.taken..];
        self.taken += waiting.iter().position(|byte| *byte == VT).unwrap_or(waiting.len());
        let from = self.searched.max(self.taken);
        let end = self.bytes[from..].windows(2).position(|pair| pair == [FS, CR]);
        let Some(end) = end.map(|end| from + end) else {
            // An FS at the very end may yet be followed by its CR.
            self.searched = from.max(self.bytes.len().saturating_sub(1));
            return None;
        };
        let begin = self.taken + 1;
        self.taken = end + 2;
        self.searched = self.taken;
        Some(&self.bytes[begin..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(frames: &mut Frames) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(message) = frames.next() {
            found.push(String::from_utf8(message.to_vec()).unwrap());
        }
        found
    }

    /// However the bytes are cut, the same messages come out.
    #[test]
    fn frames_do_not_depend_on_reads() {
        let bytes = b"\r\n\0\x0Bone\x1C\r\x0Btwo\x1C more\x1C\r\n\x0B\x1C\r\x0Bthree\x1C\r";
        for size in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.add(piece).unwrap();
                found.extend(all(&mut frames));
            }
            assert_eq!(found, ["one", "two\x1C more", "", "three"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_message_is_refused() {
        let mut frames = Frames::default();
        frames.add(&[VT]).unwrap();
        let piece = [b'x'; 64 * 1024];
        let refused = (0..=LIMIT / piece.len()).find(|_| {
            let full = frames.add(&piece).is_err();
            assert!(full || frames.next().is_none());
            full
        });
        assert_eq!(refused, Some(LIMIT / piece.len() - 1));
    }
}
