//! What a client begins with, looked at before a server is chosen, and left for that server to read.

use gantry_model::http;
use gantry_model::service::Mode;
use rustix::event::epoll::EventFlags;
use tracing::debug;

use crate::ending::Ending;
use crate::limits::Pass;
use crate::opening::{self, Cookie, Opening, Told, client_hello, remote_desktop};
use crate::queue::Place;
use crate::sticky::Identity;
use crate::worker::Desk;

use super::{GREETING, Setup, State, Step, after, peek};

impl Setup {
    /// It is known who the client is: counts it, and hears what it wants.
    pub(super) fn meet(&mut self, place: Place, desk: &mut Desk) -> Step {
        let routing = self.service.routing();
        if let (Some(limits), None) = (&routing.layer7.client_limits, &self.pass) {
            match Pass::issue(&self.service, self.search.visitor.client, limits, desk.now) {
                Ok(pass) => self.pass = Some(Box::new(pass)),
                Err(why) => {
                    debug!(service = %self.service.name, peer = %self.peer, ?why, "client limited");
                    return Step::Failed(Ending::Limited);
                }
            }
        }
        if routing.layer7.mode == Mode::Http {
            return Step::Http;
        }
        match routing.opening() {
            None => self.agree(place, desk),
            Some(_) => {
                self.state = State::Listening { until: after(desk.now, GREETING) };
                self.listen(place, desk)
            }
        }
    }

    /// Looks at what the client has said so far.
    pub(super) fn listen(&mut self, place: Place, desk: &mut Desk) -> Step {
        let Some(client) = &self.client.0 else { return Step::Failed(Ending::Trouble) };
        let seen = match peek(client, &mut desk.bench.buffer[..opening::LONGEST]) {
            Ok(seen) => seen,
            Err(step) => return step,
        };
        let is_all = seen.len() == opening::LONGEST;
        let told = match self.service.routing().opening() {
            Some(Opening::ServerName) => self.hear_name(client_hello::server_name(seen), is_all),
            Some(Opening::RemoteDesktop) => self.hear_cookie(remote_desktop::cookie(seen), is_all),
            // The configuration has changed.
            None => true,
        };
        match told {
            true => self.agree(place, desk),
            false if self.client_seen.contains(EventFlags::RDHUP) => {
                Step::Failed(Ending::ClientLeft)
            }
            false => Step::Pending,
        }
    }

    /// False if there is more to come.
    fn hear_name(&mut self, told: Told<String>, is_all: bool) -> bool {
        let name = match told {
            Told::Unfinished if !is_all => return false,
            Told::Unfinished | Told::Nothing => None,
            Told::This(name) => Some(name),
        };
        let routing = self.service.routing();
        self.search.visitor.pool = http::pool(&routing.layer7.routes, name.as_deref(), "").cloned();
        true
    }

    /// False if there is more to come.
    fn hear_cookie(&mut self, told: Told<Cookie>, is_all: bool) -> bool {
        match told {
            Told::Unfinished if !is_all => return false,
            Told::Unfinished | Told::Nothing => {}
            Told::This(Cookie::User(name)) => {
                self.search.visitor.called = Some(Identity::called(&name))
            }
            Told::This(Cookie::Server(address)) => {
                let routing = self.service.routing();
                self.search.visitor.home = routing.listening_at(address, self.port).cloned();
            }
        }
        true
    }
}
