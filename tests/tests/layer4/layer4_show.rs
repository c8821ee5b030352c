//! What is shown of layer 4: counters, connections, clients that are remembered.

use gantry_proto::v1 as pb;
use gantry_tests::lab::Client;
use libtest_mimic::Trial;
use pb::layer4::Method;

use crate::stand::{Service, Stand, layer4, on_ports, persistent, real};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_show_counters_by_service_port_and_server,
        layer4_show_counters_by_port_of_a_service_with_one_mark,
        layer4_show_which_clients_are_remembered,
        layer4_show_which_connections_there_are,
        layer4_show_that_the_kernel_forgets_no_single_client,
    ]
}

/// The counters of a port, once there are any.
fn port<'a>(status: &'a pb::VirtualServiceStatus, port: &str) -> Option<&'a pb::PortStatus> {
    status.ports.iter().find(|status| status.port == port)
}

/// Three connections, as `talk` makes them of the ports 104, 104 and 11112.
fn are_counted(status: &pb::VirtualServiceStatus) -> bool {
    let total = |name| port(status, name)?.connections_total;
    status.active_connections == 3 && (total("104"), total("11112")) == (Some(2), Some(1))
}

fn talk(stand: &Stand, service: &Service<'_>, ports: [u16; 3]) -> [Client; 3] {
    ports.map(|port| {
        let mut client = stand.connect_from(201, service.at_port(port)).unwrap();
        client.echoes().unwrap();
        client
    })
}

fn layer4_show_counters_by_service_port_and_server() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1"], &[104, 11112]);
    let vip = stand.vip();
    let service = on_ports(layer4(Method::Nat), &["104", "11112"]);
    let service = stand.serve(vip, service, vec![real("rs1", vip)]);
    let held = talk(stand, &service, [104, 104, 11112]);
    let status = stand.eventually("the connections are counted", || {
        let status = service.status();
        are_counted(&status).then_some(status)
    });
    assert!(port(&status, "104").unwrap().received_bytes_total > 28, "{status:?}");
    assert_eq!(service.server_status("rs1").active_connections, 3);
    drop(held);
    stand.eventually("ended connections are inactive", || {
        let status = service.status();
        (status.active_connections == 0 && status.inactive_connections == 3).then_some(())
    });
}

fn layer4_show_counters_by_port_of_a_service_with_one_mark() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1"], &[104, 11112]);
    let vip = stand.vip();
    let service = persistent(on_ports(layer4(Method::Dr), &["104", "11112"]));
    let service = stand.serve(vip, service, stand.direct(["rs1"], vip));
    let _held = talk(stand, &service, [104, 104, 11112]);
    let status = stand.eventually("the packets are counted", || {
        let status = service.status();
        are_counted(&status).then_some(status)
    });
    assert!(port(&status, "11112").unwrap().received_packets_total > 0, "{status:?}");
}

fn layer4_show_which_clients_are_remembered() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104, 11112]);
    let vip = stand.vip();
    let servers = stand.direct(["rs1", "rs2"], vip);
    for ports in [&["104"][..], &["104", "11112"]] {
        let service = persistent(on_ports(layer4(Method::Dr), ports));
        let service = stand.serve(vip, service, servers.clone());
        let by = [201, 202].map(|last| stand.connect_from(last, service.at()).unwrap().served_by);
        let list = |client: &str| {
            let (parent, client) =
                (gantry_tests::site::service_name(&service.id), client.to_owned());
            let answer = stand.ask("the clients are listed", async |site| {
                let request = pb::ListPersistenceEntriesRequest {
                    parent: parent.clone(),
                    client: client.clone(),
                    page_size: 0,
                };
                site.balancer().list_persistence_entries(request).await
            });
            answer.unwrap().into_inner()
        };
        let all = list("");
        assert_eq!((all.entries.len(), all.total_size), (2, 2), "{all:?}");
        for (last, server) in [201, 202].into_iter().zip(by) {
            let client = format!("10.77.0.{last}");
            let one = list(&client);
            assert_eq!(one.entries.len(), 1, "{one:?}");
            let entry = &one.entries[0];
            assert_eq!(entry.client, client);
            assert!(entry.real_server.ends_with(&format!("/realServers/{server}")), "{entry:?}");
            assert_eq!(entry.appliance, "clusters/main/appliances/lb1");
            assert!(entry.expires_in.unwrap().seconds > 3000, "{entry:?}");
        }
    }
}

fn layer4_show_which_connections_there_are() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1"], &[104]);
    let vip = stand.vip();
    let service = stand.serve(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
    let _held = stand.connect_from(207, service.at()).unwrap();
    let parent = gantry_tests::site::service_name(&service.id);
    let listed = stand.ask("the connections are listed", async |site| {
        let request = pb::ListConnectionsRequest { parent: parent.clone(), ..Default::default() };
        site.balancer().list_connections(request).await
    });
    let listed = listed.unwrap().into_inner();
    let one = &listed.connections[0];
    assert_eq!(listed.total_size, 1);
    assert!(one.client.starts_with("10.78.0.207:"), "{one:?}");
    assert_eq!(
        (one.listener.as_str(), one.endpoint.as_str()),
        (&*service.at().to_string(), "10.77.0.21:104")
    );
    assert!(one.real_server.ends_with("/realServers/rs1"), "{one:?}");
    assert_eq!(one.state, "ESTABLISHED");
}

fn layer4_show_that_the_kernel_forgets_no_single_client() {
    let stand = Stand::two_arm();
    let vip = stand.vip();
    let service = stand.serve(vip, persistent(layer4(Method::Nat)), vec![real("rs1", vip)]);
    let parent = gantry_tests::site::service_name(&service.id);
    let refused = stand.ask("the client is to be forgotten", async |site| {
        let (parent, client) = (parent.clone(), "10.78.0.201".to_owned());
        let request = pb::DeletePersistenceEntryRequest { parent, client, ..Default::default() };
        site.balancer().delete_persistence_entry(request).await
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("drain its real server"), "{}", refused.message());
    let refused = stand.ask("the client is to belong elsewhere", async |site| {
        let real_server = gantry_tests::site::server_name(&service.id, "rs1");
        let client = "10.78.0.201".to_owned();
        let request = pb::SetPersistenceEntryRequest { real_server, client, ..Default::default() };
        site.balancer().set_persistence_entry(request).await
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("use layer7"), "{}", refused.message());
}
