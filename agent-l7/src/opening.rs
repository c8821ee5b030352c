//! What a client says before anything else, looked at without being taken.
//!
//! Which server it asks for (the TLS ClientHello), or who it is (Remote Desktop): by that it is given a real server,
//! and what it said goes there as it came.

pub(crate) use remote_desktop::Cookie;

pub(crate) mod client_hello;
pub(crate) mod remote_desktop;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    ServerName,
    RemoteDesktop,
}

/// What the beginning of a stream tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// It may yet come.
    Unfinished,
    /// The stream begins in another way, or does not say it.
    Nothing,
    This(T),
}

/// What is looked at, at most. A ClientHello with post-quantum key shares has some 2 KiB.
pub(crate) const LONGEST: usize = 16 << 10;

impl<T> Told<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Told<U> {
        match self {
            Self::Unfinished => Told::Unfinished,
            Self::Nothing => Told::Nothing,
            Self::This(told) => Told::This(change(told)),
        }
    }
}

/// Cuts a number of `LENGTH` bytes off, most significant first.
fn number<const LENGTH: usize>(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk::<LENGTH>()?;
    *bytes = rest;
    Some(number.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(piece)
}
