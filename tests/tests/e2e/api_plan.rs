//! What a plan announces, held against what happens when it is carried out.

use std::net::SocketAddr;

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{check, layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::{Site, eventually};
use pb::change::Action;
use pb::health_check::Probe;
use pb::real_server::AdminState;
use pb::virtual_service::Forwarding;

/// A service of the document, and the open connections to each of its servers.
struct Kept {
    id: &'static str,
    listen: SocketAddr,
    clients: Vec<Client>,
}

/// Two clients at each of two servers of a service, and the entry of the document for it.
async fn busy(site: &Site, id: &'static str, last: u8, backends: &[Backend; 2]) -> Kept {
    let listen = site.block.socket(last, 80);
    let [one, two] = backends;
    let in_turn = pb::layer7::Algorithm::WeightedRoundRobin.into();
    let service = pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(pb::Layer7 {
            algorithm: in_turn,
            ..Default::default()
        })),
        ..layer7(listen)
    };
    site.create(id, service, vec![server("one", one.address), server("two", two.address)]).await;
    site.up(id).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(listen).await.unwrap());
    }
    Kept { id, listen, clients }
}

impl Kept {
    /// Whether the connections that `server` serves are all open, or have all ended by a reset.
    async fn ends(&mut self, server: &str) -> bool {
        let mut ended = Vec::new();
        for client in self.clients.iter_mut().filter(|client| client.served_by == server) {
            ended.push(client.echoes().await.is_err());
        }
        assert_eq!(ended.len(), 2, "{} of {server}", self.id);
        assert_eq!(ended[0], ended[1], "{} of {server}", self.id);
        ended[0]
    }
}

async fn plan(site: &Site, config: &pb::Config) -> pb::PlanConfigResponse {
    let request = pb::PlanConfigRequest { config: Some(config.clone()) };
    site.config().plan_config(request).await.unwrap().into_inner()
}

async fn export(site: &Site) -> pb::Config {
    site.config().export_config(pb::ExportConfigRequest::default()).await.unwrap().into_inner()
}

fn entry<'a>(config: &'a mut pb::Config, id: &str) -> &'a mut pb::config::Service {
    let is = |it: &&mut pb::config::Service| {
        it.virtual_service.as_ref().is_some_and(|service| service.name == id)
    };
    config.services.iter_mut().find(is).unwrap()
}

fn service<'a>(config: &'a mut pb::Config, id: &str) -> &'a mut pb::VirtualService {
    entry(config, id).virtual_service.as_mut().unwrap()
}

