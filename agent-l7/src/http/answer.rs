//! One request: which server gets it, and what the client gets.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::service::Endpoint;
use gantry_model::termination::Termination;
use gantry_runtime::clock;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use tracing::debug;

use crate::deadline::{after, after_dials};
use crate::seat::{Seat, Visitor};
use crate::service::Routing;
use crate::socket::{self, Source};
use crate::stats::Traffic;

use super::body::{Answer, Carried, Relayed, Upload};
use super::desk::Unseated;
use super::guest::{Busy, Caller};
use super::head::{self, Token};
use super::leash::{Cut, Held};
use super::page::{self, REQUEST_ID, Reason};
use super::tunnel;
use super::upstream::{self, Idle, Kind, Lent};

const LONGEST_ID: usize = 128;
/// Fields that a request is told with: who asks, and its id.
const ADDED: usize = 5;

/// What is asked for. It goes through many hands, which are to have no room for all of it.
type Wanted = Box<(Parts, Upload)>;

/// What a client wants to switch to, and the way to its connection.
type Switch = (HeaderValue, OnUpgrade);

/// A request on its way to a real server.
struct Asking<'a> {
    caller: &'a Rc<Caller>,
    routing: &'a Routing,
    visitor: Visitor,
    /// When waiting in line is over, once it has begun.
    queue_until: Option<Instant>,
    /// When no further server is tried, once the first was.
    dial_until: Option<Instant>,
}

/// The head of an answer, and what its body comes by.
struct Fetched {
    response: Response<Incoming>,
    held: Held,
    lent: Lent,
    traffic: Arc<Traffic>,
}

/// A server that has been chosen, or the fallback.
struct Target {
    held: Held,
    endpoint: Endpoint,
    traffic: Arc<Traffic>,
}

/// What became of one attempt.
enum Attempt {
    Fetched(Box<Fetched>),
    /// Another one may have better luck, with this.
    Again(Wanted),
    Failed(Reason),
}

/// Answers a request.
pub(super) async fn answer(caller: Rc<Caller>, request: Request<Incoming>) -> Response<Answer> {
    let routing = caller.service.routing();
    let counts = &caller.service.counts.http;
    counts.requests.add(1);
    let http = &routing.layer7.http;
    let id = request_id(&caller, request.headers(), http.trust_forwarded);
    let busy = Busy::begin(&caller, &routing.layer7, &id);
    let mut response = match handle(&caller, &routing, request, &id, &busy).await {
        Ok(Handled::Relayed(fetched)) => relay(&caller, &routing, fetched, busy),
        Ok(Handled::Switched(response)) => {
            busy.answered(response.status().as_u16(), "it switched protocols");
            response
        }
        Ok(Handled::Redirected(mut response)) => {
            counts.own_answers.add(1);
            busy.answered(response.status().as_u16(), "it was redirected to HTTPS");
            response.body_mut().keep_busy(busy);
            response
        }
        Err(reason) => {
            counts.own_answers.add(1);
            let mut response = match &http.maintenance {
                Some(page) if reason == Reason::Nobody => page::maintenance(page, &id),
                _ => page::of(reason, &id),
            };
            busy.answered(response.status().as_u16(), reason.as_str());
            response.body_mut().keep_busy(busy);
            response
        }
    };
    head::edit(response.headers_mut(), &http.response_headers);
    counts.answered(response.status().as_u16());
    response
}

enum Handled {
    Relayed(Box<Fetched>),
    Switched(Response<Answer>),
    Redirected(Response<Answer>),
}

