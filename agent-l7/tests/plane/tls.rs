//! TLS with clients and with real servers: which certificate, who is let in, how streams end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gantry_agent_l7::plane::Refusal;
use gantry_model::key_pair::{KeyPair, PrivateKey};
use gantry_model::service::{
    ClientCertificates, ProxyVersion, ServerTls, Tls, TlsVersion, VirtualService,
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use rustls::client::ClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support::*;

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and what it has signed.
pub(crate) struct Authority(CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A certificate for these names, known as `id`.
    pub(crate) fn issue(&self, id: &str, names: &[&str]) -> KeyPair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        KeyPair {
            name: id.parse().unwrap(),
            chain: certificate.pem(),
            key: PrivateKey::new(key.serialize_pem()),
        }
    }
}

fn chain_and_key(pair: &KeyPair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).map(Result::unwrap);
    (chain.collect(), PrivateKeyDer::from_pem_slice(pair.key.reveal().as_bytes()).unwrap())
}

/// A client that trusts `authority`, and shows `pair`.
pub(crate) fn client_config(
    authority: &Authority,
    pair: Option<&KeyPair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    Arc::new(match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = chain_and_key(pair);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// A real server that speaks TLS, and echoes until the client's end.
pub(crate) fn secret_echo(pair: &KeyPair, clients: Option<&Authority>) -> SocketAddr {
    secret_serve(pair, clients, |mut stream| {
        let mut heard = Vec::new();
        if stream.read_to_end(&mut heard).is_ok() {
            stream.write_all(&heard).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    })
}

/// A real server that speaks TLS.
pub(crate) fn secret_serve(
    pair: &KeyPair,
    clients: Option<&Authority>,
    handle: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&ring))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), ring).build().unwrap(),
        ),
    };
    let (chain, key) = chain_and_key(pair);
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    serve(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        handle(StreamOwned::new(session, stream));
    })
}

impl Bed {
    /// A service at port 104 that shows the certificate `site`.
    pub(crate) fn secret(&self) -> VirtualService {
        let mut service = self.service("pacs", "104");
        layer7(&mut service).tls = Some(Tls {
            certificate: "site".parse().unwrap(),
            more_certificates: Vec::new(),
            clients: None,
            minimum_version: TlsVersion::Tls12,
        });
        service
    }

    pub(crate) fn put_secret(
        &mut self,
        service: &VirtualService,
        at: SocketAddr,
        pairs: &[&KeyPair],
    ) {
        self.try_put_secret(service, at, pairs).unwrap();
    }

    fn try_put_secret(
        &mut self,
        service: &VirtualService,
        at: SocketAddr,
        pairs: &[&KeyPair],
    ) -> Result<(), Refusal> {
        let pairs = pairs.iter().map(|&pair| pair.clone()).collect();
        let servers = vec![Arc::new(server("pacs", "a", at))];
        self.plane.put(Arc::new(service.clone()), servers, pairs)
    }

    pub(crate) fn call(&self, config: &Arc<ClientConfig>, name: &'static str) -> Client {
        let name = ServerName::try_from(name).unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        StreamOwned::new(session, self.connect(104))
    }
}

