//! HTTP mode: requests over real sockets, and what clients and real servers see of each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gantry_agent_l7::stats::HttpSample;
use gantry_model::http::{HeaderEdit, HostPattern, Maintenance, Route};
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{
    Mode, Persistence, PersistenceKey, ProxyVersion, Strategy, VirtualService,
};
use parking_lot::Mutex;

use crate::support::*;

/// A head, and the body that it announces.
#[derive(Clone, Debug, Default)]
struct Text {
    head: String,
    body: String,
}

impl Text {
    fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The values of a field.
    fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    fn get(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }
}

/// Reads one message with the length that it announces; none at the end of the stream.
fn read(from: &mut impl BufRead) -> Option<Text> {
    let mut text = Text::default();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        text.head += &line;
    }
    let length = text.get("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    text.body = String::from_utf8(body).unwrap();
    Some(text)
}

/// A client that keeps its connection.
struct Client {
    to: TcpStream,
    from: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        let from = BufReader::new(stream.try_clone().unwrap());
        Self { to: stream, from }
    }

    fn send(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Option<Text> {
        read(&mut self.from)
    }

    fn ask(&mut self, text: &str) -> Text {
        self.send(text);
        self.read().unwrap()
    }

    /// Asks for a path, with more lines in the head.
    fn get(&mut self, path: &str, more: &str) -> Text {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n{more}\r\n"))
    }
}

/// A real server that answers each request with its name, and keeps what it was asked.
#[derive(Clone)]
struct Web {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Text>>>,
    connections: Arc<AtomicUsize>,
}

