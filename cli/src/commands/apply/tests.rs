use gantry_proto::v1::change::Action;

use super::*;
use crate::document::Node;

fn config() -> v1::Config {
    let service = v1::VirtualService {
        name: "clusters/main/virtualServices/dicom".into(),
        uid: "u".into(),
        etag: "e".into(),
        create_time: Some(prost_types::Timestamp::default()),
        status: Some(v1::VirtualServiceStatus::default()),
        listener: Some(v1::Listener {
            address: "10.0.0.1".into(),
            ports: vec!["104".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let server = v1::RealServer {
        name: "clusters/main/virtualServices/dicom/realServers/pacs-1".into(),
        weight: Some(0),
        status: Some(v1::RealServerStatus::default()),
        etag: "e".into(),
        ..Default::default()
    };
    let service =
        v1::config::Service { virtual_service: Some(service), real_servers: vec![server] };
    v1::Config { name: "clusters/main".into(), services: vec![service], etag: "7".into() }
}

#[test]
fn an_exported_document_fits_any_cluster() {
    let config = portable(config());
    let yaml = document::to_yaml(&config.to_dynamic());
    let expected = "\
name: clusters/main
services:
  - virtualService:
      name: dicom
      listener:
        address: \"10.0.0.1\"
        ports:
          - \"104\"
    realServers:
      - name: pacs-1
        weight: 0
";
    assert_eq!(yaml, expected);
    let read = v1::Config::from_node(&Node::parse(&yaml).unwrap()).unwrap();
    assert_eq!(read, config);
}

#[test]
fn changes_are_listed_and_counted() {
    let change = |action: Action, name: &str, fields: &[&str]| v1::Change {
        action: action.into(),
        name: name.into(),
        fields: fields.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let answer = v1::ApplyConfigResponse {
        changes: vec![
            change(Action::Create, "clusters/main/virtualServices/hl7", &[]),
            change(
                Action::Update,
                "clusters/main/virtualServices/dicom/realServers/pacs-1",
                &["weight"],
            ),
        ],
        etag: "8".into(),
        revision: "1.8".into(),
    };
    let text = |dry_run| anstream::adapter::strip_str(&told(&answer, dry_run)).to_string();
    let expected =
        "+ hl7\n~ dicom/pacs-1  weight\n1 created, 1 changed, 0 deleted (revision 1.8, etag 8)\n";
    assert_eq!(text(false), expected);
    assert!(
        text(true)
            .ends_with("1 would be created, 1 would be changed, 0 would be deleted (etag 8)\n")
    );
    assert_eq!(told(&v1::ApplyConfigResponse::default(), false), "nothing to change\n");
}