/// Sends `words`, ends, and gives what comes back until the end.
pub(crate) fn exchange(client: &mut Client, words: &[u8]) -> std::io::Result<Vec<u8>> {
    client.conn.complete_io(&mut client.sock)?;
    client.write_all(words)?;
    client.conn.send_close_notify();
    client.flush()?;
    let mut heard = Vec::new();
    client.read_to_end(&mut heard)?;
    Ok(heard)
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

/// Whose name is on the certificate that was shown.
fn shown(client: &mut Client, pairs: &[&KeyPair]) -> String {
    client.conn.complete_io(&mut client.sock).unwrap();
    let leaf = &client.conn.peer_certificates().unwrap()[0];
    let of = |pair: &&&KeyPair| chain_and_key(pair).0[0] == *leaf;
    pairs.iter().find(of).unwrap().name.to_string()
}

pub(crate) const BOTH: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn bulk_and_words_pass_in_every_version_and_to_servers_with_and_without_tls() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let bulk: Vec<u8> = (0..9_u32 << 18).flat_map(|at| (at ^ (at << 9)).to_le_bytes()).collect();
    for reencrypt in [false, true] {
        let mut bed = Bed::new();
        let mut service = bed.secret();
        layer7(&mut service).server_tls = reencrypt.then(ServerTls::default);
        let at = if reencrypt { secret_echo(&site, None) } else { parrot() };
        bed.put_secret(&service, at, &[&site]);
        for version in BOTH {
            let config = client_config(&authority, None, &[version]);
            for words in [&b"hello"[..], &bulk[..], &[]] {
                let mut client = bed.call(&config, "pacs.example");
                let heard = exchange(&mut client, words).unwrap();
                assert!(heard == words, "{version:?} {} bytes", words.len());
            }
        }
        let sample = bed.server("pacs", "a").traffic;
        let expected = 2 * (bulk.len() as u64 + 5);
        assert_eq!((sample.bytes_from_clients, sample.bytes_to_clients), (expected, expected));
    }
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate_and_a_swap_is_for_new_connections() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let other = authority.issue("other", &["ris.example", "*.wards.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    let tls = layer7(&mut service).tls.as_mut().unwrap();
    tls.more_certificates = vec!["other".parse().unwrap()];
    bed.put_secret(&service, greeter('a'), &[&site, &other]);
    let config = client_config(&authority, None, &BOTH);
    for (name, expected) in
        [("pacs.example", "site"), ("RIS.example", "other"), ("three.wards.example", "other")]
    {
        assert_eq!(shown(&mut bed.call(&config, name), &[&site, &other]), expected, "{name}");
    }
    let mut held = bed.call(&config, "pacs.example");
    let mut byte = [0];
    held.read_exact(&mut byte).unwrap();

    let renewed = authority.issue("site", &["pacs.example"]);
    bed.put_secret(&service, greeter('a'), &[&renewed, &other]);
    let fresh = client_config(&authority, None, &BOTH);
    assert_eq!(shown(&mut bed.call(&fresh, "pacs.example"), &[&renewed]), "site");
    held.write_all(b"?").unwrap();
    held.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"?", "a session that has begun goes on");
}

#[test]
fn clients_come_back_with_tickets_unless_other_certificates_are_asked_of_them() {
    let authority = Authority::new();
    let (site, nurse) = (authority.issue("site", &["pacs.example"]), authority.issue("n", &["n"]));
    let mut bed = Bed::new();
    let mut service = bed.secret();
    bed.put_secret(&service, parrot(), &[&site]);
    for version in BOTH {
        let config = client_config(&authority, Some(&nurse), &[version]);
        let kind = |bed: &Bed| {
            let mut client = bed.call(&config, "pacs.example");
            exchange(&mut client, b"hello").unwrap();
            client.conn.handshake_kind().unwrap()
        };
        assert_eq!(kind(&bed), HandshakeKind::Full);
        assert_eq!(kind(&bed), HandshakeKind::Resumed);
        let renewed = authority.issue("site", &["pacs.example"]);
        bed.put_secret(&service, parrot(), &[&renewed]);
        assert_eq!(kind(&bed), HandshakeKind::Resumed, "after a swap");
        layer7(&mut service).tls.as_mut().unwrap().clients =
            Some(ClientCertificates { required: true, authorities: authority.pem() });
        bed.put_secret(&service, parrot(), &[&renewed]);
        assert_eq!(kind(&bed), HandshakeKind::Full, "the ticket is of a time without");
        layer7(&mut service).tls.as_mut().unwrap().clients = None;
        bed.put_secret(&service, parrot(), &[&site]);
    }
}

#[test]
fn clients_show_certificates_as_the_service_asks() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let (good, bad) = (authority.issue("good", &["n"]), stranger.issue("bad", &["n"]));
    let mut bed = Bed::new();
    let mut service = bed.secret();
    let mut refused = 0;
    for (required, pair, served) in [
        (true, Some(&good), true),
        (true, Some(&bad), false),
        (true, None, false),
        (false, Some(&good), true),
        (false, Some(&bad), false),
        (false, None, true),
    ] {
        layer7(&mut service).tls.as_mut().unwrap().clients =
            Some(ClientCertificates { required, authorities: authority.pem() });
        bed.put_secret(&service, parrot(), &[&site]);
        let config = client_config(&authority, pair, &BOTH);
        let mut client = bed.call(&config, "pacs.example");
        if served {
            assert_eq!(exchange(&mut client, b"hello").unwrap(), b"hello");
        } else {
            // In TLS 1.3 a client learns of it after its own part of the handshake.
            let error = client.read(&mut [0]).unwrap_err();
            assert!(error.to_string().contains("alert"), "it is told why: {error}");
            refused += 1;
        }
    }
    until("all are counted", || bed.sample("pacs").unshaken == refused);
}

