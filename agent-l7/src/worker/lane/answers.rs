//! What servers say of a message, and what comes of it when they say nothing.

use std::time::Duration;

use gantry_medical::hl7::Code;
use gantry_medical::mllp::Frame;
use tracing::warn;

use crate::deadline::after;
use crate::ending::Ending;
use crate::mllp::{Answer, Inward};
use crate::relay::Side;
use crate::worker::Desk;

use super::{Held, Lane, MOST_OWED, Moved, Work, hurry, shown};

impl Lane {
    /// Takes what the server says, and sees whether it is there; none if there is nothing of that.
    pub(super) fn hear_server(&mut self, desk: &mut Desk) -> Option<Moved> {
        let link = self.link.as_mut()?;
        link.leg.flush();
        let lost = match link.inlet.next(&mut link.leg, &mut desk.bench) {
            Ok(Inward::Frame(frame)) => {
                self.answered(&frame, desk);
                return Some(Moved::On);
            }
            Ok(Inward::More) => return Some(Moved::Later),
            Ok(Inward::Dry) if link.leg.is_broken() || link.leg.last().is_some() => {
                "it closed the connection".to_owned()
            }
            Ok(Inward::Dry) => {
                if link.inlet.is_amid() {
                    hurry(&link.leg);
                }
                return None;
            }
            Err(why) => why.to_string(),
        };
        Some(match self.work {
            Work::Sent(_) => self.doubt(&lost, Ending::InDoubt, desk),
            // Nothing was under way: the next message goes elsewhere.
            Work::Idle | Work::Held(_) => {
                self.link = None;
                Moved::On
            }
        })
    }

    /// A server has said something.
    pub(super) fn answered(&mut self, frame: &Frame, desk: &mut Desk) {
        let Some(link) = &mut self.link else { return };
        let own = &self.service.counts.mllp;
        let counts = link.target.server().map(|server| server.mllp());
        let all = || std::iter::once(own).chain(counts);
        let answer = match &self.work {
            Work::Sent(order) => order.letter.judge(frame.message()),
            Work::Idle | Work::Held(_) => Answer::unasked(frame.message()),
        };
        let code = match answer {
            Answer::This(code) => code,
            Answer::Of(id, code) => {
                if let Some(at) = link.owed.iter().position(|(owed, _)| *owed == id) {
                    link.owed.remove(at);
                    all().for_each(|counts| counts.answered(Some(code), Duration::ZERO));
                    return self.pass_on(frame, desk);
                }
                return all().for_each(|counts| counts.strays.add(1));
            }
            Answer::Nothing => return all().for_each(|counts| counts.strays.add(1)),
        };
        let Work::Sent(order) = &self.work else { return };
        let took = desk.now.saturating_duration_since(order.since);
        all().for_each(|counts| counts.answered(code, took));
        let layer7 = &self.service.routing().layer7;
        if let Some(server) = link.target.server() {
            match code {
                Some(code) if code.is_positive() => server.accept(),
                Some(_) => server.refuse(layer7.mllp.negatives, desk.now),
                None => {}
            }
        }
        if let (Some(name), true) = (&order.letter.name, code.is_some_and(Code::is_positive))
            && layer7.mllp.replay_window.is_some()
        {
            self.service.ledger().lock().acknowledge(name, frame.as_bytes(), desk.now);
        }
        if code.is_some_and(|code| order.letter.is_answered_again(code))
            && let Some(id) = order.letter.control_id()
            && link.owed.len() < MOST_OWED
        {
            let until = after(desk.now, layer7.mllp.acknowledgement_timeout);
            link.owed.push_back((id.into(), until));
        }
        self.pass_on(frame, desk);
        self.finish(desk);
    }

    /// Passes on what the server has answered.
    fn pass_on(&mut self, frame: &Frame, desk: &mut Desk) {
        if let Some(link) = &self.link {
            let traffic = link.target.traffic(&self.service);
            traffic.to_clients.add(frame.as_bytes().len() as u64);
        }
        self.tell(frame.as_bytes(), desk);
    }

    /// Gives an answer to the client.
    pub(super) fn tell(&mut self, answer: &[u8], desk: &mut Desk) {
        self.client.write(answer, &mut desk.bench.sealed);
        self.carried[Side::Server as usize] += answer.len() as u64;
    }

    /// The message has its answer: the lane is at a boundary.
    pub(super) fn finish(&mut self, desk: &mut Desk) {
        self.work = Work::Idle;
        self.heard = desk.now;
        if self.settings().by_message {
            self.park(desk);
        } else {
            self.leave_unfit();
        }
    }

    /// Whether a server has a message is not known and will not be.
    pub(super) fn doubt(&mut self, what: &str, why: Ending, desk: &mut Desk) -> Moved {
        let work = std::mem::replace(&mut self.work, Work::Idle);
        let (Work::Sent(mut order), Some(link)) = (work, self.link.take()) else {
            return Moved::Over(Ending::Trouble);
        };
        let settings = self.settings();
        let own = &self.service.counts.mllp;
        own.in_doubt.add(1);
        warn!(
            service = %self.service.name, client = %self.sender.client,
            server = link.target.name(), control_id = %shown(&order.letter), what,
            resent = settings.resend_in_doubt, "a message is in doubt"
        );
        let Some(server) = link.target.server().cloned() else { return Moved::Over(why) };
        server.mllp().in_doubt.add(1);
        if matches!(why, Ending::InDoubt) {
            server.set_aside(desk.now);
        }
        if let Some(name) = &order.letter.name {
            self.service.ledger().lock().doubt(name, &server, desk.now);
        }
        // What it still says is of no use: who has no answer by now gets it from another.
        drop(link);
        if !settings.resend_in_doubt || self.gone {
            return Moved::Over(why);
        }
        own.resent.add(1);
        server.mllp().resent.add(1);
        order.doubtful.push(server);
        order.until = after(desk.now, settings.acknowledgement_timeout);
        self.work = Work::Held(Box::new(Held::new(*order)));
        Moved::On
    }
}
