//! DICOM while a connection is set up: what the client asks for decides which real server it is offered to,
//! and a server that does not want it has not had it.
//!
//! Until a server has accepted, nothing is committed: the same A-ASSOCIATE-RQ goes to one server after the
//! other, and the client waits for its answer. Whoever gets none is told so by an A-ASSOCIATE-RJ.

use std::sync::Arc;
use std::time::Instant;

use gantry_medical::dicom::{
    Abort, AbortReason, AeTitles, Header, HeaderError, Kind, Reject, RejectReason, RejectResult,
};
use gantry_model::dicom::{Asked, Unrouted};
use gantry_model::service::{Mode, PersistenceKey};
use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags};
use tracing::debug;

use crate::dicom::{Association, Member, Story};
use crate::ending::{Ending, Untaken};
use crate::leg::Leg;
use crate::queue::Place;
use crate::relay::{Associated, Patience};
use crate::sticky::Identity;
use crate::worker::Desk;
use crate::worker::search::untaken;

use super::{Reached, Setup, State, Step, Target, after};

/// What a client asks for.
pub(super) struct Asking {
    member: Member,
    /// How the server that was asked last has rejected it.
    rejection: Option<Reject>,
}

/// A server that is asked.
pub(super) struct Offering {
    pub(super) leg: Leg,
    pub(super) target: Target,
    /// What it has said so far.
    answer: Vec<u8>,
    pub(super) until: Instant,
}

/// An A-ASSOCIATE-RQ may be as long, with all that clients negotiate; one has a few KiB.
const LONGEST_REQUEST: u32 = 1 << 20;
/// The longest answer that must be there as a whole: A-ASSOCIATE-RJ.
const REJECTION: usize = 10;

impl Setup {
    /// The client can be heard: looks for a server, once it has said what it wants where it must.
    pub(super) fn hear(&mut self, place: Place, desk: &mut Desk) -> Step {
        let layer7 = &self.service.routing().layer7;
        match layer7.mode {
            Mode::Dicom => {}
            Mode::Mllp => return Step::Lane,
            Mode::Tcp | Mode::Http => return self.choose(place, desk),
        }
        self.search.answer = layer7.dicom.answer_timeout;
        self.state = State::Requesting { until: after(desk.now, layer7.dicom.request_timeout) };
        self.request(place, desk)
    }

    /// Reads what has come of the request.
    pub(super) fn request(&mut self, place: Place, desk: &mut Desk) -> Step {
        loop {
            let header = match Header::read(&self.early, LONGEST_REQUEST) {
                Ok(header) => header,
                Err(why @ HeaderError::UnknownType(_)) => {
                    return self.no_request(AbortReason::UnrecognizedPdu, &why.to_string());
                }
                Err(why) => {
                    return self
                        .no_request(AbortReason::InvalidPduParameterValue, &why.to_string());
                }
            };
            match header {
                Some(Header { kind, .. }) if kind != Kind::AssociateRequest => {
                    let why = format!("{kind} before an association");
                    return self.no_request(AbortReason::UnexpectedPdu, &why);
                }
                Some(header) if header.whole() <= self.early.len() => {
                    return self.requested(header.whole(), place, desk);
                }
                Some(_) | None => {}
            }
            match self.read_client(&mut desk.bench.buffer) {
                Ok(0) => return Step::Failed(Ending::ClientLeft),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Step::Pending,
                Err(_) => return Step::Failed(Ending::ClientLeft),
            }
        }
    }

    /// The time for the request is over: PS3.8, action AA-2 of table 9-9.
    pub(super) fn unrequested(&mut self) -> Step {
        let step = self.malformed(Ending::ClientSilent, "no A-ASSOCIATE-RQ in time");
        self.client.0 = None;
        step
    }

    fn no_request(&mut self, reason: AbortReason, why: &str) -> Step {
        self.malformed(Ending::Malformed, why);
        self.farewell = Some(Abort::Provider(reason).to_bytes());
        Step::Parts(Ending::Malformed)
    }

