//! One message on its way, as far as its header tells.

use std::hash::{DefaultHasher, Hash, Hasher};

use gantry_medical::hl7::{Acknowledgement, Code, Condition, Header};
use gantry_medical::mllp::Frame;

/// A message of a sender.
#[derive(Debug)]
pub(crate) struct Letter {
    frame: Frame,
    /// By which it is known again; none if its header cannot be read.
    pub(crate) name: Option<Name>,
    /// MSH-9, for counting.
    pub(crate) kind: String,
    /// Which acknowledgements follow.
    awaited: Awaited,
}

/// What tells one message from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) sender: Sender,
    /// Of all of it.
    pub(crate) content: u64,
}

/// MSH-3, MSH-4 and MSH-10.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    application: Box<[u8]>,
    facility: Box<[u8]>,
    pub(crate) control_id: Box<[u8]>,
}

/// Which acknowledgements are asked for (HL7 v2, chapter 2, 2.9.2 and 2.9.3). One that is wanted on errors only
/// cannot be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Awaited {
    commit: bool,
    application: bool,
}

/// What a server's message is to a sender that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answer to this message. None: it cannot be read, and there is nothing else that it could be.
    This(Option<Code>),
    /// It acknowledges the message with this control id.
    Of(Box<[u8]>, Code),
    /// It acknowledges nothing.
    Nothing,
}

impl Letter {
    pub(crate) fn read(frame: Frame) -> Self {
        let original = Awaited { commit: false, application: true };
        let Ok(header) = Header::read(frame.message()) else {
            return Self { frame, name: None, kind: "unreadable".to_owned(), awaited: original };
        };
        let mut hasher = DefaultHasher::new();
        frame.message().hash(&mut hasher);
        let name = Name {
            sender: Sender {
                application: header.sending_application.into(),
                facility: header.sending_facility.into(),
                control_id: header.control_id.into(),
            },
            content: hasher.finish(),
        };
        let wanted = |when| matches!(when, Condition::Always | Condition::OnSuccess);
        let awaited = match header.is_enhanced() {
            false => original,
            true => {
                Awaited { commit: wanted(header.accept), application: wanted(header.application) }
            }
        };
        let kind = [header.message_type.code, header.message_type.trigger].map(|part| {
            String::from_utf8_lossy(&part[..part.len().min(LONGEST_KIND)]).into_owned()
        });
        let kind = kind.join("^");
        Self { frame, name: Some(name), kind: kind.trim_end_matches('^').to_owned(), awaited }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.frame.as_bytes()
    }

    /// It is itself an acknowledgement: of one that a server asked for.
    pub(crate) fn is_acknowledgement(&self) -> bool {
        Acknowledgement::read(self.frame.message()).is_ok()
    }

    /// Whether there will be an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.awaited.commit || self.awaited.application
    }

    /// Whether another answer follows that with `code`.
    pub(crate) fn is_answered_again(&self, code: Code) -> bool {
        code == Code::CommitAccept && self.awaited.application
    }

    pub(crate) fn control_id(&self) -> Option<&[u8]> {
        self.name.as_ref().map(|name| &*name.sender.control_id)
    }

    /// What a message of the server that has this one means.
    pub(crate) fn judge(&self, message: &[u8]) -> Answer {
        match Acknowledgement::read(message) {
            Err(_) => Answer::This(None),
            Ok(read) if self.control_id().is_none_or(|id| id == read.control_id) => {
                Answer::This(Some(read.code))
            }
            // The receiver could not tell which it is.
            Ok(read) if read.control_id.is_empty() => Answer::This(Some(read.code)),
            Ok(read) => Answer::Of(read.control_id.into(), read.code),
        }
    }
}

impl Answer {
    /// What a message means of a server that nothing is expected of at the moment.
    pub(crate) fn unasked(message: &[u8]) -> Self {
        match Acknowledgement::read(message) {
            Ok(read) => Self::Of(read.control_id.into(), read.code),
            Err(_) => Self::Nothing,
        }
    }
}

