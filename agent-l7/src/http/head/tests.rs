use hyper::Request;

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_belongs_to_a_connection_is_taken_out() {
    let mut all = headers(&[
        ("connection", "close, X-Hop"),
        ("connection", " host,content-length,, x-other "),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("host", "a"),
        ("content-length", "1"),
        ("accept", "*/*"),
    ]);
    strip(&mut all);
    assert_eq!(names(&all), ["accept", "content-length", "host"]);
}

#[test]
fn a_request_is_for_one_host() {
    for (target, hosts, version, expected) in [
        ("/a", &["web"][..], Version::HTTP_11, Some(("web", "/a"))),
        ("http://other:8080/a?b", &["web"], Version::HTTP_11, Some(("other:8080", "/a?b"))),
        ("http://other", &["web"], Version::HTTP_11, Some(("other", "/"))),
        ("https://other/x", &[], Version::HTTP_2, Some(("other", "/x"))),
        ("/a", &[], Version::HTTP_10, Some(("", "/a"))),
        ("*", &["web"], Version::HTTP_11, Some(("web", "*"))),
        ("/a", &[], Version::HTTP_11, None),
        ("/a", &["web", "web"], Version::HTTP_11, None),
    ] {
        let mut request = Request::builder().uri(target).version(version).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_static(host));
        }
        let (mut parts, ()) = request.into_parts();
        let plain = address(&mut parts).ok().map(|()| {
            let host = parts.headers.get(HOST).map(|host| host.to_str().unwrap());
            (host.unwrap_or_default().to_owned(), parts.uri.to_string())
        });
        let expected = expected.map(|(host, uri)| (host.to_owned(), uri.to_owned()));
        assert_eq!(plain, expected, "{target} {hosts:?}");
    }
}

#[test]
fn hosts_are_read_without_ports() {
    for (given, expected) in
        [("web", "web"), ("web:80", "web"), ("[fd00::1]:80", "fd00::1"), ("[fd00::1]", "fd00::1")]
    {
        assert_eq!(host(&headers(&[("host", given)])), Some(expected));
    }
    assert_eq!(host(&HeaderMap::new()), None);
}

#[test]
fn a_switch_is_asked_for_by_two_fields() {
    let asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(upgrade(&asked).unwrap(), "websocket");
    assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
    assert_eq!(upgrade(&headers(&[("connection", "upgrade")])), None);
}

#[test]
fn clients_are_introduced_by_address() {
    let introduced = |client: &str, is_secure, given: &[(&str, &str)], is_trusted| {
        let mut all = headers(given);
        Introduction::new(client.parse().unwrap(), is_secure).tell(&mut all, is_trusted);
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
            .map(|name| all.get(name).map_or("", |value| value.to_str().unwrap()).to_owned())
    };
    assert_eq!(
        introduced("10.1.2.3:4", false, &[("host", "web")], false),
        ["10.1.2.3", "http", "web", "for=10.1.2.3;proto=http"]
    );
    assert_eq!(
        introduced("[::ffff:10.1.2.3]:4", true, &[("x-forwarded-host", "lie")], false),
        ["10.1.2.3", "https", "", "for=10.1.2.3;proto=https"]
    );
    let before = [
        ("host", "web"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outside"),
    ];
    assert_eq!(
        introduced("[fd00::1]:4", false, &before, true),
        ["1.1.1.1, 2.2.2.2, fd00::1", "https", "outside", "for=\"[fd00::1]\";proto=http"]
    );
}

#[test]
fn cookies_name_a_server_and_a_time() {
    let read = |cookie: &str| Token::read(&headers(&[("cookie", cookie)]), "GANTRY");
    let token = Token { server: 0xfeed, minute: 0x1c0 };
    assert_eq!(read("a=b; GANTRY=feed-1c0; c=d"), Some(token));
    assert_eq!(read("GANTRY=000000000000feed-1c0"), Some(token));
    for other in ["", "GANTRY=", "GANTRY=feed", "GANTRY=x-1", "XGANTRY=feed-1c0", "GANTRY=1-2-3"] {
        assert_eq!(read(other), None, "{other}");
    }
    let written = token.write("GANTRY", Duration::from_secs(60), true).unwrap();
    assert_eq!(
        written,
        "GANTRY=000000000000feed-1c0; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
    );
    assert_eq!(read(written.to_str().unwrap()), Some(token));
}

#[test]
fn edits_are_made_in_order() {
    let mut all = headers(&[("server", "x"), ("a", "1")]);
    let text = |text: &str| text.to_owned();
    edit(
        &mut all,
        &[
            HeaderEdit::Remove { name: text("server") },
            HeaderEdit::Add { name: text("a"), value: text("2") },
            HeaderEdit::Set { name: text("b"), value: text("3") },
            HeaderEdit::Set { name: text("b"), value: text("4") },
        ],
    );
    let values = |name: &str| all.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
    let (a, b): (Vec<_>, Vec<_>) = (values("a"), values("b"));
    assert_eq!((a, b), (vec!["1", "2"], vec!["4"]));
    assert_eq!(names(&all), ["a", "b"]);
}