async fn handle(
    caller: &Rc<Caller>,
    routing: &Routing,
    mut request: Request<Incoming>,
    id: &HeaderValue,
    busy: &Busy,
) -> Result<Handled, Reason> {
    let http = &routing.layer7.http;
    let wanted = head::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
    let switch = wanted.map(|to| (to, hyper::upgrade::on(&mut request)));
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(Reason::Method);
    }
    head::address(&mut parts).map_err(|_| Reason::Malformed)?;
    if http.redirect_to_https && !caller.is_secure {
        let host = head::host(&parts.headers).ok_or(Reason::Malformed)?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let redirect = page::redirect(host, path, id).ok_or(Reason::Malformed)?;
        return Ok(Handled::Redirected(redirect));
    }
    let token = routing.cookie.and_then(|_| Token::read(&parts.headers, &http.cookie));
    let mut asking = Asking {
        caller,
        routing,
        visitor: visitor(caller, routing, &parts, token),
        queue_until: None,
        dial_until: None,
    };
    head::strip(&mut parts.headers);
    if let Some((to, _)) = &switch {
        head::switch(&mut parts.headers, to.clone());
    }
    parts.headers.reserve(ADDED);
    caller.introduction.tell(&mut parts.headers, http.trust_forwarded);
    parts.headers.insert(REQUEST_ID, id.clone());
    head::edit(&mut parts.headers, &http.request_headers);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();

    let wanted = Box::new((parts, Upload::new(body)));
    let mut fetched = asking.fetch(wanted, busy).await?;
    if fetched.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let switched = change_over(caller, *fetched, switch).ok_or(Reason::BadAnswer)?;
        return Ok(Handled::Switched(switched));
    }
    let headers = fetched.response.headers_mut();
    head::strip(headers);
    if let Some(kept) = routing.cookie
        && let Some(server) = fetched.held.seat().map(|seat| &seat.server.name.server)
        && let Some(server) = routing.token(server)
        && let Some(cookie) = cookie(token, server, kept, &http.cookie, caller.is_secure)
    {
        headers.append(SET_COOKIE, cookie);
    }
    Ok(Handled::Relayed(fetched))
}

/// Who asks, and for what.
fn visitor(caller: &Caller, routing: &Routing, parts: &Parts, token: Option<Token>) -> Visitor {
    let (host, path) = (head::host(&parts.headers), parts.uri.path());
    let mut visitor = Visitor::new(caller.ends.client.ip());
    visitor.pool = gantry_model::http::pool(&routing.layer7.routes, host, path).cloned();
    visitor.home = token.and_then(|token| routing.by_token(token.server)).cloned();
    visitor
}

/// The cookie that a client should have, if it has not.
fn cookie(
    token: Option<Token>,
    server: u64,
    kept: Duration,
    name: &str,
    is_secure: bool,
) -> Option<HeaderValue> {
    let minute = u64::try_from(clock::wall().as_second() / 60).unwrap_or_default();
    // Written anew when a quarter of its time is over.
    let young = |token: &Token| minute.saturating_sub(token.minute) * 60 * 4 <= kept.as_secs();
    match token.filter(young) {
        Some(token) if token.server == server => None,
        _ => Token { server, minute }.write(name, kept, is_secure),
    }
}

/// How long nothing may be heard while a body is on its way, from either side.
fn patience(routing: &Routing) -> Duration {
    let timeouts = routing.layer7.timeouts;
    timeouts.client.max(timeouts.server)
}

/// Has the client's connection and the server's carry bytes from now on.
fn change_over(
    caller: &Rc<Caller>,
    fetched: Fetched,
    switch: Option<Switch>,
) -> Option<Response<Answer>> {
    let (_, client) = switch?;
    let Fetched { mut response, held, lent, traffic } = fetched;
    let server = hyper::upgrade::on(&mut response);
    let to = head::upgrade(response.headers())?;
    let (mut head, _) = response.into_parts();
    head::strip(&mut head.headers);
    head::switch(&mut head.headers, to);
    let patience = patience(&caller.service.routing());
    // The client is there for as long as its tunnel.
    let caller = Rc::clone(caller);
    caller.course.switched();
    tokio::task::spawn_local(async move {
        let reason = match tokio::join!(client, server) {
            (Ok(client), Ok(server)) => {
                tunnel::carry(client, server, held, traffic, patience).await
            }
            (Err(_), _) => Termination::ClientReset,
            (_, Err(_)) => Termination::ServerReset,
        };
        caller.service.counts.ended.count(reason).add(1);
        drop(lent);
    });
    Some(Response::from_parts(head, Answer::own(Bytes::new())))
}

