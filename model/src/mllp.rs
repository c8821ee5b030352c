//! What a virtual service says of HL7 messages, framed by MLLP.

use std::num::NonZeroU16;
use std::time::Duration;

/// How messages are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mllp {
    /// Each message gets a real server, not each connection.
    pub by_message: bool,
    /// For an acknowledgement.
    pub acknowledgement_timeout: Duration,
    /// In bytes, without the frame.
    pub longest_message: u32,
    /// A message that was not acknowledged is sent to another real server at once.
    pub resend_in_doubt: bool,
    /// How long acknowledgements are kept for repetitions. Absent: not at all.
    pub replay_window: Option<Duration>,
    /// So many negative acknowledgements in a row leave a real server aside.
    pub negatives: NonZeroU16,
}

impl Mllp {
    pub const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(20);
    pub const LONGEST_MESSAGE: u32 = 16 << 20;
    pub const REPLAY_WINDOW: Duration = Duration::from_secs(300);
    pub const NEGATIVES: NonZeroU16 = NonZeroU16::new(5).expect("it is not 0");
}

impl Default for Mllp {
    fn default() -> Self {
        Self {
            by_message: false,
            acknowledgement_timeout: Self::ACKNOWLEDGEMENT_TIMEOUT,
            longest_message: Self::LONGEST_MESSAGE,
            resend_in_doubt: false,
            replay_window: Some(Self::REPLAY_WINDOW),
            negatives: Self::NEGATIVES,
        }
    }
}
