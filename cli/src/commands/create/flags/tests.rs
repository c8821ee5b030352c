use super::*;

fn server(text: &str) -> v1::RealServer {
    text.parse::<ServerArgument>().unwrap().0
}

#[test]
fn servers_are_a_name_an_address_and_options() {
    let full = server("pacs-1=10.0.0.1:104,weight=50,max-connections=9");
    assert_eq!(full.name, "pacs-1");
    assert_eq!(full.endpoint, Some(v1::Endpoint { address: "10.0.0.1".into(), port: 104 }));
    assert_eq!((full.weight, full.max_connections), (Some(50), 9));
    assert_eq!(server("a=10.0.0.1").endpoint.unwrap().port, 0);
    assert_eq!(server("a=fd00::1").endpoint.unwrap().address, "fd00::1");
    let v6 = server("a=[fd00::1]:104").endpoint.unwrap();
    assert_eq!((v6.address.as_str(), v6.port), ("fd00::1", 104));
}

#[test]
fn servers_that_cannot_be_meant_are_refused() {
    for bad in [
        "",
        "10.0.0.1",
        "=10.0.0.1",
        "Pacs=10.0.0.1",
        "a=host",
        "a=10.0.0.1:0x1",
        "a=10.0.0.1:99999",
        "a=10.0.0.1,wieght=5",
        "a=10.0.0.1,weight",
        "a=10.0.0.1,weight=x",
    ] {
        assert!(bad.parse::<ServerArgument>().is_err(), "{bad}");
    }
}

#[test]
fn checks_are_a_word_and_what_it_needs() {
    let probe = |text: &str| text.parse::<Check>().unwrap().0;
    assert_eq!(probe("tcp"), Probe::TcpConnect(TcpConnect {}));
    assert_eq!(probe("none"), Probe::None(NoCheck {}));
    let Probe::DicomEcho(echo) = probe("dicom-echo:PACS") else { panic!() };
    assert_eq!(echo.called_ae_title, "PACS");
    let Probe::Http(https) = probe("https:/health?full=1") else { panic!() };
    assert!(https.tls && https.path == "/health?full=1");
    for bad in ["", "ping", "http", "http:health", "http://host/", "tcp:1", "none:"] {
        assert!(bad.parse::<Check>().is_err(), "{bad}");
    }
}
