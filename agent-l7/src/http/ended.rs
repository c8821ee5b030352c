//! Why a client's connection of HTTP ends: one reason for all that it carried.
//!
//! Requests that fail alone are counted by their answers. Only what takes the connection with it counts
//! here.

use std::cell::Cell;

use gantry_model::termination::Termination;

use super::leash::Cut;

/// How a client's connection fares.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// What has gone wrong with a request so that the connection cannot go on.
    fault: Cell<Option<Termination>>,
    /// The body of an answer is wanted, and does not come.
    awaits_server: Cell<bool>,
    /// It is a tunnel now, whose end is another matter.
    is_switched: Cell<bool>,
    /// A request was answered.
    has_answered: Cell<bool>,
}

/// What ended the conversation with a client.
#[derive(Debug)]
pub(super) enum End {
    Done(hyper::Result<()>),
    /// `is_busy`: with requests under way.
    Cut {
        why: Cut,
        is_busy: bool,
    },
}

impl Course {
    pub(super) fn broke_off(&self, why: Termination) {
        self.fault.set(Some(why));
    }

    pub(super) fn awaits_server(&self, does: bool) {
        self.awaits_server.set(does);
    }

    pub(super) fn switched(&self) {
        self.is_switched.set(true);
    }

    pub(super) fn answered(&self) {
        self.has_answered.set(true);
    }

    /// The reason; none if the connection goes on as a tunnel.
    pub(super) fn end(&self, end: &End) -> Option<Termination> {
        if self.is_switched.get() {
            return None;
        }
        if let Some(fault) = self.fault.get() {
            return Some(fault);
        }
        Some(match end {
            End::Done(Ok(())) => Termination::Completed,
            End::Done(Err(error)) if error.is_parse() => Termination::RequestMalformed,
            End::Done(Err(_)) => Termination::ClientReset,
            End::Cut { why: Cut::Taken, .. } => Termination::ServiceClosed,
            // As connections that are kept alive do, which nobody needs any more.
            End::Cut { is_busy: false, .. } if self.has_answered.get() => Termination::Completed,
            End::Cut { is_busy: false, .. } => Termination::RequestTimeout,
            End::Cut { .. } if self.awaits_server.get() => Termination::ServerTimeout,
            End::Cut { .. } => Termination::ClientTimeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_who_was_silent() {
        let silent = |is_busy| End::Cut { why: Cut::Silent, is_busy };
        let course = Course::default();
        assert_eq!(course.end(&silent(false)), Some(Termination::RequestTimeout));
        assert_eq!(course.end(&silent(true)), Some(Termination::ClientTimeout));
        course.answered();
        assert_eq!(course.end(&silent(false)), Some(Termination::Completed));
        course.awaits_server(true);
        assert_eq!(course.end(&silent(true)), Some(Termination::ServerTimeout));
        course.broke_off(Termination::ServerHalted);
        assert_eq!(course.end(&End::Done(Ok(()))), Some(Termination::ServerHalted));
        course.switched();
        assert_eq!(course.end(&silent(true)), None);
    }
}
