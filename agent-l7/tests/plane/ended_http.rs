//! Why connections of HTTP clients end: as a whole, whatever became of single requests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gantry_model::server::AdminState;
use gantry_model::service::{Mode, VirtualService};

use crate::support::*;
use crate::tls::Authority;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PART: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha";

fn http(bed: &Bed) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).mode = Mode::Http;
    service
}

/// A server that gives this answer to whatever it reads, and then does something with its connection.
fn answering(answer: &'static [u8], then: fn(TcpStream)) -> SocketAddr {
    serve(move |mut stream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
            if stream.write_all(answer).is_err() {
                return;
            }
            then(stream.try_clone().unwrap());
        }
    })
}

fn whole(_: TcpStream) {}

fn until_closed(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Asks, and hears the answer's first bytes.
fn ask(bed: &Bed) -> TcpStream {
    let mut stream = bed.connect(104);
    stream.write_all(ASK).unwrap();
    stream.read_exact(&mut [0; 38]).unwrap();
    stream
}

/// Waits until nothing more comes, one way or the other.
fn to_end(mut stream: &TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn http_clients_leave_or_are_wrong_or_slow() {
    let mut bed = Bed::new();
    let mut service = http(&bed);
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nha";
    let servers = [server("pacs", "a", answering(ok, whole))];
    bed.put(&service, &servers);
    drop(ask(&bed));
    bed.only(&["COMPLETED"]);
    let mut wrong = bed.connect(104);
    wrong.write_all(b"this is no request\r\n\r\n").unwrap();
    to_end(&wrong);
    bed.only(&["COMPLETED", "REQUEST_MALFORMED"]);
    let mut leaves = bed.connect(104);
    leaves.write_all(&ASK[..20]).unwrap();
    drop(leaves);
    bed.only(&["COMPLETED", "REQUEST_MALFORMED", "CLIENT_RESET"]);
    layer7(&mut service).http.request_timeout = Duration::from_millis(50);
    bed.put(&service, &servers);
    to_end(&bed.connect(104));
    bed.only(&["COMPLETED", "REQUEST_MALFORMED", "CLIENT_RESET", "REQUEST_TIMEOUT"]);
}

#[test]
fn http_answers_that_break_off_take_the_connection_with_them() {
    let mut bed = Bed::new();
    let mut service = http(&bed);
    let mut put = |bed: &mut Bed, then, timeout| {
        layer7(&mut service).timeouts.server = timeout;
        layer7(&mut service).timeouts.client = timeout;
        let one = server("pacs", "a", answering(PART, then));
        bed.put(&service, std::slice::from_ref(&one));
        (service.clone(), one)
    };
    let long = Duration::from_secs(3600);
    put(&mut bed, |stream| stream.shutdown(Shutdown::Both).unwrap(), long);
    to_end(&ask(&bed));
    bed.only(&["SERVER_RESET"]);
    put(&mut bed, until_closed, Duration::from_millis(100));
    to_end(&ask(&bed));
    bed.only(&["SERVER_RESET", "SERVER_TIMEOUT"]);
    let (mut service, mut one) = put(&mut bed, until_closed, long);
    let open = ask(&bed);
    one.admin_state = AdminState::Halt;
    bed.put(&service, std::slice::from_ref(&one));
    to_end(&open);
    bed.only(&["SERVER_RESET", "SERVER_TIMEOUT", "SERVER_HALTED"]);
    let idle = bed.connect(104);
    until("it is there", || bed.sample("pacs").active == 1);
    service.disabled = true;
    bed.put(&service, &[]);
    to_end(&idle);
    bed.only(&["SERVER_RESET", "SERVER_TIMEOUT", "SERVER_HALTED", "SERVICE_CLOSED"]);
}

#[test]
fn http_client_that_takes_nothing_is_the_silent_one() {
    let mut bed = Bed::new();
    let mut service = http(&bed);
    layer7(&mut service).timeouts.server = Duration::from_millis(300);
    layer7(&mut service).timeouts.client = Duration::from_millis(300);
    let endless = serve(|mut stream| {
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
    });
    bed.put(&service, &[server("pacs", "a", endless)]);
    let mut deaf = bed.connect(104);
    deaf.write_all(ASK).unwrap();
    bed.only(&["CLIENT_TIMEOUT"]);
}

#[test]
fn http_tunnel_ends_for_a_reason_of_its_own_and_its_client_is_there_until_then() {
    let mut bed = Bed::new();
    let at = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let switch = b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
        stream.write_all(switch).unwrap();
        let mut out = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut out);
        let _ = stream.shutdown(Shutdown::Write);
    });
    bed.put(&http(&bed), &[server("pacs", "a", at)]);
    let switched = || {
        let mut stream = bed.connect(104);
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(ask).unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"hi") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            heard.extend(byte);
        }
        stream
    };
    let mut open = switched();
    assert!(is_alive(&mut open));
    assert_eq!(bed.sample("pacs").active, 1);
    bed.only(&[]);
    open.shutdown(Shutdown::Write).unwrap();
    to_end(&open);
    bed.only(&["COMPLETED"]);
    until("its client is gone", || bed.sample("pacs").active == 0);
    reset(switched());
    bed.only(&["COMPLETED", "CLIENT_RESET"]);
}

#[test]
fn http_client_without_tls_has_none_and_one_that_leaves_has_left() {
    let site = Authority::new().issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).mode = Mode::Http;
    bed.put_secret(&service, nobody(), &[&site]);
    let mut stranger = bed.connect(104);
    stranger.write_all(ASK).unwrap();
    to_end(&stranger);
    bed.only(&["TLS_FAILED"]);
    let mut leaves = bed.connect(104);
    leaves.write_all(&[0x16, 3, 1]).unwrap();
    drop(leaves);
    bed.only(&["TLS_FAILED", "CLIENT_LEFT_IN_TLS"]);
    assert_eq!(bed.sample("pacs").unshaken, 2);
}