    /// Appends what the client has sent to what is known of it.
    fn read_client(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(client) = &self.client.0 else { return Ok(0) };
        let Some(session) = &mut self.session else {
            let (read, _) = net::recv(client, &mut *buffer, RecvFlags::empty())?;
            self.early.extend_from_slice(&buffer[..read]);
            return Ok(read);
        };
        if session.has_ended() {
            return Ok(0);
        }
        let read = session.receive(client, buffer)?;
        let opened = session.open(&mut buffer[..read], &mut self.early);
        // The protocol itself may have had something to say; who does not take it has other troubles.
        let _ = session.out_mut().send(client);
        Ok(if opened.is_ok() { read } else { 0 })
    }

    /// The request is there: finds out who may serve it.
    fn requested(&mut self, length: usize, place: Place, desk: &mut Desk) -> Step {
        let titles = match AeTitles::read(&self.early[..length]) {
            Ok(titles) => titles,
            Err(why) => {
                let why = why.to_string();
                return self.no_request(AbortReason::InvalidPduParameterValue, &why);
            }
        };
        let AeTitles { called, calling } = titles;
        let member = Member::new(&self.service, Story::new(called, calling));
        let routing = self.service.routing();
        let source = self.search.visitor.client;
        let names = self.session.as_ref().map(|session| session.peer_names()).unwrap_or_default();
        let asked = Asked { called, calling, source, certificate: &names };
        let unfit = match routing.layer7.dicom.pool(&asked) {
            Err(Unrouted::Called) => {
                Some(Reject::permanent(RejectReason::CalledAeTitleNotRecognized))
            }
            Err(Unrouted::Calling) => {
                Some(Reject::permanent(RejectReason::CallingAeTitleNotRecognized))
            }
            Ok(_) if !member.fits(&routing.layer7.dicom) => {
                Some(Reject::transient(RejectReason::LocalLimitExceeded))
            }
            Ok(pool) => {
                self.search.visitor.pool = pool.cloned();
                None
            }
        };
        let by_title = routing.is_sticky_by(PersistenceKey::CallingAeTitle);
        self.search.visitor.called = by_title.then(|| Identity::called(calling));
        self.asking = Some(Box::new(Asking { member, rejection: None }));
        match unfit {
            Some(reject) => self.reject(reject, Ending::AssociationRefused),
            None => self.choose(place, desk),
        }
    }

    /// Tells a client that asks for an association that there is none.
    pub(super) fn reject(&mut self, reject: Reject, why: Ending) -> Step {
        let Some(asking) = &self.asking else { return Step::Failed(why) };
        let story = asking.member.story();
        debug!(
            service = %self.service.name, peer = %self.peer, called = &*story.called,
            calling = &*story.calling, reason = %reject.reason, "an association was rejected"
        );
        if why == Ending::AssociationRejected {
            asking.member.rejected();
        } else {
            asking.member.refused();
        }
        self.farewell = Some(reject.to_bytes());
        Step::Parts(why)
    }

    /// There is nobody who might serve the client. Where it asks for an association it is told, in the words
    /// of the server that rejected it last, if there was one.
    pub(super) fn turn_away(&mut self, why: Ending) -> Step {
        if matches!(why, Ending::Unserved(_) | Ending::ServiceClosed) {
            self.service.counts.unserved.add(1);
        }
        match self.asking.as_ref().map(|asking| asking.rejection) {
            None => Step::Failed(why),
            Some(_) if why == Ending::QueueTimeout => {
                self.reject(Reject::transient(RejectReason::LocalLimitExceeded), why)
            }
            Some(Some(rejection)) => self.reject(rejection, Ending::AssociationRejected),
            Some(None) => self.reject(Reject::transient(RejectReason::TemporaryCongestion), why),
        }
    }

