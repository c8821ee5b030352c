//! Bad clients beside good ones: slow ones, half-open ones, those that vanish, those that talk nonsense. The
//! good ones notice nothing, and nothing stays behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use gantry_model::service::Mode;
use gantry_model::termination::Termination;

use crate::support::*;
use crate::tls::{Authority, BOTH, client_config, exchange};

/// Bad clients of each kind.
const CROWD: usize = 150;
const PAYLOAD: &[u8] = &[0x5a; 40_000];

/// What is spoken at port 104.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Plain,
    /// With a PROXY protocol header first.
    Told,
    Secret,
    Http,
}

struct Scene {
    bed: Bed,
    speech: Speech,
    authority: Authority,
}

/// A server that gives back all that it was sent, once the client has ended.
fn parrot() -> SocketAddr {
    serve(|mut stream| {
        let mut heard = Vec::new();
        if stream.read_to_end(&mut heard).is_ok() {
            let _ = stream.write_all(&heard);
        }
    })
}

fn web() -> SocketAddr {
    serve(|mut stream| {
        let mut heard = [0; 4096];
        while matches!(stream.read(&mut heard), Ok(1..))
            && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_ok()
        {
        }
    })
}

impl Scene {
    fn new(speech: Speech) -> Self {
        let (mut bed, authority) = (Bed::new(), Authority::new());
        let site = authority.issue("site", &["pacs.example"]);
        let mut service = bed.service("pacs", "104");
        if speech == Speech::Secret {
            service = bed.secret();
        }
        let layer7 = layer7(&mut service);
        layer7.accept_proxy_protocol = speech == Speech::Told;
        if speech == Speech::Http {
            layer7.mode = Mode::Http;
            layer7.http.request_timeout = Duration::from_secs(3);
        }
        let at = if speech == Speech::Http { web() } else { parrot() };
        bed.put_secret(&service, at, &[&site]);
        Self { bed, speech, authority }
    }

