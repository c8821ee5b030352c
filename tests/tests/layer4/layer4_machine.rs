//! What the agent does to the machine, what it finds there, and what it leaves alone.

use std::net::IpAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::lab::Node;
use libtest_mimic::Trial;
use pb::layer4::{Method, Scheduler};
use pb::virtual_service::Forwarding;

use crate::stand::{Service, Stand, checked, layer4, layer4_with, on_ports, persistent, real};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_machine_addresses_come_up_on_the_right_interface_and_go_with_the_service,
        layer4_machine_an_interface_may_be_named,
        layer4_machine_addresses_of_layer_7_services_are_brought_up_too,
        layer4_machine_layer_7_comes_from_the_client_itself_and_answers_come_back,
        layer4_machine_an_address_of_somebody_else_is_never_removed,
        layer4_machine_neighbours_hear_at_once_where_an_address_is,
        layer4_machine_kernel_settings_are_made_and_told,
        layer4_machine_a_foreign_service_is_left_alone_and_adopted_when_asked,
        layer4_machine_what_somebody_else_changes_is_put_right_and_told,
        layer4_machine_nat_with_one_arm_is_rejected_with_the_way_out,
        layer4_machine_a_scheduler_that_the_kernel_lacks_is_rejected_alone,
        layer4_machine_others_who_use_marks_are_told,
        layer4_machine_without_nft_only_those_are_rejected_that_need_it,
        layer4_machine_a_check_through_the_virtual_address_finds_the_server_without_it,
        layer4_machine_a_server_that_answers_arp_is_found,
    ]
}

fn addresses(node: &Node, interface: &str) -> String {
    node.run("ip", &["-o", "addr", "show", "dev", interface]).output()
}

fn has(node: &Node, interface: &str, address: impl std::fmt::Display) -> bool {
    addresses(node, interface).contains(&format!(" {address}/"))
}

fn dr<'a>(stand: &'a Stand, service: pb::VirtualService) -> Service<'a> {
    let vip = stand.vip();
    stand.serve(vip, service, stand.direct(["rs1", "rs2"], vip))
}

fn layer4_machine_addresses_come_up_on_the_right_interface_and_go_with_the_service() {
    let stand = Stand::two_arm();
    let lb1 = stand.node("lb1");
    for vip in [stand.vip(), stand.vip6()] {
        let service = stand.serve(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
        assert!(has(lb1, "eth1", vip) && !has(lb1, "eth0", vip), "{}", addresses(lb1, "eth1"));
        let second = on_ports(layer4(Method::Nat), &["105"]);
        let second = pb::VirtualService { display_name: "second".to_owned(), ..second };
        let name = format!("{}-second", service.id);
        let servers = vec![real("rs1", vip)];
        stand.site(async move |site| {
            let listener = pb::Listener {
                address: vip.to_string(),
                ports: vec!["105".to_owned()],
                ..Default::default()
            };
            let second = pb::VirtualService { listener: Some(listener), ..second };
            site.create(&name, second, servers).await;
            site.up(&name).await;
        });
        let id = format!("{}-second", service.id);
        drop(service);
        assert!(has(lb1, "eth1", vip), "the second service wants it");
        stand.site(async move |site| {
            let name = gantry_tests::site::service_name(&id);
            let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
            site.balancer().delete_virtual_service(request).await.unwrap();
            site.agents_report().await;
        });
        assert!(!has(lb1, "eth1", vip), "{}", addresses(lb1, "eth1"));
    }
}

fn layer4_machine_an_interface_may_be_named() {
    let stand = Stand::two_arm();
    let lb1 = stand.node("lb1");
    let vip = "192.0.2.80".parse().unwrap();
    let mut named = layer4(Method::Nat);
    named.listener.as_mut().unwrap().interface = "eth1".to_owned();
    let service = stand.serve(vip, named, vec![real("rs1", vip)]);
    assert!(has(lb1, "eth1", vip));
    service.update(&["listener.interface"], |service| {
        service.listener.as_mut().unwrap().interface = "eth0".to_owned();
    });
    assert!(has(lb1, "eth0", vip) && !has(lb1, "eth1", vip));
    service.update(&["listener.interface"], |service| {
        service.listener.as_mut().unwrap().interface = "eth7".to_owned();
    });
    let rejection = service.rejected();
    assert_eq!(
        (rejection.reason.as_str(), rejection.field.as_str()),
        ("NO_INTERFACE", "listener.interface")
    );
    assert!(rejection.message.contains("it has eth0, eth1"), "{}", rejection.message);
    assert!(has(lb1, "eth0", vip), "the former form is in force");
}

fn layer7() -> pb::VirtualService {
    let forwarding = Some(Forwarding::Layer7(pb::Layer7::default()));
    pb::VirtualService { forwarding, ..on_ports(layer4(Method::Nat), &["2575"]) }
}

fn layer4_machine_addresses_of_layer_7_services_are_brought_up_too() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1"], &[2575]);
    let vip = stand.vip();
    let service = stand.serve(vip, layer7(), vec![real("rs1", vip)]);
    let mut client = stand.connect(service.at()).unwrap();
    client.echoes().unwrap();
    assert_eq!(client.served_by, "rs1");
    drop(service);
    assert!(!has(stand.node("lb1"), "eth1", vip));
    let nowhere = "192.0.2.81".parse().unwrap();
    let service = stand.create(nowhere, layer7(), vec![real("rs1", vip)]);
    let rejection = service.rejected();
    assert_eq!(
        (rejection.agent.as_str(), rejection.reason.as_str(), rejection.field.as_str()),
        ("agent-l4", "NO_INTERFACE", "listener.address")
    );
}