#[test]
fn versions_and_strangers_to_tls_are_refused_and_others_are_not_disturbed() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).tls.as_mut().unwrap().minimum_version = TlsVersion::Tls13;
    bed.put_secret(&service, parrot(), &[&site]);
    let mut silent = bed.connect(104);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 4096]] {
        let mut stream = bed.connect(104);
        stream.write_all(garbage).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "nothing but an alert: {answer:?}");
    }
    let old = client_config(&authority, None, &[&rustls::version::TLS12]);
    exchange(&mut bed.call(&old, "pacs.example"), b"hello").unwrap_err();
    let new = client_config(&authority, None, &BOTH);
    assert_eq!(exchange(&mut bed.call(&new, "pacs.example"), b"hello").unwrap(), b"hello");
    until("all are counted", || bed.sample("pacs").unshaken == 4);
    silent.set_nonblocking(true).unwrap();
    let waiting = silent.read(&mut [0]).unwrap_err();
    assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "who is slow has time");
}

#[test]
fn real_servers_are_asked_for_their_name_and_shown_a_certificate() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let own = authority.issue("own", &["gantry.example"]);
    let good = secret_echo(&authority.issue("s", &["archive.example"]), Some(&authority));
    let impostor = secret_echo(&stranger.issue("s", &["archive.example"]), None);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).server_tls = Some(ServerTls {
        authorities: authority.pem(),
        server_name: Some("archive.example".to_owned()),
        certificate: Some("own".parse().unwrap()),
    });
    let config = client_config(&authority, None, &BOTH);
    bed.put_secret(&service, good, &[&site, &own]);
    let call = |bed: &Bed| exchange(&mut bed.call(&config, "pacs.example"), b"hello");
    assert_eq!(call(&bed).unwrap(), b"hello");
    bed.put_secret(&service, impostor, &[&site, &own]);
    call(&bed).unwrap_err();
    until("it counts", || bed.server("pacs", "a").traffic.connect_failures == 1);
    layer7(&mut service).server_tls.as_mut().unwrap().server_name = None;
    bed.put_secret(&service, good, &[&site, &own]);
    call(&bed).expect_err("its certificate does not cover its address");
}

#[test]
fn another_server_is_tried_when_one_speaks_no_tls() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).server_tls = Some(ServerTls::default());
    let servers = [
        server("pacs", "a", serve(|mut stream| stream.write_all(b"220 hello\r\n").unwrap())),
        server("pacs", "b", serve(drop)),
        server("pacs", "c", secret_echo(&site, None)),
    ];
    let servers = servers.into_iter().map(Arc::new).collect();
    bed.plane.put(Arc::new(service), servers, vec![site.clone()]).unwrap();
    let config = client_config(&authority, None, &BOTH);
    for _ in 0..4 {
        let heard = exchange(&mut bed.call(&config, "pacs.example"), b"hello").unwrap();
        assert_eq!(heard, b"hello");
    }
    assert_eq!(bed.server("pacs", "c").traffic.connections, 4);
}

