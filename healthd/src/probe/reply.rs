//! What a server has sent so far, and whether the expected pattern is in it.
//!
//! A pattern may match across reads, so all of the reply is kept, up to a limit, and searched from
//! its beginning. To search at each read would let a server that sends single bytes cost the
//! appliance quadratic time; so the reply is searched when it has grown by an eighth, when it
//! pauses, and when it ends.

use std::time::Duration;

use gantry_model::check::Pattern;

/// A silence this long is a reason to search what is there.
const PAUSE: Duration = Duration::from_millis(20);

/// A reply in the making.
pub(super) struct Reply<'a> {
    pattern: &'a Pattern,
    limit: usize,
    bytes: Vec<u8>,
    searched: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn new(pattern: &'a Pattern, limit: usize) -> Self {
        Self { pattern, limit, bytes: Vec::new(), searched: 0 }
    }

    /// Takes what came and searches if that is due; true once the pattern was found.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let due = self.searched + self.searched / 8;
        (self.is_full() || self.bytes.len() > due) && self.search()
    }

    /// Searches all there is.
    pub(super) fn search(&mut self) -> bool {
        self.searched = self.bytes.len();
        self.pattern.is_match(&self.bytes)
    }

    /// How long to wait for more before searching what is there: for ever if that was done.
    pub(super) fn patience(&self) -> Duration {
        if self.searched < self.bytes.len() { PAUSE } else { Duration::MAX }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() == self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_across_pieces() {
        let pattern = Pattern::new("^220 .*ready").unwrap();
        let mut reply = Reply::new(&pattern, 100);
        assert!(!reply.add(b"22"));
        assert!(!reply.add(b"0 pacs is re"));
        assert!(reply.add(b"ady\r\n"));
    }

    #[test]
    fn small_pieces_are_not_searched_each_time() {
        let pattern = Pattern::new("never").unwrap();
        let mut reply = Reply::new(&pattern, 64 * 1024);
        let mut searches = 0;
        while !reply.is_full() {
            assert!(!reply.add(b"."));
            searches += usize::from(reply.patience() == Duration::MAX);
        }
        assert!(searches < 120, "{searches}");
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let pattern = Pattern::new("yes").unwrap();
        let mut reply = Reply::new(&pattern, 4);
        assert!(!reply.add(b"..yes"));
        assert!(reply.is_full() && !reply.add(b"yes"));
    }
}
