//! A client's connection, which carries one request after the other, or many at a time.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::port::Port;
use gantry_model::service::Layer7;
use gantry_model::termination::Termination;
use gantry_runtime::clock;
use hyper::header::HeaderValue;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use crate::limits::Pass;
use crate::proxy_header::Ends;
use crate::service::Service;
use crate::tls::SHAKING;
use crate::worker::Guest;

use super::body::Carried;
use super::desk::Desk;
use super::ended::{Course, End};
use super::head::Introduction;
use super::leash::{Cut, Held};
use super::{Client, answer};

/// Requests that one client may have under way on a connection of HTTP/2.
const STREAMS: u32 = 128;
/// How connections of HTTP/2 begin, in part (RFC 9113, section 3.4), and how much of it tells them.
const PREFACE: &[u8] = b"PRI ";
const TELLING: usize = 3;
const H2: &[u8] = b"h2";

/// Who sends requests, as all of its requests see it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) desk: Rc<Desk>,
    pub(super) service: Arc<Service>,
    /// Both ends of its connection, as it sees them.
    pub(super) ends: Ends,
    /// What a proxy in front adds to them.
    pub(super) additions: Vec<u8>,
    pub(super) port: Port,
    pub(super) is_secure: bool,
    /// One request at a time.
    pub(super) is_serial: bool,
    pub(super) introduction: Introduction,
    pub(super) held: Held,
    /// Requests under way.
    busy: Cell<usize>,
    pub(super) course: Course,
    _guest: Guest,
    _pass: Option<Box<Pass>>,
}

/// A request under way: from its head to the last byte of its response.
#[derive(Debug)]
pub(super) struct Busy {
    caller: Rc<Caller>,
    request_timeout: Duration,
    /// What the log is to be told in the end.
    record: Option<Box<Record>>,
}

/// A request that the log is told of.
#[derive(Debug)]
struct Record {
    id: HeaderValue,
    began: Instant,
    server: RefCell<String>,
    status: Cell<u16>,
    from_client: RefCell<Option<Rc<Carried>>>,
    to_client: Cell<u64>,
    why: RefCell<String>,
}

/// Takes a client in.
pub(super) fn welcome(desk: &Rc<Desk>, client: Client) {
    let desk = Rc::clone(desk);
    tokio::task::spawn_local(async move {
        let service = Arc::clone(client.guest.service());
        let ended = meet(desk, client).await.unwrap_or_else(|error| {
            debug!(service = %service.name, %error, "a client's connection failed");
            Some(Termination::ClientReset)
        });
        if let Some(reason) = ended {
            debug!(service = %service.name, why = reason.as_str(), "a client's connection ended");
            service.counts.ended.count(reason).add(1);
        }
    });
}

/// Serves a client to its end; gives the reason, or none if it goes on as a tunnel.
async fn meet(desk: Rc<Desk>, client: Client) -> io::Result<Option<Termination>> {
    let service = Arc::clone(client.guest.service());
    let routing = service.routing();
    let stream = TcpStream::from_std(StdStream::from(client.socket))?;
    let held = desk.leashes.hold(&service, None, SHAKING);
    let request_timeout = routing.layer7.http.request_timeout;
    let seen = Ends { client: client.peer, listener: stream.local_addr()? };
    let (told, additions) = match client.greeting {
        Some(greeting) => (greeting.ends, greeting.additions),
        None => (None, Vec::new()),
    };
    let ends = told.unwrap_or(seen);
    let tls = routing.secrecy.clients.clone();
    let caller = move |held: Held, is_secure, is_serial| {
        held.expect(request_timeout);
        Rc::new(Caller {
            desk,
            service,
            ends,
            additions,
            port: client.port,
            is_secure,
            is_serial,
            introduction: Introduction::new(ends.client, is_secure),
            held,
            busy: Cell::new(0),
            course: Course::default(),
            _guest: client.guest,
            _pass: client.pass,
        })
    };
    let longest = routing.layer7.http.longest_head;
    drop(routing);
    match tls {
        None => {
            held.expect(request_timeout);
            let is_serial = tokio::select! {
                is_http2 = is_http2(&stream) => !is_http2?,
                why = held.cut() => return Ok(Course::default().end(&End::Cut { why, is_busy: false })),
            };
            Ok(converse(stream, caller(held, false, is_serial), longest).await)
        }
        Some(tls) => {
            let secured = tokio::select! {
                secured = shake(stream, tls.config) => secured.map_err(|error| unshaken(&error)),
                cut = held.cut() => Err(match cut {
                    Cut::Silent => Termination::TlsTimeout,
                    Cut::Taken => Termination::ServiceClosed,
                }),
            };
            Ok(match secured {
                Ok((stream, is_serial)) => {
                    converse(stream, caller(held, true, is_serial), longest).await
                }
                Err(reason) => {
                    held.service().counts.unshaken.add(1);
                    Some(reason)
                }
            })
        }
    }
}

fn unshaken(error: &io::Error) -> Termination {
    match error.kind() {
        // What rustls finds fault with.
        io::ErrorKind::InvalidData => Termination::TlsFailed,
        _ => Termination::ClientLeftInTls,
    }
}