#[test]
fn the_header_comes_before_the_handshake_on_both_sides() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let told = Arc::clone(&heard);
    let at = serve(move |mut stream| {
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes).unwrap();
        told.lock().extend_from_slice(&bytes);
    });
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).accept_proxy_protocol = true;
    layer7(&mut service).send_proxy_protocol = Some(ProxyVersion::V1);
    layer7(&mut service).server_tls = Some(ServerTls::default());
    bed.put_secret(&service, at, &[&site]);
    let config = client_config(&authority, None, &BOTH);
    let mut client = bed.call(&config, "pacs.example");
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 104\r\n";
    client.sock.write_all(header).unwrap();
    client.write_all(b"hello").unwrap();
    until("the server is told", || heard.lock().len() == 64);
    let heard = heard.lock();
    assert_eq!((&heard[..45], &heard[45..47]), (&header[..], &b"\x16\x03"[..]));
}

#[test]
fn a_stream_that_was_cut_is_not_taken_for_a_whole_one() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let ends: Arc<Mutex<Vec<bool>>> = Arc::default();
    let noted = Arc::clone(&ends);
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let (chain, key) = chain_and_key(&site);
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let at = serve(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let whole = stream.read_to_end(&mut Vec::new()).is_ok();
        noted.lock().push(whole);
    });
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).server_tls = Some(ServerTls::default());
    bed.put_secret(&service, at, &[&site]);
    let config = client_config(&authority, None, &BOTH);
    for (number, says_so) in [(1, true), (2, false)] {
        let mut client = bed.call(&config, "pacs.example");
        client.write_all(b"hello").unwrap();
        if says_so {
            client.conn.send_close_notify();
            client.flush().unwrap();
        }
        client.sock.shutdown(Shutdown::Write).unwrap();
        until("the server sees the end", || ends.lock().len() == number);
        assert_eq!(ends.lock()[number - 1], says_so);
    }
}

#[test]
fn a_reset_and_silence_end_both_sides() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    layer7(&mut service).timeouts.client = Duration::from_millis(200);
    bed.put_secret(&service, greeter('a'), &[&site]);
    let config = client_config(&authority, None, &BOTH);
    let mut silent = bed.call(&config, "pacs.example");
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"a", "with a proper end");
    let mut gone = bed.call(&config, "pacs.example");
    gone.read_exact(&mut [0]).unwrap();
    reset(gone.sock);
    until("nobody is left", || bed.sample("pacs").active == 0);
    assert_eq!(bed.sample("pacs").idle_timeouts, 1);
}

#[test]
fn what_does_not_fit_is_refused_by_its_field() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    let refusal = bed.try_put_secret(&service, nobody(), &[]).unwrap_err();
    assert_eq!((refusal.reason, &*refusal.field), ("UNSUPPORTED_TLS", "layer7.certificate"));
    let tls = layer7(&mut service).tls.as_mut().unwrap();
    tls.clients = Some(ClientCertificates { required: true, authorities: "x".to_owned() });
    let refusal = bed.try_put_secret(&service, nobody(), &[&site]).unwrap_err();
    assert_eq!(&*refusal.field, "layer7.tls.client_authorities");
}

/// A client that reads nothing holds its server back, and the proxy keeps little of what is on its
/// way.
#[test]
fn a_slow_reader_is_waited_for() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let sent: Arc<std::sync::atomic::AtomicU64> = Arc::default();
    let counted = Arc::clone(&sent);
    let at = serve(move |mut stream| {
        for _ in 0..4096 {
            if stream.write_all(&[7; 16 << 10]).is_err() {
                return;
            }
            counted.fetch_add(16 << 10, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let mut bed = Bed::new();
    bed.put_secret(&bed.secret(), at, &[&site]);
    let config = client_config(&authority, None, &BOTH);
    let mut client = bed.call(&config, "pacs.example");
    client.conn.complete_io(&mut client.sock).unwrap();
    let so_far = || sent.load(std::sync::atomic::Ordering::SeqCst);
    let mut before = u64::MAX;
    until("the server is held back", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = so_far();
        std::mem::replace(&mut before, now) == now && now > 0
    });
    assert!(so_far() < 64 << 20, "not all is taken: {} bytes", so_far());
    let mut heard = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            read => heard += read,
        }
    }
    assert_eq!(heard, 64 << 20);
}