impl Web {
    fn start(name: char) -> Self {
        Self::answering(move |_| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nKeep-Alive: x\r\nServer: web\r\n\r\n{name}"
            )
        })
    }

    /// One that gives these answers; an empty one ends the connection.
    fn answering(answer: impl Fn(&Text) -> String + Send + Sync + 'static) -> Self {
        let (asked, connections) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (notes, count) = (Arc::clone(&asked), Arc::clone(&connections));
        let at = serve(move |stream| {
            count.fetch_add(1, SeqCst);
            let mut from = BufReader::new(stream.try_clone().unwrap());
            let mut to = stream;
            while let Some(request) = read(&mut from) {
                notes.lock().push(request.clone());
                let answer = answer(&request);
                if answer.is_empty() || to.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { at, asked, connections }
    }

    fn last(&self) -> Text {
        self.asked.lock().last().cloned().unwrap()
    }

    fn requests(&self) -> usize {
        self.asked.lock().len()
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn http(bed: &Bed, id: &str) -> VirtualService {
    let mut service = bed.service(id, "80");
    layer7(&mut service).mode = Mode::Http;
    service
}

/// A service of these servers, `a`, `b` and so on.
fn serve_by(bed: &mut Bed, service: &VirtualService, webs: &[&Web]) -> Vec<RealServer> {
    let id = service.name.service.as_str();
    let servers: Vec<_> =
        webs.iter().zip('a'..).map(|(web, name)| server(id, &name.to_string(), web.at)).collect();
    bed.put(service, &servers);
    servers
}

#[test]
fn http_requests_are_balanced_one_by_one_over_connections_that_stay() {
    let mut bed = Bed::new();
    let (a, b) = (Web::start('a'), Web::start('b'));
    let service = http(&bed, "web");
    serve_by(&mut bed, &service, &[&a, &b]);
    let mut client = Client::new(bed.connect(80));
    let served: String = (0..6).map(|_| client.get("/", "").body).collect();
    assert_eq!([served.matches('a').count(), served.matches('b').count()], [3, 3], "{served}");
    assert_eq!([a.connections(), b.connections()], [1, 1]);
    let sample = bed.sample("web");
    assert_eq!((sample.accepted, sample.active), (1, 1));
    assert_eq!(sample.http, HttpSample { requests: 6, answers: [6, 0, 0, 0], own_answers: 0 });
    until("no request has a seat", || {
        bed.sample("web").servers.iter().all(|server| server.active == 0)
    });
    drop(client);
    until("the client has gone", || bed.sample("web").active == 0);
}

#[test]
fn http_heads_lose_what_is_the_connections_and_tell_of_the_client() {
    let mut bed = Bed::new();
    let web = Web::start('a');
    let mut service = http(&bed, "web");
    let edit = |name: &str, value: &str| HeaderEdit::Set { name: name.into(), value: value.into() };
    layer7(&mut service).http.request_headers =
        vec![edit("x-site", "north"), HeaderEdit::Remove { name: "x-secret".into() }];
    layer7(&mut service).http.response_headers =
        vec![edit("x-frame-options", "DENY"), HeaderEdit::Remove { name: "server".into() }];
    serve_by(&mut bed, &service, &[&web]);
    let mut client = Client::new(bed.connect(80));
    let answer = client.get(
        "/a?b=c",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Secret: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Forwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nTE: trailers\r\n",
    );
    let asked = web.last();
    assert_eq!(asked.first_line(), "GET /a?b=c HTTP/1.1");
    let peer = client.to.local_addr().unwrap().ip().to_string();
    for (name, expected) in [
        ("host", "web.example"),
        ("x-hop", ""),
        ("connection", ""),
        ("te", ""),
        ("x-secret", ""),
        ("x-site", "north"),
        ("x-forwarded-for", &peer),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "web.example"),
        ("forwarded", &format!("for={peer};proto=http")),
    ] {
        assert_eq!(asked.all(name).join("|"), expected, "{name}");
    }
    assert!(asked.get("x-request-id").len() > 20, "{asked:?}");
    for (name, expected) in [("x-frame-options", "DENY"), ("server", ""), ("keep-alive", "")] {
        assert_eq!(answer.get(name), expected, "{name}");
    }
    layer7(&mut service).http.trust_forwarded = true;
    serve_by(&mut bed, &service, &[&web]);
    client.get(
        "/",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n\
         Forwarded: for=6.6.6.6\r\n",
    );
    let asked = web.last();
    assert_eq!(asked.get("x-forwarded-for"), format!("6.6.6.6, {peer}"));
    assert_eq!(asked.get("forwarded"), format!("for=6.6.6.6, for={peer};proto=http"));
    assert_eq!(asked.get("x-forwarded-proto"), "https");
    assert_eq!(asked.get("x-request-id"), "mine");
}

#[test]
fn http_hosts_and_paths_go_to_their_pools() {
    let mut bed = Bed::new();
    let webs: Vec<Web> = "abc".chars().map(Web::start).collect();
    let mut service = http(&bed, "web");
    let exact = |name: &str| HostPattern::Exact(name.to_owned());
    layer7(&mut service).routes = vec![
        Route {
            hosts: vec![exact("viewer.example")],
            path_prefixes: vec!["/files/".to_owned()],
            pool: "files".parse().ok(),
        },
        Route {
            hosts: vec![exact("viewer.example")],
            path_prefixes: Vec::new(),
            pool: "viewer".parse().ok(),
        },
        Route {
            hosts: vec![exact("empty.example")],
            path_prefixes: Vec::new(),
            pool: "none".parse().ok(),
        },
    ];
    let mut servers: Vec<_> =
        webs.iter().zip(["a", "b", "c"]).map(|(web, id)| server("web", id, web.at)).collect();
    servers[0].pool = "files".parse().ok();
    servers[1].pool = "viewer".parse().ok();
    bed.put(&service, &servers);
    let mut client = Client::new(bed.connect(80));
    for (host, path, expected) in [
        ("viewer.example", "/files/1", "a"),
        ("viewer.example:8080", "/", "b"),
        ("VIEWER.example", "/files", "b"),
        ("other.example", "/files/1", "c"),
    ] {
        let answer = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.body, expected, "{host}{path}");
    }
    // A target that names a host goes before the field.
    let answer =
        client.ask("GET http://viewer.example/files/2 HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(answer.body, "a");
    assert_eq!(webs[0].last().first_line(), "GET /files/2 HTTP/1.1");
    assert_eq!(webs[0].last().all("host"), ["viewer.example"]);
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: empty.example\r\n\r\n").status(), 503);
}

#[test]
fn http_cookie_brings_a_client_back_to_its_server() {
    let mut bed = Bed::new();
    let (a, b) = (Web::start('a'), Web::start('b'));
    let mut service = http(&bed, "web");
    service.persistence = Some(Persistence {
        key: PersistenceKey::Cookie,
        timeout: Duration::from_secs(3600),
        prefix: None,
    });
    let mut servers = serve_by(&mut bed, &service, &[&a, &b]);
    let mut client = Client::new(bed.connect(80));
    let first = client.get("/", "");
    let cookie = first.get("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert!(pair.starts_with("GANTRY="), "{cookie}");
    assert_eq!(attributes, " Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    for _ in 0..4 {
        let again = client.get("/", &format!("Cookie: other=1; {pair}\r\n"));
        assert_eq!(again.body, first.body);
        assert_eq!(again.all("set-cookie"), [""; 0]);
    }
    // An old one is written anew.
    let (name, _) = pair.rsplit_once('-').unwrap();
    let old = client.get("/", &format!("Cookie: {name}-1\r\n"));
    assert_eq!(old.body, first.body);
    assert_eq!(old.all("set-cookie").len(), 1);
    // Garbage is a client without one.
    assert_eq!(client.get("/", "Cookie: GANTRY=zzz\r\n").all("set-cookie").len(), 1);
    // In a drain the client stays; when the server has gone it gets another, and is told.
    let home = servers.iter().position(|it| it.name.server.as_str() == first.body).unwrap();
    servers[home].weight = gantry_model::server::Weight::new(0).unwrap();
    bed.put(&service, &servers);
    assert_eq!(client.get("/", &format!("Cookie: {pair}\r\n")).body, first.body);
    servers[home].admin_state = AdminState::Halt;
    bed.put(&service, &servers);
    let moved = client.get("/", &format!("Cookie: {pair}\r\n"));
    assert_ne!(moved.body, first.body);
    assert!(moved.get("set-cookie").starts_with("GANTRY="), "{moved:?}");
}

#[test]
fn http_server_that_does_not_take_a_request_is_passed_over() {
    let mut bed = Bed::new();
    let (b, c) = (Web::start('b'), Web::answering(|_| String::new()));
    let mut service = http(&bed, "web");
    service.strategy = Strategy::Failover;
    let servers =
        [server("web", "a", nobody()), server("web", "c", c.at), server("web", "d", b.at)];
    bed.put(&service, &servers);
    let mut client = Client::new(bed.connect(80));
    // Nobody listens at the first; the second breaks off without an answer.
    assert_eq!(client.get("/", "").body, "b");
    assert_eq!(c.requests(), 1);
    assert_eq!(bed.server("web", "a").traffic.connect_failures, 1);
    // What has a body may have been carried out, and is not sent twice.
    until("the second server is trusted again", || {
        let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        let answer = client.ask(post);
        assert!([200, 502].contains(&answer.status()), "{answer:?}");
        answer.status() == 502
    });
}

#[test]
fn http_kept_connection_that_the_server_closed_costs_no_request() {
    let mut bed = Bed::new();
    // Closes after each answer without saying so.
    let at = serve(|stream| {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        if read(&mut from).is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
            let _ = (&stream).write_all(answer);
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let service = http(&bed, "web");
    bed.put(&service, &[server("web", "a", at)]);
    let mut client = Client::new(bed.connect(80));
    for _ in 0..50 {
        assert_eq!(client.get("/", "").status(), 200);
    }
}

#[test]
fn http_answers_for_itself_say_what_happened_and_no_more() {
    let mut bed = Bed::new();
    let mut service = http(&bed, "web");
    let silent = serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let odd = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"220 ready\r\n");
    });
    layer7(&mut service).timeouts.server = Duration::from_millis(50);
    bed.put(&service, &[server("web", "a", silent)]);
    let mut client = Client::new(bed.connect(80));
    let late = client.get("/", "");
    assert_eq!(late.status(), 504);
    assert!(late.body.contains("The server did not answer in time."), "{late:?}");
    assert!(late.body.contains(late.get("x-request-id")), "{late:?}");
    assert!(!late.body.contains("127."), "{late:?}");

    layer7(&mut service).timeouts.server = Duration::from_secs(60);
    bed.put(&service, &[server("web", "b", odd)]);
    assert_eq!(client.get("/", "").status(), 502);

    bed.put(&service, &[]);
    let nobody = client.get("/", "");
    assert_eq!(nobody.status(), 503);
    assert!(nobody.body.contains("No server is available"), "{nobody:?}");
    let maintenance = Maintenance {
        status: 200,
        content_type: "text/plain".to_owned(),
        body: "back at noon".to_owned(),
    };
    layer7(&mut service).http.maintenance = Some(maintenance);
    bed.put(&service, &[]);
    let page = client.get("/", "");
    assert_eq!((page.status(), page.body.as_str()), (200, "back at noon"));
    assert_eq!(page.get("content-type"), "text/plain");

    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status(), 400);
    assert_eq!(client.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").status(), 501);
    let own = bed.sample("web").http;
    assert_eq!(own, HttpSample { requests: 6, answers: [1, 0, 1, 4], own_answers: 6 });
}

#[test]
fn http_request_in_line_is_served_in_its_turn_or_told_that_it_is_not() {
    let mut bed = Bed::new();
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock();
    let door = Arc::clone(&gate);
    let web = Web::answering(move |_| {
        drop(door.lock());
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na".to_owned()
    });
    let mut service = http(&bed, "web");
    layer7(&mut service).timeouts.queue = Duration::from_secs(60);
    let mut one = server("web", "a", web.at);
    one.max_connections = 1;
    bed.put(&service, std::slice::from_ref(&one));
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut clients: Vec<_> = (0..3).map(|_| Client::new(bed.connect(80))).collect();
    clients.iter_mut().for_each(|client| client.send(request));
    until("two are in line", || bed.sample("web").queued == 2);
    // One that leaves gives its place up.
    drop(clients.pop());
    until("one is in line", || bed.sample("web").queued == 1);
    drop(held);
    for client in &mut clients {
        assert_eq!(client.read().unwrap().body, "a");
    }
    let held = gate.lock();
    layer7(&mut service).timeouts.queue = Duration::from_millis(20);
    bed.put(&service, std::slice::from_ref(&one));
    clients[0].send(request);
    until("the server is busy", || bed.server("web", "a").active == 1);
    let late = clients[1].ask(request);
    assert_eq!(late.status(), 503);
    assert!(late.body.contains("All servers are busy"), "{late:?}");
    assert_eq!(bed.sample("web").queue_timeouts, 1);
    drop(held);
    assert_eq!(clients[0].read().unwrap().body, "a");
}

#[test]
fn http_server_taken_out_loses_its_requests_and_no_others() {
    let mut bed = Bed::new();
    let endless = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let service = http(&bed, "web");
    let web = Web::start('b');
    let mut servers = [server("web", "a", endless), server("web", "b", web.at)];
    servers[1].admin_state = AdminState::Halt;
    bed.put(&service, &servers);
    let mut client = Client::new(bed.connect(80));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut begun = [0; 13];
    client.from.read_exact(&mut begun).unwrap();
    servers[0].admin_state = AdminState::Halt;
    servers[1].admin_state = AdminState::Online;
    bed.put(&service, &servers);
    assert!(read(&mut client.from).is_none(), "an answer that is not whole is broken off");
    assert_eq!(Client::new(bed.connect(80)).get("/", "").body, "b");
    let mut idle = Client::new(bed.connect(80));
    assert_eq!(idle.get("/", "").body, "b");
    bed.plane.remove(&service.name);
    assert!(idle.read().is_none(), "the service has gone");
}

#[test]
fn http_clients_that_are_slow_or_too_long_are_cut_short() {
    let mut bed = Bed::new();
    let web = Web::start('a');
    let mut service = http(&bed, "web");
    layer7(&mut service).http.request_timeout = Duration::from_millis(50);
    layer7(&mut service).http.longest_head = 8192;
    serve_by(&mut bed, &service, &[&web]);
    // Silent from the first; in the middle of a head; after an answer.
    for begun in ["", "GET / HTTP/1.1\r\nHos", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = Client::new(bed.connect(80));
        client.send(begun);
        let answered = client.read().is_some();
        assert_eq!(answered, begun.ends_with("\r\n\r\n"), "{begun:?}");
        assert!(client.read().is_none());
    }
    let mut client = Client::new(bed.connect(80));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let _ = client.to.write_all(long.as_bytes());
    assert_eq!(client.read().unwrap().status(), 431);
    assert_eq!(web.requests(), 1);
}

#[test]
fn http_bodies_go_both_ways_whole_and_with_trailing_requests() {
    let mut bed = Bed::new();
    let web = Web::answering(|request| {
        let length = request.body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", request.body)
    });
    let service = http(&bed, "web");
    serve_by(&mut bed, &service, &[&web]);
    let mut client = Client::new(bed.connect(80));
    let body: String = ('a'..='z').cycle().take(300_000).collect();
    let request =
        format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut to = client.to.try_clone().unwrap();
    let twice = request.repeat(2);
    let sending = std::thread::spawn(move || to.write_all(twice.as_bytes()).unwrap());
    for _ in 0..2 {
        assert!(client.read().unwrap().body == body);
    }
    sending.join().unwrap();
    let traffic = bed.sample("web").traffic;
    assert_eq!((traffic.bytes_from_clients, traffic.bytes_to_clients), (600_000, 600_000));
}

#[test]
fn http_upgrade_becomes_a_tunnel() {
    let mut bed = Bed::new();
    let at = serve(|stream| {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut to = stream;
        let Some(request) = read(&mut from) else { return };
        assert_eq!(request.get("upgrade"), "websocket");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
        to.write_all(switch).unwrap();
        let _ = std::io::copy(&mut from, &mut to);
    });
    let service = http(&bed, "web");
    bed.put(&service, &[server("web", "a", at)]);
    let mut client = Client::new(bed.connect(80));
    let answer = client.get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.get("upgrade"), "websocket");
    let mut heard = [0; 2];
    client.from.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hi");
    for _ in 0..3 {
        client.send("ping");
        let mut back = [0; 4];
        client.from.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"ping");
    }
    assert_eq!(bed.server("web", "a").active, 1);
    client.to.shutdown(Shutdown::Write).unwrap();
    assert!(client.read().is_none());
    until("the seat is free", || bed.server("web", "a").active == 0);
}

#[test]
fn http_redirects_to_https_and_tells_servers_of_clients_behind_proxies() {
    let mut bed = Bed::new();
    let mut service = http(&bed, "web");
    layer7(&mut service).http.redirect_to_https = true;
    bed.put(&service, &[]);
    let mut client = Client::new(bed.connect(80));
    let answer = client.ask("GET /a?b=c HTTP/1.1\r\nHost: web.example:80\r\n\r\n");
    assert_eq!((answer.status(), answer.get("location")), (308, "https://web.example/a?b=c"));

    let heads = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&heads);
    let at = serve(move |stream| {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        notes.lock().push(line);
        while read(&mut from).is_some() {
            let _ = (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let layer7 = layer7(&mut service);
    layer7.http.redirect_to_https = false;
    layer7.accept_proxy_protocol = true;
    layer7.send_proxy_protocol = Some(ProxyVersion::V1);
    bed.put(&service, &[server("web", "a", at)]);
    let mut client = Client::new(bed.connect(80));
    client.send("PROXY TCP4 10.1.2.3 10.9.9.9 1111 80\r\n");
    assert_eq!(client.get("/", "").status(), 204);
    assert_eq!(client.get("/", "").status(), 204);
    assert_eq!(*heads.lock(), ["PROXY TCP4 10.1.2.3 10.9.9.9 1111 80\r\n"; 2]);
}

#[test]
fn http_service_becomes_one_of_tcp_and_back_without_a_listener_being_closed() {
    let mut bed = Bed::new();
    let web = Web::start('a');
    let mut service = http(&bed, "web");
    for mode in [Mode::Http, Mode::Tcp, Mode::Http] {
        layer7(&mut service).mode = mode;
        serve_by(&mut bed, &service, &[&web]);
        assert_eq!(Client::new(bed.connect(80)).get("/", "").body, "a");
        let told = !web.last().get("x-forwarded-for").is_empty();
        assert_eq!(told, mode == Mode::Http, "{mode:?}");
    }
}