fn layer4_machine_layer_7_comes_from_the_client_itself_and_answers_come_back() {
    let stand = Stand::two_arm();
    let lb1 = stand.node("lb1");
    let _servers = stand.servers(["rs1"], &[2575]);
    let rules = || ["-4", "-6"].map(|family| lb1.run("ip", &[family, "rule", "show"]).output());
    for vip in [stand.vip(), stand.vip6()] {
        let service = stand.serve(vip, layer7(), vec![real("rs1", vip)]);
        let client = match vip {
            IpAddr::V4(_) => "10.78.0.203",
            IpAddr::V6(_) => "fd78::203",
        };
        let hidden = stand.connect_from(203, service.at()).unwrap();
        service.update(&["layer7.transparent_source"], |service| {
            let Some(Forwarding::Layer7(layer7)) = &mut service.forwarding else { panic!() };
            layer7.transparent_source = true;
        });
        let mut seen = stand.connect_from(203, service.at()).unwrap();
        let [hidden, shown] = [hidden.seen_as, seen.seen_as].map(|address| address.to_string());
        assert!(hidden != client && shown == client, "{hidden}, then {shown}");
        assert!(rules().iter().all(|rules| rules.contains("fwmark 0x47000000")), "{:?}", rules());
        for _ in 0..20 {
            seen.echoes().unwrap();
        }

        lb1.run("ip", &["-4", "rule", "delete", "priority", "1071"]).output();
        lb1.run("nft", &["delete", "table", "inet", "gantry_l4"]).output();
        stand.eventually("what was taken away is back", || {
            let table = lb1.run("nft", &["list", "table", "inet", "gantry_l4"]).out;
            let is_back = table.contains("socket transparent") && rules()[0].contains("0x47000000");
            is_back.then_some(())
        });
        seen.echoes().unwrap();
        drop(service);
        assert!(rules().iter().all(|rules| !rules.contains("0x47000000")), "{:?}", rules());
    }
}

