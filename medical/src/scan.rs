//! The search for a byte, and in tests the count of all bytes that were looked at.
//!
//! All readers of this crate search and copy through here, so that a test can show that none of
//! them looks twice at what it has seen.

/// Where the first byte is that is `wanted`.
pub(crate) fn find(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let found = bytes.iter().position(|byte| wanted(*byte));
    looked_at(found.map_or(bytes.len(), |at| at + 1));
    found
}

#[cfg(not(test))]
pub(crate) fn looked_at(_: usize) {}

#[cfg(test)]
pub(crate) use count::{looked_at, while_doing};

#[cfg(test)]
mod count {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn looked_at(bytes: usize) {
        COUNT.set(COUNT.get() + bytes);
    }

    /// How many bytes are looked at by this thread while it does something.
    pub(crate) fn while_doing(something: impl FnOnce()) -> usize {
        let before = COUNT.get();
        something();
        COUNT.get() - before
    }
}