/// Every kind of change at once, each to a service of its own, with open connections on all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_plan_announces_just_the_connections_that_end() {
    let site = Site::start().await;
    let backends = [
        Backend::start("one", site.block.socket(20, 8000)).await,
        Backend::start("two", site.block.socket(21, 8000)).await,
    ];
    let elsewhere = Backend::start("new", site.block.socket(22, 8000)).await;
    let ids = [
        "removed",
        "disabled",
        "moved",
        "layer4",
        "halted",
        "drained",
        "late",
        "gone",
        "endpoint",
        "weight",
        "timeouts",
        "failover",
        "rejected",
        "untouched",
    ];
    let mut all = Vec::new();
    for (id, last) in ids.into_iter().zip(30..) {
        all.push(busy(&site, id, last, &backends).await);
    }
    eventually("every connection was reported", async || {
        let overview =
            site.observe().get_overview(pb::GetOverviewRequest::default()).await.unwrap();
        let rows = overview.into_inner().rows;
        let open = |status: Option<pb::RealServerStatus>| status.unwrap().active_connections;
        let each = rows.iter().flat_map(|row| &row.real_servers);
        (each.filter(|server| open(server.status.clone()) == 2).count() == 2 * ids.len())
            .then_some(())
    })
    .await;

    let mut config = export(&site).await;
    config.services.retain(|it| it.virtual_service.as_ref().unwrap().name != "removed");
    service(&mut config, "disabled").disabled = true;
    let listen = site.block.socket(80, 8080);
    service(&mut config, "moved").listener = layer7(listen).listener;
    service(&mut config, "layer4").forwarding = Some(Forwarding::Layer4(pb::Layer4 {
        method: pb::layer4::Method::Nat.into(),
        ..Default::default()
    }));
    entry(&mut config, "halted").real_servers[0].set_admin_state(AdminState::Halt);
    entry(&mut config, "drained").real_servers[0].set_admin_state(AdminState::Drain);
    let late = &mut entry(&mut config, "late").real_servers[0];
    late.set_admin_state(AdminState::Drain);
    late.halt_time = Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 });
    entry(&mut config, "gone").real_servers.remove(0);
    entry(&mut config, "endpoint").real_servers[0].endpoint =
        server("one", elsewhere.address).endpoint;
    entry(&mut config, "weight").real_servers[0].weight = Some(0);
    let Some(Forwarding::Layer7(timeouts)) = &mut service(&mut config, "timeouts").forwarding
    else {
        panic!()
    };
    timeouts.client_timeout = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
    let failover = service(&mut config, "failover");
    failover.set_strategy(pb::virtual_service::Strategy::Failover);
    failover.health_check = Some(check(Probe::None(pb::health_check::None {})));
    let Some(Forwarding::Layer7(http)) = &mut service(&mut config, "rejected").forwarding else {
        panic!()
    };
    http.set_mode(pb::layer7::Mode::HttpMode);

    let planned = plan(&site, &config).await;
    let mut announced: Vec<_> = planned
        .changes
        .iter()
        .flat_map(|change| &change.cuts)
        .map(|cut| (cut.name.clone(), cut.connections, cut.stale))
        .collect();
    announced.sort();
    let mut expected = vec![
        (server_name("gone", "one"), 2, false),
        (server_name("halted", "one"), 2, false),
        (server_name("late", "one"), 2, false),
        (service_name("disabled"), 4, false),
        (service_name("layer4"), 4, false),
        (service_name("removed"), 4, false),
    ];
    expected.sort();
    assert_eq!(announced, expected);
    assert_eq!((planned.cut_connections, planned.stale), (18, false));
    assert!(
        !planned.changes.iter().any(|change| change.name.starts_with(&service_name("untouched")))
    );

    let request = pb::ApplyConfigRequest {
        config: Some(config),
        base_etag: planned.base_etag,
        ..Default::default()
    };
    let applied = site.config().apply_config(request).await.unwrap().into_inner();
    let names = |changes: &[pb::Change]| -> Vec<_> {
        changes.iter().map(|change| (change.action(), change.name.clone())).collect()
    };
    assert_eq!(
        names(&applied.changes),
        names(&planned.changes),
        "what was planned is what was done"
    );
    for id in ids.into_iter().skip(1) {
        site.settled(id).await;
    }
    for kept in &mut all {
        let ends = |whose: &str| announced.iter().any(|(name, _, _)| *name == whose);
        for server in ["one", "two"] {
            let announced = ends(&service_name(kept.id)) || ends(&server_name(kept.id, server));
            assert_eq!(kept.ends(server).await, announced, "{} of {server}", kept.id);
        }
    }
    // What was changed is in force, though nothing was cut for it.
    assert!(Client::connect(all[2].listen).await.is_err());
    assert_eq!(Client::connect(listen).await.unwrap().served_by.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_plan_tells_fields_with_both_values_and_changes_nothing() {
    let site = Site::controller_only().await;
    let listen = site.block.socket(10, 80);
    site.create("web", layer7(listen), vec![server("one", site.block.socket(20, 80))]).await;
    let before = export(&site).await;
    let mut config = before.clone();
    service(&mut config, "web").listener.as_mut().unwrap().ports.push("8000-8010".into());
    let one = &mut entry(&mut config, "web").real_servers[0];
    one.weight = Some(50);
    one.endpoint.as_mut().unwrap().port = 0;
    entry(&mut config, "web").real_servers.push(server("two", (site.block.address(21), 0).into()));
    let planned = plan(&site, &config).await;
    let told = |at: usize| -> Vec<String> {
        let fields = planned.changes[at].field_changes.iter();
        fields.map(|it| format!("{} {} {}", it.path, it.before, it.after)).collect()
    };
    let ports = r#"listener.ports ["80"] ["80","8000-8010"]"#.to_owned();
    assert_eq!(planned.changes[0].name, service_name("web"));
    assert_eq!(told(0), [ports]);
    assert_eq!(planned.changes[0].fields, ["listener.ports"]);
    assert_eq!(told(1), ["endpoint.port 80 ".to_owned(), "weight 100 50".to_owned()]);
    assert_eq!(planned.changes[2].action(), Action::Create);
    assert!(planned.changes[2].fields.contains(&"endpoint".to_owned()), "{:?}", planned.changes[2]);
    assert_eq!(planned.base_etag, before.etag);
    assert_eq!(export(&site).await, before, "a plan changes nothing");
    assert_eq!(
        (planned.cut_connections, planned.stale),
        (0, false),
        "nothing is cut, whoever reports"
    );

    config.services.clear();
    let planned = plan(&site, &config).await;
    assert_eq!(planned.changes.len(), 1);
    let cut = &planned.changes[0].cuts[0];
    assert_eq!((cut.connections, cut.stale, planned.stale), (0, true, true), "nobody reports");
    assert_eq!(cut.reason, "the virtual service is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_plan_that_is_overtaken_is_not_applied() {
    let site = Site::controller_only().await;
    site.create("web", layer7(site.block.socket(10, 80)), Vec::new()).await;
    let mut config = export(&site).await;
    service(&mut config, "web").disabled = true;
    let file = site.folder("documents").join("site.json");
    let planned = plan(&site, &config).await;
    site.create("other", layer7(site.block.socket(11, 80)), Vec::new()).await;
    let base_etag = planned.base_etag;
    let request = pb::ApplyConfigRequest { config: Some(config), base_etag, ..Default::default() };
    let refused = site.config().apply_config(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Aborted);

    // The command says what to type, and that can be typed.
    let exported = site.gantry(&["export", "-o", "json"]).await.output();
    std::fs::write(&file, exported.replace("\"80\"", "\"81\"")).unwrap();
    let file = file.to_str().unwrap();
    let told = site.gantry(&["plan", "-f", file]).await.output();
    assert!(told.contains("listener.ports: 80 -> 81\n"), "{told}");
    let line = told.lines().last().unwrap().strip_prefix("apply it with:  gantry ").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let done = site.gantry(&words).await.output();
    assert!(done.contains("0 created, 2 changed, 0 deleted (revision 1."), "{done}");
    let again = site.gantry(&words).await;
    assert_eq!(again.status.code(), Some(1), "{}", again.err);
    assert!(again.err.contains("read it again"), "{}", again.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_who_waits_learns_that_it_is_in_force_or_who_refused_it() {
    let mut site = Site::start().await;
    let apply = async |site: &Site, port: u16, wait: &str| {
        let config = pb::Config {
            services: vec![pb::config::Service {
                virtual_service: Some(pb::VirtualService {
                    name: "web".to_owned(),
                    ..layer7(site.block.socket(10, port))
                }),
                real_servers: vec![server("one", site.block.socket(20, 80))],
            }],
            ..Default::default()
        };
        let request = pb::ApplyConfigRequest { config: Some(config), ..Default::default() };
        site.config().apply_config(request).await.unwrap();
        let exported = site.gantry(&["export"]).await.output();
        let file = site.folder("documents").join("site.yaml");
        std::fs::write(&file, exported).unwrap();
        site.gantry(&["apply", "-f", file.to_str().unwrap(), wait]).await
    };
    let done = apply(&site, 80, "--wait").await.output();
    assert!(done.contains("lb1 agent-l7: in force\n"), "{done}");
    assert!(done.contains("\nin force on every appliance"), "{done}");

    let foreign = tokio::net::TcpListener::bind(site.block.socket(10, 81)).await.unwrap();
    let refused = apply(&site, 81, "--wait").await;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.out);
    let expected = "\n  web: lb1 agent-l7: ADDRESS_IN_USE at listener.address: ";
    assert!(refused.err.contains(expected), "{}", refused.err);
    drop(foreign);
    site.up("web").await;

    site.agent_l7.as_mut().unwrap().kill();
    eventually("the controller misses agent-l7", async || {
        let request = pb::GetApplianceRequest { name: "clusters/main/appliances/lb1".to_owned() };
        let lb1 = site.fleet().get_appliance(request).await.unwrap().into_inner();
        lb1.agents.iter().any(|agent| !agent.connected).then_some(())
    })
    .await;
    let alone = apply(&site, 82, "--wait=0s").await;
    assert_eq!(alone.status.code(), Some(1), "{}", alone.out);
    assert!(alone.err.contains("lb1 agent-l7: not connected, last heard "), "{}", alone.err);
}
