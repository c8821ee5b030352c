use std::convert::Infallible;

use gantry_model::check::Probe;
use gantry_model::verdict::Layer;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::testing::*;
use super::*;

fn get(path: &str) -> Http {
    Http {
        method: "GET".into(),
        path: path.into(),
        host: String::new(),
        body: String::new(),
        content_type: String::new(),
        expect_statuses: vec![],
        expect_body: None,
        tls: false,
    }
}

/// A small viewer: `/` is well, `/down` is not, `/moved` moves, `/echo` answers what it was asked.
async fn viewer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let (status, text) = match head.uri.path() {
        "/down" => (503, "down for maintenance".to_owned()),
        "/moved" => (302, String::new()),
        "/echo" => {
            let body = body.collect().await.unwrap().to_bytes();
            let header = |name| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
            let (host, kind) = (header("host"), header("content-type"));
            (200, format!("{} {host} {kind} {}", head.method, String::from_utf8_lossy(&body)))
        }
        _ => (200, "all is well".to_owned()),
    };
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(viewer);
    let served = hyper::server::conn::http1::Builder::new();
    let _ = served.serve_connection(TokioIo::new(stream), service).await;
}

async fn outcome(ask: Http, server: &Server) -> (bool, String) {
    let result = check(&Probe::Http(ask), server.address, LONG).await;
    assert_eq!(result.layer, Layer::Application);
    (result.healthy, result.cause)
}

#[tokio::test]
async fn statuses_and_bodies() {
    let server = serve(serve_http).await;
    let with_body = |ask: Http, pattern: &str| Http {
        expect_body: Some(Pattern::new(pattern).unwrap()),
        ..ask
    };
    let with_statuses =
        |ask: Http, statuses: &[u16]| Http { expect_statuses: statuses.into(), ..ask };
    let cases = [
        (get("/"), true, "HTTP 200"),
        (get("/moved"), true, "HTTP 302"),
        (get("/down"), false, "HTTP 503"),
        (with_statuses(get("/down"), &[503]), true, "HTTP 503"),
        (with_statuses(get("/"), &[204, 301]), false, "HTTP 200"),
        (with_body(get("/"), "well$"), true, "HTTP 200 with the expected content"),
        (with_body(get("/"), "bad"), false, "HTTP 200 without the expected content"),
    ];
    for (ask, healthy, cause) in cases {
        assert_eq!(outcome(ask, &server).await, (healthy, cause.to_owned()));
    }
}

#[tokio::test]
async fn soap_is_a_post_with_a_body() {
    let server = serve(serve_http).await;
    let ask = Http {
        method: "POST".into(),
        host: "registry.example:8080".into(),
        body: "<Envelope/>".into(),
        content_type: "application/soap+xml".into(),
        expect_body: Some(
            Pattern::new("^POST registry.example:8080 application/soap\\+xml <Envelope/>$")
                .unwrap(),
        ),
        ..get("/echo")
    };
    let expected = (true, "HTTP 200 with the expected content".to_owned());
    assert_eq!(outcome(ask, &server).await, expected);
    let pattern = format!("^GET {} ", server.address);
    let ask = Http { expect_body: Some(Pattern::new(&pattern).unwrap()), ..get("/echo") };
    assert_eq!(outcome(ask, &server).await, expected);
}

#[tokio::test]
async fn https_sends_the_host_as_server_name() {
    let acceptor = acceptor();
    let server = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let named = stream.get_ref().1.server_name() == Some("viewer.example");
            if named {
                serve_http(stream).await;
            }
        }
    })
    .await;
    let ask = Http { host: "viewer.example:8443".into(), tls: true, ..get("/") };
    assert_eq!(outcome(ask, &server).await, (true, "HTTP 200".to_owned()));
}

#[test]
fn server_names() {
    let link = Link::to("192.0.2.7:443".parse().unwrap());
    let cases = [
        ("viewer.example", "viewer.example"),
        ("viewer.example:8443", "viewer.example"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("", "192.0.2.7"),
        ("not a name", "192.0.2.7"),
    ];
    for (host, expected) in cases {
        let name = server_name(&Http { host: host.into(), ..get("/") }, &link);
        assert_eq!(name.to_str(), expected, "{host}");
    }
}

/// Answers a request with these very bytes and closes.
async fn raw(mut stream: TcpStream, bytes: Vec<u8>) {
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

#[tokio::test]
async fn answers_that_are_not_http_or_too_much_of_it() {
    let endless_head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 100_000]].concat();
    let long_body = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n".as_slice(),
        &vec![b'.'; 2_999_997],
        b"yes",
    ]
    .concat();
    let cases = [
        (b"+OK POP3 ready\r\n\r\n".to_vec(), "the answer is not HTTP/1"),
        (endless_head, "the head of the HTTP response is too long"),
        (long_body, "HTTP 200 without the expected content"),
        (Vec::new(), "connection closed before the end of the HTTP response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nye".to_vec(),
            "connection closed before the end of the HTTP response",
        ),
    ];
    for (bytes, cause) in cases {
        let server = serve(move |stream| raw(stream, bytes.clone())).await;
        let ask = Http { expect_body: Some(Pattern::new("yes").unwrap()), ..get("/") };
        assert_eq!(outcome(ask, &server).await, (false, cause.to_owned()));
    }
}

#[tokio::test]
async fn content_that_has_come_is_enough() {
    let server = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nyes").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let ask = Http { expect_body: Some(Pattern::new("yes").unwrap()), ..get("/") };
    let expected = (true, "HTTP 200 with the expected content".to_owned());
    assert_eq!(outcome(ask, &server).await, expected);
}

#[tokio::test]
async fn a_silent_server_runs_out_of_time() {
    let server = serve(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let result = check(&Probe::Http(get("/")), server.address, SHORT).await;
    assert_failed(&result, Layer::Application, "timed out waiting for the HTTP response");
}
