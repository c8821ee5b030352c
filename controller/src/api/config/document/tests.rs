use super::*;

fn service(id: &str, port: &str, label: &str) -> (String, Resource) {
    let name = format!("clusters/main/virtualServices/{id}");
    let message = pb::VirtualService {
        name: name.clone(),
        display_name: label.into(),
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec![port.into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    };
    (name, Resource::Service(Box::new(message)))
}

fn server(service: &str, id: &str, weight: i32) -> (String, Resource) {
    let name = format!("clusters/main/virtualServices/{service}/realServers/{id}");
    let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port: 104 });
    let message =
        pb::RealServer { name: name.clone(), endpoint, weight: Some(weight), ..Default::default() };
    (name, Resource::Server(Box::new(message)))
}

fn refused(resources: impl IntoIterator<Item = (String, Resource)>) -> Vec<(String, String)> {
    match Document::remember(&resources.into_iter().collect()).map(|_| ()) {
        Err(ApiError::Invalid(violations)) => {
            violations.into_iter().map(|it| (it.field, it.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_history_holds_must_pass_the_rules_of_today() {
    let found = refused([service("a", "104", ""), server("a", "one", 999)]);
    let expected = "does not pass the rules of today: virtualServices/a.realServers/one.weight: 999 \
                    is out of range: use 0 to 256";
    assert_eq!(found, [("revision".to_owned(), expected.to_owned())]);

    let found = refused([service("a", "104", ""), service("b", "100-110", "")]);
    let expected = "does not pass the rules of today: virtualServices/a.listener.ports: 10.0.0.1 \
                    port 104 is taken by clusters/main/virtualServices/b";
    assert_eq!(found, [("revision".to_owned(), expected.to_owned())]);
}

#[test]
fn servers_belong_to_the_service_whose_name_they_have() {
    // As text, "a-b" sorts between "a" and its servers.
    let resources = [
        service("a", "104", ""),
        service("a-b", "105", ""),
        server("a", "one", 1),
        server("a-b", "two", 2),
    ];
    let document = Document::remember(&resources.into_iter().collect()).unwrap();
    let servers: Vec<Vec<_>> = document
        .services
        .values()
        .map(|entry| entry.servers().map(|server| server.weight.get()).collect())
        .collect();
    assert_eq!(servers, [vec![1], vec![2]]);
}
