//! A plane to test, servers behind it, and clients in front.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use gantry_agent_l7::plane::{Plane, Refusal, Settings};
use gantry_agent_l7::stats::{Sample, ServerSample};
use gantry_model::check::HealthCheck;
use gantry_model::name::{ServerName, ServiceName};
use gantry_model::port::{Port, PortSet};
use gantry_model::server::{AdminState, RealServer, Weight};
use gantry_model::service::{
    Algorithm, Endpoint, Forwarding, Layer7, Listener, Protocol, Strategy, VirtualService,
};
use gantry_runtime::clock;
use socket2::{Domain, Socket, Type};

/// A plane, and an address of its own to listen at.
pub(crate) struct Bed {
    pub(crate) plane: Plane,
    pub(crate) address: IpAddr,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let settings = Settings { workers: NonZeroUsize::new(2).unwrap() };
        Self { plane: Plane::start(settings).unwrap(), address: own_address() }
    }

    /// A service in TCP mode, to be put after the test's changes.
    pub(crate) fn service(&self, id: &str, ports: &str) -> VirtualService {
        VirtualService {
            name: service_name(id),
            label: String::new(),
            listener: Listener {
                address: self.address,
                ports: PortSet::new(vec![ports.parse().unwrap()]).unwrap(),
                protocol: Protocol::Tcp,
                interface: None,
            },
            forwarding: Forwarding::Layer7(Box::new(Layer7 {
                algorithm: Algorithm::WeightedRoundRobin,
                ..Layer7::plain()
            })),
            strategy: Strategy::Balance,
            persistence: None,
            check: HealthCheck::connect(),
            fallback: None,
            disabled: false,
        }
    }

    pub(crate) fn put(&mut self, service: &VirtualService, servers: &[RealServer]) {
        self.try_put(service, servers).unwrap();
    }

    pub(crate) fn try_put(
        &mut self,
        service: &VirtualService,
        servers: &[RealServer],
    ) -> Result<(), Refusal> {
        let servers = servers.iter().cloned().map(Arc::new).collect();
        self.plane.put(Arc::new(service.clone()), servers, Vec::new())
    }

    pub(crate) fn connect(&self, port: u16) -> TcpStream {
        TcpStream::connect(SocketAddr::new(self.address, port)).unwrap()
    }

    /// Connects and hears which server it got.
    pub(crate) fn visit(&self, port: u16) -> (char, TcpStream) {
        let mut stream = self.connect(port);
        (hear(&mut stream), stream)
    }

    /// The same from a client address of the test's choice.
    pub(crate) fn visit_from(&self, client: [u8; 4]) -> (char, TcpStream) {
        let mut stream = self.connect_from(client);
        (hear(&mut stream), stream)
    }

    pub(crate) fn connect_from(&self, client: [u8; 4]) -> TcpStream {
        self.try_connect_from(client).unwrap()
    }

    /// The same where the connection may be reset before it is known to be made.
    pub(crate) fn try_connect_from(&self, client: [u8; 4]) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        socket.connect(&SocketAddr::new(self.address, 104).into())?;
        Ok(socket.into())
    }

    pub(crate) fn refuses(&self, port: u16) -> bool {
        TcpStream::connect(SocketAddr::new(self.address, port)).is_err()
    }

    pub(crate) fn sample(&self, id: &str) -> Sample {
        let name = service_name(id);
        self.plane.samples().into_iter().find(|sample| sample.service == name).unwrap()
    }

    pub(crate) fn server(&self, service: &str, id: &str) -> ServerSample {
        let servers = self.sample(service).servers;
        servers.into_iter().find(|sample| sample.server.server.as_str() == id).unwrap()
    }

    pub(crate) fn verdict(&mut self, service: &str, server: &str, healthy: Option<bool>) {
        self.plane.verdict(&server_name(service, server), healthy);
    }
}

pub(crate) fn layer7(service: &mut VirtualService) -> &mut Layer7 {
    match &mut service.forwarding {
        Forwarding::Layer7(layer7) => layer7,
        Forwarding::Layer4(_) => panic!("not a layer 7 service"),
    }
}

pub(crate) fn service_name(id: &str) -> ServiceName {
    format!("clusters/main/virtualServices/{id}").parse().unwrap()
}

pub(crate) fn server_name(service: &str, id: &str) -> ServerName {
    service_name(service).server(id.parse().unwrap())
}

pub(crate) fn server(service: &str, id: &str, at: SocketAddr) -> RealServer {
    RealServer {
        name: server_name(service, id),
        label: String::new(),
        endpoint: endpoint(at),
        weight: Weight::DEFAULT,
        priority: 0,
        min_connections: 0,
        max_connections: 0,
        admin_state: AdminState::Online,
        pool: None,
    }
}

pub(crate) fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint { address: at.ip(), port: Port::new(at.port()) }
}

/// A server that serves each connection on a thread of its own.
pub(crate) fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    serve_at(own_address(), handle)
}

fn serve_at(address: IpAddr, handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let handle = Arc::clone(&handle);
            thread::spawn(move || handle(stream.unwrap()));
        }
    });
    at
}

/// A server that says its name and then echoes.
pub(crate) fn greeter(name: char) -> SocketAddr {
    greeter_at(name, own_address())
}

pub(crate) fn greeter_at(name: char, address: IpAddr) -> SocketAddr {
    serve_at(address, move |mut stream| {
        let mut greeting = [0; 4];
        let greeting = name.encode_utf8(&mut greeting).as_bytes();
        if stream.write_all(greeting).is_ok() {
            let mut out = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut stream, &mut out);
            let _ = stream.shutdown(Shutdown::Write);
        }
    })
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind((own_address(), 0)).unwrap().local_addr().unwrap()
}

/// A server that answers nobody who knocks: with its backlog full, its kernel drops that.
pub(crate) struct Deaf {
    pub(crate) at: SocketAddr,
    _full: (Socket, Vec<TcpStream>),
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(own_address(), 0).into()).unwrap();
        socket.listen(0).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let knock = || TcpStream::connect_timeout(&at, Duration::from_millis(100));
        let knocking: Vec<_> = (0..4).map_while(|_| knock().ok()).collect();
        assert!(knocking.len() < 4);
        Self { at, _full: (socket, knocking) }
    }
}

pub(crate) fn hear(stream: &mut TcpStream) -> char {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    char::from(byte[0])
}

/// Whether an echo still comes back.
pub(crate) fn is_alive(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"?").is_ok() && matches!(stream.read(&mut byte), Ok(1)) && byte == *b"?"
}

/// Waits until the other side resets the connection; anything else is wrong.
pub(crate) fn expect_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 64]).expect_err("neither bytes nor an end of stream");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Makes the close of a stream a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits for `condition`.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = clock::monotonic();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A loopback address that no other test of this process has.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = NEXT.fetch_add(1, SeqCst);
    let net = 64 + std::process::id() % 128;
    IpAddr::V4(Ipv4Addr::from(127 << 24 | net << 16 | next))
}