    /// Asks the server that has taken the connection.
    pub(super) fn offer(&mut self, reached: Reached, place: Place, desk: &mut Desk) -> Step {
        let until = after(desk.now, self.search.answer);
        let (mut leg, target, answer) = reached.into_leg(&mut desk.bench);
        leg.write(&self.early, &mut desk.bench.sealed);
        self.state = State::Offering(Box::new(Offering { leg, target, answer, until }));
        self.answer(place, desk)
    }

    /// Looks at what the server that is asked has said so far.
    pub(super) fn answer(&mut self, place: Place, desk: &mut Desk) -> Step {
        let State::Offering(offering) = &mut self.state else { return Step::Pending };
        let Offering { leg, answer, .. } = &mut **offering;
        leg.flush();
        loop {
            match Header::read(answer, u32::MAX) {
                Ok(Some(Header { kind: Kind::AssociateAccept, .. })) => return Step::Associated,
                Ok(Some(Header { kind: Kind::AssociateReject, .. })) => {
                    if let Some(rejection) = answer.get(..REJECTION) {
                        let rejection = Reject::read(rejection);
                        return self.rejected(rejection.ok(), place, desk);
                    }
                }
                // An A-ABORT, or no DICOM.
                Ok(Some(_)) | Err(_) => return self.rejected(None, place, desk),
                Ok(None) => {}
            }
            if leg.is_broken() || leg.last().is_some() {
                return self.unanswered(Errno::CONNRESET, place, desk);
            }
            if !leg.may_read() {
                return Step::Pending;
            }
            let read = leg.read(&mut desk.bench.buffer, &mut desk.bench.plain);
            answer.extend_from_slice(read.plain);
        }
    }

    /// The server does not want the association; none: it does not say why.
    fn rejected(&mut self, rejection: Option<Reject>, place: Place, desk: &mut Desk) -> Step {
        let State::Offering(offering) = &mut self.state else { return Step::Pending };
        offering.leg.let_go();
        match rejection {
            Some(reject) if reject.result == RejectResult::Permanent => {
                self.reject(reject, Ending::AssociationRejected)
            }
            rejection => {
                if let Some(asking) = &mut self.asking {
                    asking.rejection = rejection;
                }
                let why = (Untaken::Rejected, "the association was not accepted");
                self.ask_another(why, place, desk)
            }
        }
    }

    /// The server has not answered, and will not.
    pub(super) fn unanswered(&mut self, error: Errno, place: Place, desk: &mut Desk) -> Step {
        self.ask_another((untaken(error), &error.to_string()), place, desk)
    }

    fn ask_another(&mut self, why: (Untaken, &str), place: Place, desk: &mut Desk) -> Step {
        let State::Offering(offering) = std::mem::replace(&mut self.state, State::Searching) else {
            return Step::Pending;
        };
        let found = self.search.fail(offering.target, why, place, desk);
        self.take(found, place, desk)
    }

    /// The two sides, and their association.
    pub(in crate::worker) fn into_associated(mut self) -> Option<(Associated, Target)> {
        let client = self.leg()?;
        let State::Offering(offering) = std::mem::replace(&mut self.state, State::Searching) else {
            return None;
        };
        let Offering { leg: server, target, answer, .. } = *offering;
        let Asking { member, .. } = *self.asking?;
        let timeouts = self.service.routing().layer7.timeouts;
        let traffic = target.traffic(&self.service);
        traffic.connections.add(1);
        let parts = Associated {
            client,
            server,
            association: Association::new(member, target.server().cloned()),
            patience: Patience { client: timeouts.client, server: timeouts.server },
            traffic: Arc::clone(traffic),
            said: [self.early, answer],
        };
        Some((parts, target))
    }

    /// The client as it is to be told the last it hears from here, and that.
    pub(in crate::worker) fn part(&mut self) -> Option<(Leg, [u8; 10])> {
        Some((self.leg()?, self.farewell?))
    }

    /// What the log is told of what was asked for.
    pub(in crate::worker) fn story(&self) -> Option<&Arc<Story>> {
        self.asking.as_ref().map(|asking| asking.member.story())
    }
}