fn relay(
    caller: &Rc<Caller>,
    routing: &Routing,
    fetched: Box<Fetched>,
    busy: Busy,
) -> Response<Answer> {
    let Fetched { response, held, lent, traffic } = *fetched;
    let (head, inner) = response.into_parts();
    busy.answered(head.status.as_u16(), "it was answered");
    let patience = patience(routing);
    held.expect(patience);
    if caller.is_serial {
        // A client that takes nothing keeps its own connection only from going on.
        held.leads(caller.held.rope());
    }
    let (held, lent) = (Some(held), Some(lent));
    let relayed = Relayed { inner, held, patience, lent, traffic, busy };
    Response::from_parts(head, Answer::Relayed(Box::new(relayed)))
}

impl Asking<'_> {
    /// Asks one server after the other, until one answers.
    async fn fetch(&mut self, mut request: Wanted, busy: &Busy) -> Result<Box<Fetched>, Reason> {
        let mut failed = Reason::Nobody;
        loop {
            let target = self.target().await.map_err(|reason| match reason {
                Reason::Nobody => failed,
                other => other,
            })?;
            let is_last = target.held.seat().is_none();
            let Some(lent) = self.connect(&target).await else {
                if is_last {
                    return Err(failed);
                }
                continue;
            };
            match self.ask(target, lent, request, busy).await {
                Attempt::Fetched(fetched) => return Ok(fetched),
                Attempt::Again(_) if is_last => return Err(Reason::BadAnswer),
                Attempt::Again(again) => {
                    failed = Reason::BadAnswer;
                    request = again;
                }
                Attempt::Failed(reason) => return Err(reason),
            }
        }
    }

    /// A server for the request, or the fallback.
    async fn target(&mut self) -> Result<Target, Reason> {
        let Self { caller, routing, .. } = *self;
        let (service, desk) = (&caller.service, &caller.desk);
        let timeouts = routing.layer7.timeouts;
        let is_late = self.dial_until.is_some_and(|until| until <= clock::monotonic());
        let queue_until = &mut self.queue_until;
        let until =
            || *queue_until.get_or_insert_with(|| after(clock::monotonic(), timeouts.queue));
        let seat = if is_late || service.is_closed() {
            Err(Unseated::Nobody)
        } else {
            desk.seat(service, &self.visitor, until).await
        };
        let (seat, endpoint, traffic) = match (seat, routing.fallback) {
            (Ok(seat), _) => {
                let (endpoint, traffic) = (seat.endpoint, Arc::clone(&seat.server.traffic));
                (Some(seat), endpoint, traffic)
            }
            (Err(Unseated::QueueTimeout), _) => {
                service.counts.queue_timeouts.add(1);
                return Err(Reason::QueueTimeout);
            }
            (Err(Unseated::Nobody), Some(fallback)) if !service.is_closed() => {
                (None, fallback, Arc::clone(&service.fallback))
            }
            (Err(Unseated::Nobody), _) => {
                service.counts.unserved.add(1);
                return Err(Reason::Nobody);
            }
        };
        let held = desk.leashes.hold(service, seat, timeouts.server);
        Ok(Target { held, endpoint, traffic })
    }

    /// A connection to the target, kept or new; none if it does not take one.
    async fn connect(&mut self, target: &Target) -> Option<Lent> {
        let Self { caller, routing, .. } = *self;
        let layer7 = &routing.layer7;
        let port = target.endpoint.port.unwrap_or(caller.port);
        let at = SocketAddr::new(target.endpoint.address, port.get());
        let tls = routing.secrecy.servers.as_ref();
        let header = layer7
            .send_proxy_protocol
            .map(|version| caller.ends.header(version, &caller.additions));
        let source = match target.held.seat() {
            Some(_) => routing.source(at.ip(), self.visitor.client),
            None => routing.source_to_fallback(),
        };
        let kind = Kind { at, source, tls: tls.map(|tls| Arc::clone(&tls.config)) };
        // Who was introduced by a header, or by its own address, has a connection for itself.
        let is_shared = header.is_none() && !matches!(source, Source::Client(_));
        let server = target.held.seat().map(|seat| &seat.server).filter(|_| is_shared);
        if let Some(kept) = server.and_then(|server| Idle::take(&caller.desk, server, &kind)) {
            return Some(kept);
        }
        let patience = layer7.timeouts.connect;
        self.dial_until.get_or_insert_with(|| after_dials(clock::monotonic(), patience));
        let header = header.unwrap_or_default();
        // Few requests come here, and none of the others is to have room for it.
        let dial = Box::pin(upstream::dial((at, source), &layer7.tcp, &header, tls, patience));
        match dial.await {
            Ok(sender) => {
                let home = server.map(|server| (Rc::clone(&caller.desk), Arc::clone(server), kind));
                Some(Lent::new(sender, home))
            }
            Err(error) => {
                target.traffic.connect_failures.add(1);
                let errno = error.errno();
                if let Some(errno) = errno {
                    let service = &caller.service;
                    let own = layer7.source_address;
                    service.trouble.tell(&service.name, own, errno, clock::monotonic());
                }
                if let Some(seat) = target.held.seat() {
                    debug!(server = %seat.server.name, %error, "connect failed");
                    self.avoid(seat, !errno.is_some_and(socket::is_ours));
                }
                None
            }
        }
    }

    /// Sends the request, and waits for the head of the answer.
    async fn ask(
        &mut self,
        target: Target,
        mut lent: Lent,
        request: Wanted,
        busy: &Busy,
    ) -> Attempt {
        let Target { held, traffic, .. } = target;
        traffic.connections.add(1);
        let (parts, mut upload) = *request;
        let carried = upload.send_by(&held, patience(self.routing), &traffic);
        let name = held.seat().map(|seat| seat.server.name.server.as_str());
        busy.goes_to(name.unwrap_or("the fallback"), carried.as_ref());
        let may_repeat = upload.is_none() && head::may_repeat(&parts.method);
        let copy = may_repeat.then(|| parts.clone());
        let again = |parts| Attempt::Again(Box::new((parts, Upload::none())));
        let sending = lent.sender.try_send_request(Request::from_parts(parts, upload));
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            cut = held.cut() => return match (cut, copy) {
                (Cut::Taken, Some(copy)) => again(copy),
                (cut, _) => {
                    let reason = self.blame(cut, carried.as_deref());
                    if reason == Reason::ClientSilent {
                        // Nobody knows where its next request would begin.
                        busy.fails(Termination::ClientTimeout);
                    }
                    Attempt::Failed(reason)
                }
            },
        };
        match sent {
            Ok(response) => {
                if let Some(seat) = held.seat() {
                    seat.server.trust();
                }
                Attempt::Fetched(Box::new(Fetched { response, held, lent, traffic }))
            }
            Err(mut error) => {
                // One that was kept may have ended in the meantime, and that is nobody's fault.
                if let Some(seat) = held.seat().filter(|_| !lent.is_used) {
                    self.avoid(seat, true);
                }
                debug!(error = %error.error(), "no answer of a real server");
                match (error.take_message(), copy) {
                    // Nothing of it was sent.
                    (Some(request), _) => Attempt::Again(Box::new(request.into_parts())),
                    (None, Some(copy)) => again(copy),
                    (None, None) => Attempt::Failed(Reason::BadAnswer),
                }
            }
        }
    }

    /// Has the request go elsewhere from now on; and others, if the server is to blame.
    fn avoid(&mut self, seat: &Seat, is_to_blame: bool) {
        self.visitor.tried.push(Arc::clone(&seat.server));
        if is_to_blame {
            seat.server.suspect(&self.routing.layer7.passive_health, clock::monotonic());
        }
    }

    fn blame(&self, cut: Cut, carried: Option<&Carried>) -> Reason {
        match cut {
            Cut::Taken => Reason::Nobody,
            Cut::Silent if carried.is_none_or(|carried| carried.is_whole.get()) => Reason::Timeout,
            Cut::Silent => Reason::ClientSilent,
        }
    }
}

/// The id that the request came with, if that counts; a new one otherwise.
fn request_id(caller: &Caller, headers: &HeaderMap, is_trusted: bool) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|_| is_trusted);
    let fits = |id: &&HeaderValue| id.len() <= LONGEST_ID && id.to_str().is_ok();
    given.filter(fits).cloned().unwrap_or_else(|| caller.desk.request_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_its_future<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_moves_in_little_room() {
        // hyper keeps so much for each client, and moves it for each request.
        let room = size_of_its_future(answer);
        assert!(room <= 4096, "{room} bytes");
    }
}