/// Agrees on keys; gives whether requests come one at a time as well.
async fn shake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, bool)> {
    let secured = TlsAcceptor::from(config).accept(stream).await?;
    let is_serial = secured.get_ref().1.alpn_protocol() != Some(H2);
    Ok((secured, is_serial))
}

/// Whether what is heard first of `stream` is HTTP/2. Nothing is taken from it.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut heard = [0; PREFACE.len()];
    let length = stream.peek(&mut heard).await?;
    Ok(length >= TELLING && PREFACE.starts_with(&heard[..length]))
}

async fn converse<S>(stream: S, caller: Rc<Caller>, longest_head: u32) -> Option<Termination>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let of = Rc::clone(&caller);
    let answer = service_fn(move |request| {
        let caller = Rc::clone(&of);
        async move { Ok::<_, Infallible>(answer::answer(caller, request).await) }
    });
    let end = if caller.is_serial {
        let longest = usize::try_from(longest_head).unwrap_or(usize::MAX);
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(longest)
            .max_buf_size(longest)
            .serve_connection(io, answer)
            .with_upgrades();
        carry(pin!(connection), &caller, |connection| connection.graceful_shutdown()).await
    } else {
        let connection = http2::Builder::new(Here)
            .max_header_list_size(longest_head)
            .max_concurrent_streams(STREAMS)
            .serve_connection(io, answer);
        carry(pin!(connection), &caller, |connection| connection.graceful_shutdown()).await
    };
    if let End::Done(Err(error)) = &end {
        debug!(service = %caller.service.name, %error, "a client's connection failed");
    }
    caller.course.end(&end)
}

/// Has a connection go on until it is over; `wind_up` has it take no further requests.
async fn carry<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    caller: &Caller,
    wind_up: fn(Pin<&mut C>),
) -> End {
    tokio::select! {
        done = &mut connection => return End::Done(done),
        why = caller.held.cut() => return caller.cut(why),
        () = caller.desk.retired() => wind_up(connection.as_mut()),
    }
    tokio::select! {
        done = connection => End::Done(done),
        why = caller.held.cut() => caller.cut(why),
    }
}

/// Has what a connection of HTTP/2 spawns run on its own thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

impl Caller {
    fn cut(&self, why: Cut) -> End {
        End::Cut { why, is_busy: self.busy.get() > 0 }
    }
}

impl Busy {
    pub(super) fn begin(caller: &Rc<Caller>, layer7: &Layer7, id: &HeaderValue) -> Self {
        caller.busy.set(caller.busy.get() + 1);
        // From here on the request's own leash counts.
        caller.held.rope().heard(Duration::MAX);
        let record = layer7.log_connections.then(|| {
            Box::new(Record {
                id: id.clone(),
                began: clock::monotonic(),
                server: RefCell::new("none".to_owned()),
                status: Cell::new(0),
                from_client: RefCell::default(),
                to_client: Cell::new(0),
                why: RefCell::new("it was not answered".to_owned()),
            })
        });
        let request_timeout = layer7.http.request_timeout;
        Self { caller: Rc::clone(caller), request_timeout, record }
    }

    /// It takes the client's connection with it, unless that carries others at the same time.
    pub(super) fn fails(&self, why: Termination) {
        if self.caller.is_serial {
            self.caller.course.broke_off(why);
        }
    }

    /// The next piece of the answer is wanted, and is not there yet.
    pub(super) fn awaits_server(&self, does: bool) {
        self.caller.course.awaits_server(does);
    }

    /// Which server gets it.
    pub(super) fn goes_to(&self, server: &str, from_client: Option<&Rc<Carried>>) {
        if let Some(record) = &self.record {
            server.clone_into(&mut record.server.borrow_mut());
            *record.from_client.borrow_mut() = from_client.cloned();
        }
    }

    /// The head of the answer, and what there is to say of it.
    pub(super) fn answered(&self, status: u16, why: &str) {
        if let Some(record) = &self.record {
            record.status.set(status);
            why.clone_into(&mut record.why.borrow_mut());
        }
    }

    /// Bytes of the answer's body.
    pub(super) fn carried(&self, bytes: u64) {
        if let Some(record) = &self.record {
            record.to_client.set(record.to_client.get() + bytes);
        }
    }

    /// The answer ended before its time.
    pub(super) fn broke_off(&self, why: &str) {
        if let Some(record) = &self.record {
            why.clone_into(&mut record.why.borrow_mut());
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let caller = &self.caller;
        caller.busy.set(caller.busy.get() - 1);
        if caller.busy.get() == 0 {
            caller.held.expect(self.request_timeout);
        }
        caller.course.answered();
        let Some(record) = &self.record else { return };
        let seconds = (clock::monotonic() - record.began).as_secs_f64();
        info!(
            service = %caller.service.name, client = %caller.ends.client,
            server = record.server.borrow().as_str(), status = record.status.get(),
            from_client = record.from_client.borrow().as_ref().map_or(0, |it| it.bytes.get()),
            to_client = record.to_client.get(), seconds,
            id = record.id.to_str().unwrap_or_default(), why = record.why.borrow().as_str(),
            "request answered"
        );
    }
}