/// Of a message type, each of its two parts; three letters have meaning.
const LONGEST_KIND: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(message: &str) -> Letter {
        Letter::read(Frame::new(message.as_bytes()).unwrap())
    }

    fn enhanced(accept: &str, application: &str) -> Letter {
        letter(&format!("MSH|^~\\&|HIS|SITE|||1||ADT^A01^ADT_A01|7|P|2.5|||{accept}|{application}"))
    }

    #[test]
    fn what_is_awaited_is_what_is_asked_for() {
        for (accept, application, answered, again) in [
            ("", "", true, true),
            ("AL", "", true, false),
            ("AL", "NE", true, false),
            ("AL", "AL", true, true),
            ("SU", "ER", true, false),
            ("NE", "AL", true, true),
            ("NE", "NE", false, false),
            ("ER", "ER", false, false),
        ] {
            let letter = enhanced(accept, application);
            assert_eq!(letter.is_answered(), answered, "{accept} {application}");
            assert_eq!(letter.is_answered_again(Code::CommitAccept), again);
            assert!(!letter.is_answered_again(Code::CommitError));
            assert!(!letter.is_answered_again(Code::ApplicationAccept));
        }
    }

    #[test]
    fn an_answer_is_known_by_the_control_id() {
        let asked = letter("MSH|^~\\&|HIS|SITE|||1||ORU^R01|42|P|2.3");
        assert_eq!((asked.kind.as_str(), asked.control_id()), ("ORU^R01", Some(&b"42"[..])));
        let answer =
            |msa: &str| asked.judge(format!("MSH|^~\\&|||||1||ACK|9|P\rMSA|{msa}").as_bytes());
        let accepted = Code::ApplicationAccept;
        assert_eq!(answer("AA|42"), Answer::This(Some(accepted)));
        assert_eq!(answer("AE|42|no such patient"), Answer::This(Some(Code::ApplicationError)));
        assert_eq!(answer("AR|"), Answer::This(Some(Code::ApplicationReject)));
        assert_eq!(answer("AA|41"), Answer::Of(b"41".as_slice().into(), accepted));
        assert_eq!(answer("OK|42"), Answer::This(None), "there is nothing else it could be");
        let stray = b"MSH|^~\\&|||||1||ACK|9|P\rMSA|AA|41";
        assert_eq!(Answer::unasked(stray), Answer::Of(b"41".as_slice().into(), accepted));
        assert_eq!(Answer::unasked(b"hello"), Answer::Nothing);
    }

    #[test]
    fn what_cannot_be_read_is_carried_all_the_same() {
        let letter = letter("hello");
        assert_eq!((letter.kind.as_str(), letter.name.is_none()), ("unreadable", true));
        assert!(letter.is_answered());
        let answer = letter.judge(b"MSH|^~\\&|||||1||ACK|9|P\rMSA|AR|");
        assert_eq!(answer, Answer::This(Some(Code::ApplicationReject)));
    }

    #[test]
    fn messages_are_told_apart_by_sender_id_and_content() {
        let name = |text: &str| letter(text).name.unwrap();
        let one = name("MSH|^~\\&|HIS|SITE|||1||ADT^A01|7|P|2.5\rPID|1");
        assert_eq!(one, name("MSH|^~\\&|HIS|SITE|||1||ADT^A01|7|P|2.5\rPID|1"));
        let other = name("MSH|^~\\&|HIS|SITE|||1||ADT^A01|7|P|2.5\rPID|2");
        assert!(one.sender == other.sender && one.content != other.content);
        let elsewhere = name("MSH|^~\\&|LAB|SITE|||1||ADT^A01|7|P|2.5\rPID|1");
        assert_ne!(one.sender, elsewhere.sender);
        let answer = letter("MSH|^~\\&|HIS|SITE|||1||ACK|8|P|2.5\rMSA|CA|7");
        assert!(answer.is_acknowledgement());
    }
}