fn layer4_machine_an_address_of_somebody_else_is_never_removed() {
    let stand = Stand::two_arm();
    let (lb1, vip) = (stand.node("lb1"), stand.vip());
    lb1.ip(&[format!("addr add {vip}/32 dev eth1")]);
    let service = stand.serve(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
    drop(service);
    assert!(has(lb1, "eth1", vip));
    lb1.ip(&[format!("addr del {vip}/32 dev eth1")]);
}

fn layer4_machine_neighbours_hear_at_once_where_an_address_is() {
    let stand = Stand::one_arm();
    let (c1, lb1) = (stand.node("c1"), stand.node("lb1"));
    let hardware = |node: &Node| {
        let shown = node.run("ip", &["-o", "link", "show", "dev", "eth0"]).output();
        shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    let right = hardware(lb1);
    for vip in [stand.vip(), stand.vip6()] {
        // c1 believes that the address is elsewhere, as after a move.
        c1.ip(&[format!("neigh replace {vip} lladdr 02:00:00:00:00:99 dev eth0 nud stale")]);
        let _service = stand.serve(vip, layer4(Method::Dr), vec![real("rs1", vip)]);
        stand.eventually("c1 knows better", || {
            let shown = c1.run("ip", &["neigh", "show", &vip.to_string()]).output();
            shown.contains(&right).then_some(())
        });
    }
}

fn layer4_machine_kernel_settings_are_made_and_told() {
    let stand = Stand::two_arm();
    let lb1 = stand.node("lb1");
    lb1.sysctl(&[("net/ipv4/vs/expire_nodest_conn", "0"), ("net/ipv4/ip_forward", "0")]);
    let vip = stand.vip();
    let _service = stand.serve(vip, layer4(Method::Snat), vec![real("rs1", vip)]);
    for (name, wanted) in [
        ("net.ipv4.vs.expire_nodest_conn", "1"),
        ("net.ipv4.vs.expire_quiescent_template", "1"),
        ("net.ipv4.vs.conntrack", "1"),
        ("net.ipv4.ip_forward", "1"),
    ] {
        stand.eventually(&format!("{name} is {wanted}"), || {
            let shown = lb1.run("sysctl", &["-n", name]).output();
            (shown.trim() == wanted).then_some(())
        });
    }
    let told = stand.eventually("the settings are told", || {
        let appliance = stand.site(async |site| {
            let request =
                pb::GetApplianceRequest { name: "clusters/main/appliances/lb1".to_owned() };
            site.fleet().get_appliance(request).await.unwrap().into_inner()
        });
        let agent = appliance.agents.into_iter().find(|agent| agent.agent == "agent-l4")?;
        let found = agent.settings.into_iter();
        let mut found = found.filter(|setting| setting.name == "net.ipv4.vs.conntrack");
        found.next()
    });
    assert_eq!((told.value.as_str(), told.error.as_str()), ("1", ""), "{told:?}");
    assert!(!told.purpose.is_empty(), "{told:?}");
}

fn layer4_machine_a_foreign_service_is_left_alone_and_adopted_when_asked() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let (vip, other) = (stand.vip(), stand.vip());
    stand.ipvsadm(&format!("-A -t {other}:104 -s rr"));
    stand.ipvsadm(&format!("-A -t {vip}:104 -s rr"));
    stand.ipvsadm(&format!("-a -t {vip}:104 -r 10.77.0.21:104 -m -w 5"));
    let lb1 = stand.node("lb1");
    lb1.ip(&[format!("addr add {vip}/32 dev eth1")]);
    let mut held = stand.connect((vip, 104).into()).unwrap();
    let servers = ["rs1", "rs2"].map(|name| real(name, vip));
    let service = stand.create(vip, layer4(Method::Nat), servers.into());
    let rejection = service.rejected();
    assert_eq!(rejection.reason, "FOREIGN_SERVICE");
    assert!(rejection.message.contains("--adopt"), "{}", rejection.message);
    stand.site(async |site| {
        site.agent_l4.as_mut().unwrap().kill();
        site.start_agent_l4_with(&["--adopt"]);
        site.agents_report().await;
    });
    let id = service.id.clone();
    stand.site(async move |site| site.up(&id).await);
    held.echoes().unwrap();
    service.shows(&["10.77.0.22:104", "Masq    100 "]);
    drop(service);
    let left = stand.ipvsadm("-Sn");
    assert!(left.contains(&format!("-A -t {other}:104 -s rr")), "{left}");
    stand.ipvsadm(&format!("-D -t {other}:104"));
    lb1.ip(&[format!("addr del {vip}/32 dev eth1")]);
    stand.site(async |site| {
        site.agent_l4.as_mut().unwrap().kill();
        site.start_agent_l4();
        site.agents_report().await;
    });
}

fn layer4_machine_what_somebody_else_changes_is_put_right_and_told() {
    let stand = Stand::one_arm();
    let service = persistent(on_ports(layer4(Method::Dr), &["104", "11112"]));
    let service = dr(stand, service);
    let lb1 = stand.node("lb1");
    let before = stand.ipvsadm("-Sn");
    let mark = before.lines().find_map(|line| line.strip_prefix("-A -f ")).unwrap();
    let mark = mark.split(' ').next().unwrap().to_owned();
    stand.ipvsadm(&format!("-e -f {mark} -r 10.77.0.21 -g -w 7"));
    stand.ipvsadm(&format!("-d -f {mark} -r 10.77.0.22"));
    lb1.ip(&[format!("addr del {}/32 dev eth0", service.vip)]);
    lb1.run("nft", &["delete", "table", "inet", "gantry_l4"]).output();
    stand.eventually("all is as it was", || {
        let table = lb1.run("nft", &["list", "table", "inet", "gantry_l4"]);
        (stand.ipvsadm("-Sn") == before
            && has(lb1, "eth0", service.vip)
            && table.out.contains("11112"))
        .then_some(())
    });
    let id = service.id.clone();
    let told = stand.site(async move |site| {
        site.event(&gantry_tests::site::service_name(&id), "DRIFT_REPAIRED").await
    });
    assert!(told.actor.contains("agent-l4"), "{told:?}");
}

fn layer4_machine_nat_with_one_arm_is_rejected_with_the_way_out() {
    let stand = Stand::one_arm();
    let vip = stand.vip();
    let service = stand.create(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
    let rejection = service.rejected();
    assert_eq!(
        (rejection.reason.as_str(), rejection.field.as_str()),
        ("ONE_ARM_NAT", "layer4.method")
    );
    assert!(rejection.message.contains("Use method SNAT or DR"), "{}", rejection.message);
    assert!(!stand.ipvsadm("-Ln").contains(&vip.to_string()));
    let state = service.status().state();
    assert_eq!(state, pb::virtual_service_status::State::NotInForce);
}

fn layer4_machine_a_scheduler_that_the_kernel_lacks_is_rejected_alone() {
    let stand = Stand::two_arm();
    let hidden = Hidden::module("ip_vs_nq");
    let vip = stand.vip();
    let rare = layer4_with(Method::Nat, |layer4| layer4.scheduler = Scheduler::NeverQueue.into());
    let service = stand.create(vip, rare, vec![real("rs1", vip)]);
    let rejection = service.rejected();
    assert_eq!(
        (rejection.reason.as_str(), rejection.field.as_str()),
        ("NO_SCHEDULER", "layer4.scheduler")
    );
    let vip = stand.vip();
    let other = stand.serve(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
    drop(hidden);
    let id = service.id.clone();
    stand.site(async move |site| site.up(&id).await);
    drop(other);
}

/// A module that the kernel cannot load.
struct Hidden(std::path::PathBuf);

impl Hidden {
    fn module(name: &str) -> Self {
        let file = std::path::PathBuf::from(format!("/etc/modprobe.d/gantry-hidden-{name}.conf"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("install {name} /bin/false\n")).unwrap();
        let unloaded =
            std::process::Command::new(gantry_tests::process::program("modprobe", "kmod"))
                .args(["-r", name])
                .output()
                .unwrap();
        assert!(unloaded.status.success(), "{}", String::from_utf8_lossy(&unloaded.stderr));
        Self(file)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn layer4_machine_others_who_use_marks_are_told() {
    let stand = Stand::one_arm();
    let lb1 = stand.node("lb1");
    let marked = || persistent(on_ports(layer4(Method::Dr), &["104", "11112"]));
    let vip = stand.vip();
    lb1.ip(&["rule add fwmark 0x1/0x1 priority 1000 table main"]);
    let service = stand.create(vip, marked(), vec![real("rs1", vip)]);
    let rejection = service.rejected();
    assert_eq!(rejection.reason, "MARK_IN_USE");
    assert!(rejection.message.contains("the policy rule 1000"), "{}", rejection.message);
    lb1.ip(&["rule del fwmark 0x1/0x1 priority 1000"]);
    let id = service.id.clone();
    stand.site(async move |site| site.settled(&id).await);
    stand.eventually("the rule is gone and the service in force", || {
        service.status().rejections.is_empty().then_some(())
    });
    let nft = "add table ip foreign; add chain ip foreign pre { type filter hook prerouting \
               priority mangle; }; add rule ip foreign pre tcp dport 104 meta mark set 0x1";
    lb1.run("nft", &[nft]).output();
    stand.eventually("who sets marks is found", || {
        let findings = service.status().findings;
        findings.iter().any(|finding| finding.reason == "MARK_IN_USE").then_some(())
    });
    lb1.run("nft", &["delete", "table", "ip", "foreign"]).output();
    stand.eventually("and forgotten", || service.status().findings.is_empty().then_some(()));
}

fn layer4_machine_without_nft_only_those_are_rejected_that_need_it() {
    let stand = Stand::one_arm();
    let program = gantry_tests::process::program("nft", "nftables");
    let aside = program.with_extension("aside");
    std::fs::rename(&program, &aside).unwrap();
    let back = Back(aside, program);
    let vip = stand.vip();
    let marked = persistent(on_ports(layer4(Method::Dr), &["104", "11112"]));
    let service = stand.create(vip, marked, vec![real("rs1", vip)]);
    // Rules that are in force already need no look at them.
    stand.site(async |site| {
        let agent = site.agent_l4.as_mut().unwrap();
        agent.kill();
        agent.start_again();
    });
    let rejection = service.rejected();
    assert_eq!((rejection.reason.as_str(), rejection.field.as_str()), ("NO_NFT", "listener.ports"));
    let vip = stand.vip();
    let _plain = stand.serve(vip, layer4(Method::Dr), vec![real("rs1", vip)]);
    drop(back);
    stand.eventually("with nft it is in force", || {
        service.status().rejections.is_empty().then_some(())
    });
}

/// A file that was put aside, and comes back.
struct Back(std::path::PathBuf, std::path::PathBuf);

impl Drop for Back {
    fn drop(&mut self) {
        std::fs::rename(&self.0, &self.1).unwrap();
    }
}

/// The ARP problem's one half: a server that answers at its own address, and drops what clients send.
fn layer4_machine_a_check_through_the_virtual_address_finds_the_server_without_it() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let vip = stand.vip();
    stand.lab.real_server_for("rs1", vip);
    let mut service = checked(layer4(Method::Dr), Duration::from_secs(1));
    let check = service.health_check.as_mut().unwrap();
    check.through_virtual_address = true;
    let servers = ["rs1", "rs2"].map(|name| real(name, vip));
    let service = stand.create(vip, service, servers.into());
    let reaches = |server: &'static str, state: pb::real_server_status::State| {
        let id = service.id.clone();
        stand.site(async move |site| site.server_reaches(&id, server, state).await)
    };
    reaches("rs1", pb::real_server_status::State::Serving);
    let failed = reaches("rs2", pb::real_server_status::State::Failed);
    assert!(failed.last_check.contains("does it accept traffic for that address?"), "{failed:?}");
    for _ in 0..3 {
        assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs1");
    }
    stand.lab.real_server_for("rs2", vip);
    reaches("rs2", pb::real_server_status::State::Serving);
}

/// The ARP problem's other half.
fn layer4_machine_a_server_that_answers_arp_is_found() {
    let stand = Stand::one_arm();
    let service = dr(stand, layer4(Method::Dr));
    let rs2 = stand.node("rs2");
    rs2.sysctl(&[("net/ipv4/conf/all/arp_ignore", "0")]);
    let found = stand.eventually("the server that answers is found", || {
        let status = service.status();
        status.findings.into_iter().find(|finding| finding.reason == "ADDRESS_CONFLICT")
    });
    assert!(found.message.contains("the real server rs2 ("), "{}", found.message);
    assert!(
        found.message.contains(&format!("gantry arp-help {}", service.id)),
        "{}",
        found.message
    );
    assert_eq!(service.status().state(), pb::virtual_service_status::State::Degraded);
    rs2.sysctl(&[("net/ipv4/conf/all/arp_ignore", "1")]);
    stand.eventually("and forgotten", || service.status().findings.is_empty().then_some(()));
    let id = service.id.clone();
    stand.site(async move |site| {
        site.event(&gantry_tests::site::service_name(&id), "ADDRESS_CONFLICT").await
    });
}