    /// What a client of this speech begins with, all but the end.
    fn opening(&self) -> Vec<u8> {
        match self.speech {
            Speech::Plain => b"something".to_vec(),
            Speech::Told => b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 104".to_vec(),
            // The head of a record of 512 bytes, and of a ClientHello in it.
            Speech::Secret => [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[7; 200][..]].concat(),
            Speech::Http => [&b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "[..], &[b'a'; 200]].concat(),
        }
    }

    fn bad(&self) -> TcpStream {
        let stream = self.bed.connect(104);
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client that behaves is served as ever.
    fn serves(&self) {
        let mut heard = Vec::new();
        match self.speech {
            Speech::Secret => {
                let config = client_config(&self.authority, None, &BOTH);
                heard = exchange(&mut self.bed.call(&config, "pacs.example"), PAYLOAD).unwrap();
            }
            Speech::Plain | Speech::Told => {
                let mut stream = self.bed.connect(104);
                if self.speech == Speech::Told {
                    stream.write_all(&self.opening()).unwrap();
                    stream.write_all(b"\r\n").unwrap();
                }
                stream.write_all(PAYLOAD).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                stream.read_to_end(&mut heard).unwrap();
            }
            Speech::Http => {
                let mut stream = self.bed.connect(104);
                stream
                    .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                    .unwrap();
                stream.read_to_end(&mut heard).unwrap();
                assert!(heard.starts_with(b"HTTP/1.1 200 OK") && heard.ends_with(b"hello"));
                return;
            }
        }
        assert!(heard == PAYLOAD, "{:?}: {} bytes", self.speech, heard.len());
    }

    fn is_left(&self) {
        until("nothing is left of them", || {
            self.bed.sample("pacs").active == 0 && self.bed.server("pacs", "a").active == 0
        });
    }

    fn ended(&self, reason: Termination) -> usize {
        let ended = self.bed.sample("pacs").ended;
        let found = ended.into_iter().find(|(seen, _)| *seen == reason);
        found.map_or(0, |(_, count)| usize::try_from(count).unwrap())
    }
}

/// Sends a byte of `words` to each that takes it, again and again, until none does.
fn dawdle(crowd: &mut Vec<TcpStream>, words: &[u8]) {
    for byte in words {
        crowd.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        if crowd.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_dawdles_holds_up_nobody_and_is_shown_out() {
    let cases = [
        (Speech::Told, Termination::GreetingTimeout),
        (Speech::Secret, Termination::TlsTimeout),
        (Speech::Http, Termination::RequestTimeout),
    ];
    thread::scope(|scope| {
        for (speech, reason) in cases {
            scope.spawn(move || {
                let scene = Scene::new(speech);
                let mut crowd: Vec<_> = (0..CROWD).map(|_| scene.bad()).collect();
                let mute: Vec<_> = (0..CROWD).map(|_| scene.bad()).collect();
                let words = scene.opening();
                thread::scope(|scope| {
                    scope.spawn(|| dawdle(&mut crowd, &words));
                    for _ in 0..20 {
                        scene.serves();
                    }
                });
                scene.is_left();
                assert_eq!(scene.ended(reason), 2 * CROWD, "{speech:?}");
                scene.serves();
                drop(mute);
            });
        }
    });
}

#[test]
fn who_vanishes_at_any_moment_leaves_nothing_behind() {
    for speech in [Speech::Plain, Speech::Told, Speech::Secret, Speech::Http] {
        let scene = Scene::new(speech);
        let opening = scene.opening();
        for at in 0..CROWD {
            let mut bad = scene.bad();
            // Before a word, in the middle of the first ones, after all of them.
            let said = opening.len() * (at % 3) / 2;
            bad.write_all(&opening[..said]).unwrap();
            match at % 4 {
                0 => reset(bad),
                1 => bad.shutdown(Shutdown::Write).unwrap(),
                2 => bad.shutdown(Shutdown::Both).unwrap(),
                _ => drop(bad),
            }
            if at % 10 == 0 {
                scene.serves();
            }
        }
        scene.is_left();
        scene.serves();
    }
}

#[test]
fn who_asks_and_vanishes_before_the_answer_leaves_nothing_behind() {
    for speech in [Speech::Plain, Speech::Told, Speech::Http] {
        let scene = Scene::new(speech);
        let words = match speech {
            Speech::Http => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3),
            Speech::Told => [&scene.opening()[..], b"\r\n", PAYLOAD].concat(),
            _ => PAYLOAD.to_vec(),
        };
        for at in 0..CROWD {
            let mut bad = scene.bad();
            bad.write_all(&words).unwrap();
            if at % 2 == 0 {
                bad.shutdown(Shutdown::Write).unwrap();
            }
            reset(bad);
            if at % 10 == 0 {
                scene.serves();
            }
        }
        scene.is_left();
        scene.serves();
    }
}

#[test]
fn who_talks_nonsense_is_refused_and_counted() {
    for speech in [Speech::Told, Speech::Secret, Speech::Http] {
        let scene = Scene::new(speech);
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = |length: usize| -> Vec<u8> {
            let byte = |_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_le_bytes()[0]
            };
            (0..length).map(byte).collect()
        };
        for at in 0..CROWD {
            let mut bad = scene.bad();
            let noise = noise(1 + 20 * at);
            // It may be shown out before it has finished.
            let _ = bad.write_all(&noise).and_then(|()| bad.shutdown(Shutdown::Write));
            let _ = bad.read_to_end(&mut Vec::new());
            if at % 10 == 0 {
                scene.serves();
            }
        }
        scene.is_left();
        let sample = scene.bed.sample("pacs");
        let good = u64::try_from(CROWD / 10).unwrap();
        assert_eq!(scene.bed.server("pacs", "a").traffic.connections, good, "{speech:?}");
        let all = u64::try_from(CROWD).unwrap();
        match speech {
            // The shortest may be taken for somebody who has left.
            Speech::Told => assert!(sample.malformed > all * 9 / 10, "{sample:?}"),
            Speech::Secret => assert!(sample.unshaken > all * 9 / 10, "{sample:?}"),
            _ => assert!(scene.ended(Termination::RequestMalformed) > CROWD * 9 / 10, "{sample:?}"),
        }
        assert_eq!(sample.panics, 0);
    }
}
