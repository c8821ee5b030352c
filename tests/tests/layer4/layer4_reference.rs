//! The reference deployment end to end: the appliance with `examples/reference.yaml`, real DICOM servers,
//! and clients in a network of their own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use libtest_mimic::Trial;

use crate::hospital::Hospital;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_reference_every_service_serves_as_its_method_says,
        layer4_reference_dead_servers_are_left_and_shown,
        layer4_reference_goes_on_with_the_controller_dead,
    ]
}

/// One row for each service, whole.
const ALL_UP: [&[&str]; 5] = [
    &["DICOM-Modalities", "10.12.1.100:104,11112", "L4 DR", " up ", " 2/2 "],
    &["HL7", "10.12.1.120:2575", "L7 TCP", " up ", " 2/2 "],
    &["HTTPS-Viewer", "10.12.1.160:443", "L7 TCP", " up ", " 2/2 "],
    &["XDS-Registry", "10.12.1.140:17035", "L4 NAT", " up ", " 2/2 "],
    &["XDS-Repository", "10.12.1.141:17035", "L4 NAT", " up ", " 2/2 "],
];

/// The document is applied, and every service is up.
fn reference() -> &'static Hospital {
    static HOSPITAL: OnceLock<Hospital> = OnceLock::new();
    HOSPITAL.get_or_init(|| {
        let hospital = Hospital::two_arms();
        hospital.prepare_servers();
        hospital.start_archives();
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reference.yaml");
        let document = document.to_str().unwrap();
        hospital.gantry(&["apply", "-f", document, "-m", "first installation"]).output();
        hospital.overview_shows(&ALL_UP);
        hospital
    })
}

fn layer4_reference_every_service_serves_as_its_method_says() {
    let hospital = reference();
    // Direct routing: the archive sees the modality, which stays there on both ports.
    let archive = hospital.echo(104).expect("an archive answers");
    assert_eq!(hospital.echo(11112), Some(archive));
    assert_eq!(hospital.echo(104), Some(archive));
    assert!(hospital.has_seen(archive, "10.12.2.110"));
    // NAT: the server sees the client, which asked for another address.
    for (vip, servers) in [
        ("10.12.1.140", ["10.12.1.150", "10.12.1.151"]),
        ("10.12.1.141", ["10.12.1.152", "10.12.1.153"]),
    ] {
        let mut arrived = BTreeSet::new();
        for last in [111, 112] {
            let mut client = hospital.connect(last, &format!("{vip}:17035")).unwrap();
            client.echoes().unwrap();
            assert_eq!(client.seen_as.to_string(), format!("10.12.2.{last}"));
            arrived.insert(client.arrived_at.ip().to_string());
        }
        assert_eq!(arrived, servers.map(str::to_owned).into());
    }
    // Layer 7: the server sees the appliance.
    for (vip, servers) in
        [("10.12.1.120:2575", ["hl71", "hl72"]), ("10.12.1.160:443", ["viewer1", "viewer2"])]
    {
        let mut clients = [111, 112].map(|last| hospital.connect(last, vip).unwrap());
        for client in &mut clients {
            client.echoes().unwrap();
            assert!(client.seen_as.to_string().starts_with("10.12.1."), "{client:?}");
            assert!(servers.contains(&client.served_by.as_str()), "{client:?}");
        }
        let again = hospital.connect(111, vip).unwrap();
        assert_eq!(again.served_by, clients[0].served_by);
    }
    let shown = hospital.gantry(&["describe", "dicom-modalities"]).output();
    assert!(!shown.contains("ADDRESS_CONFLICT"), "{shown}");
}

fn layer4_reference_dead_servers_are_left_and_shown() {
    let hospital = reference();
    let archive = hospital.echo(104).expect("an archive answers");
    let receiver = hospital.connect(113, "10.12.1.120:2575").unwrap().served_by;
    hospital.kill(archive);
    hospital.kill(&receiver);
    // The proxy finds out with the first connection, before any check.
    let moved = hospital.connect(113, "10.12.1.120:2575").unwrap().served_by;
    assert_ne!(moved, receiver);
    hospital.overview_shows(&[
        &["DICOM-Modalities", "DEGRADED", " 1/2 "],
        &[&archive.to_uppercase(), "FAILED"],
        &["HL7", "DEGRADED", " 1/2 "],
        &[&receiver.to_uppercase(), "FAILED"],
        &["HTTPS-Viewer", " up ", " 2/2 "],
    ]);
    let other = if archive == "dicom1" { "dicom2" } else { "dicom1" };
    for port in [104, 11112] {
        assert_eq!(hospital.echo(port), Some(other));
    }
    hospital.start(archive);
    hospital.start(&receiver);
    hospital.overview_shows(&ALL_UP);
}

fn layer4_reference_goes_on_with_the_controller_dead() {
    let hospital = reference();
    let mut held = ["10.12.1.120:2575", "10.12.1.140:17035", "10.12.1.160:443"]
        .map(|vip| hospital.connect(114, vip).unwrap());
    hospital.site(async |site| site.controller.kill());
    let archive = hospital.echo(104).expect("an archive answers");
    for client in &mut held {
        client.echoes().unwrap();
    }
    // Checks and failover go on as well.
    hospital.kill(archive);
    let other = if archive == "dicom1" { "dicom2" } else { "dicom1" };
    hospital.eventually("the other archive answers", || {
        (hospital.echo(104) == Some(other)).then_some(())
    });
    for vip in ["10.12.1.120:2575", "10.12.1.140:17035", "10.12.1.141:17035", "10.12.1.160:443"] {
        hospital.connect(115, vip).unwrap().echoes().unwrap();
    }
    hospital.start(archive);
    hospital.site(async |site| site.controller.start_again());
    hospital.overview_shows(&ALL_UP);
}
