//! What agents see and know, as the command shows it.

use crate::stand::Stand;

/// The part of a text from one title to before the next.
fn part<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no {from:?} in\n{text}"));
    let rest = &text[start..];
    &rest[..rest.find(to).unwrap_or_else(|| panic!("no {to:?} in\n{rest}"))]
}

#[tokio::test]
async fn describe_shows_what_the_kernel_counts_and_what_is_wrong() {
    let stand = Stand::start().await;
    let text = stand.run("describe dicom-store --cluster main").await.out;
    let line = "Connections:     42, and 120 that ended or fell silent\n";
    assert!(text.contains(line), "{text}");
    let expected = "\
Found wrong:
  lb1 agent-l4: ADDRESS_CONFLICT: another machine answers for 10.12.1.100: 02:00:0a:0c:01:09; look for it in the switch

Traffic by port:
  104          9120 connections, 1204000 packets, 1.3 GB
  11112        12 packets, 960 B

";
    assert_eq!(part(&text, "Found wrong", "Real servers:"), expected);
}

#[tokio::test]
async fn describe_shows_what_was_set_in_the_kernel() {
    let stand = Stand::start().await;
    let text = stand.run("describe appliances/lb1 --cluster main").await.out;
    let expected = "\
Found wrong:
  lb1 agent-l4: FOREIGN_MARK: rules of a firewall mark packets with 0x47000001, which is Gantry's: choose another mark there

Kernel settings, by agent-l4:
  net.ipv4.vs.expire_nodest_conn           1 (was 0)      resets the connections of a real server that is taken out
  net.ipv4.vs.conntrack                    0              translates the source of connections
    has to be 1: it is read-only: start the agent with CAP_NET_ADMIN

";
    assert_eq!(part(&text, "Found wrong", "Events:"), expected);
}

#[tokio::test]
async fn who_is_remembered_is_a_table() {
    let stand = Stand::start().await;
    let ran = stand.run("get persistence dicom-store --cluster main --client 10.12.2.7").await;
    let expected = "\
CLIENT        REAL SERVER  ADDRESS          EXPIRES IN  APPLIANCE
10.12.2.7     pacs-1       10.12.1.110:104         59m  lb1
10.12.3.0/24  (gone)       10.12.1.110:104         12s  lb1
";
    assert_eq!(ran.out, expected, "{}", ran.err);
    assert_eq!(ran.err, "2 of 7 are shown: give --client ADDRESS\n");
    let expected = r#"ListPersistenceEntries {"parent":"clusters/main/virtualServices/dicom-store","client":"10.12.2.7","pageSize":10000}"#;
    assert_eq!(stand.calls(), [expected]);
}

#[tokio::test]
async fn connections_are_a_table_and_documents() {
    let stand = Stand::start().await;
    let ran = stand.run("get connections dicom-store --cluster main").await;
    let expected = "\
CLIENT           CONNECTED TO     REAL SERVER  ADDRESS          STATE        EXPIRES IN  APPLIANCE
10.12.2.7:40112  10.12.1.100:104  pacs-1       10.12.1.110:104  ESTABLISHED         59m  lb1
";
    assert_eq!(ran.out, expected, "{}", ran.err);
    let ran = stand.run("get connections dicom-store --cluster main -o json").await;
    let documents: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(documents[0]["expiresIn"], "3599s");
    let ran = stand.run("get connections dicom-store --cluster main --client 10.12.2.9").await;
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "no connections\n"));
    for (line, words) in [
        ("get connections --cluster main", "which virtual service?"),
        ("get connections hl7/hl7-1 --cluster main", "is not a virtual service"),
        ("get connections hl7 -l a=b --cluster main", "--filter is for resources"),
        ("get connections hl7 -o name --cluster main", "no names"),
        ("get vs --client 10.12.2.9", "--client is for persistence"),
    ] {
        let ran = stand.run(line).await;
        assert!(ran.code == 2 && ran.err.contains(words), "{line}: {} {}", ran.code, ran.err);
    }
}

#[tokio::test]
async fn a_client_can_be_forgotten() {
    let stand = Stand::start().await;
    let ran = stand.run("delete persistence hl7 10.12.2.7 -m moved --cluster main").await;
    let expected = "clusters/main/virtualServices/hl7 has forgotten 10.12.2.7\n";
    assert_eq!(ran.out, expected, "{}", ran.err);
    let expected = r#"DeletePersistenceEntry {"parent":"clusters/main/virtualServices/hl7","client":"10.12.2.7","comment":"moved"}"#;
    assert_eq!(stand.calls(), [expected]);
    let ran = stand.run("delete persistence hl7 10.12.2.9 --cluster main").await;
    let expected = "error: agent-l4 of lb2 did not answer within 5 s\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
    let ran = stand.run("delete hl7 10.12.2.9 --cluster main").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("give one name"), "{}", ran.err);
}

#[tokio::test]
async fn a_client_can_be_given_a_real_server() {
    let stand = Stand::start().await;
    let ran = stand.run("set persistence hl7/hl7-1 10.12.2.7 -m moved --cluster main").await;
    let server = "clusters/main/virtualServices/hl7/realServers/hl7-1";
    let expected = format!("10.12.2.7 belongs to {server} from its next connection on\n");
    assert_eq!(ran.out, expected, "{}", ran.err);
    let expected = format!(
        r#"SetPersistenceEntry {{"realServer":"{server}","client":"10.12.2.7","comment":"moved"}}"#
    );
    assert_eq!(stand.calls(), [expected]);
    let ran = stand.run("set persistence hl7 10.12.2.7 --cluster main").await;
    assert!(ran.code == 2 && ran.err.contains("is not a real server"), "{}", ran.err);
}

#[tokio::test]
async fn create_takes_all_that_the_kernel_can_do() {
    let stand = Stand::start().await;
    let ran = stand
        .run(
            "create vs syslog --cluster main --address 10.0.0.1 --port 514 --udp --layer4 snat \
             --interface eth1 --scheduler maglev-hash --hash-ports --snat-address 10.0.0.2 \
             --one-packet --idle-timeout 5m --failure-grace 0s",
        )
        .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let expected = r#"CreateVirtualService {"parent":"clusters/main","virtualServiceId":"syslog","virtualService":{"listener":{"address":"10.0.0.1","ports":["514"],"protocol":"UDP","interface":"eth1"},"layer4":{"method":"SNAT","scheduler":"MAGLEV_HASH","idleTimeout":"300s","hashPorts":true,"onePacket":true,"snatAddress":"10.0.0.2","failureGrace":"0s"}}}"#;
    assert_eq!(stand.calls(), [expected]);
    let ran = stand
        .run(
            "create vs pacs --cluster main --address 10.0.0.1 --port 104 --layer4 tunnel \
             --encapsulation gue --tunnel-port 6081 --check-through-virtual-address \
             --hold-connection",
        )
        .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let call = stand.calls().remove(0);
    for part in [
        r#""layer4":{"method":"TUNNEL","encapsulation":"GUE","tunnelPort":6081}"#,
        r#""healthCheck":{"throughVirtualAddress":true,"holdConnection":true}"#,
    ] {
        assert!(call.contains(part), "{call}");
    }
    let wrong = "create vs pacs --cluster main --address 10.0.0.1 --port 104 --layer7 --scheduler \
                 round-robin";
    let ran = stand.run(wrong).await;
    assert_eq!(ran.code, 2, "{}", ran.out);
}

#[tokio::test]
async fn arp_help_is_filled_in_for_the_service() {
    let stand = Stand::start().await;
    let text = stand.run("arp-help dicom-store --cluster main").await.out;
    for part in [
        "pacs-1: 10.12.1.110\n",
        "ip address add 10.12.1.100/32 dev lo\n",
        "gantry arp-help dicom-store --os windows",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let windows = stand.run("arp-help dicom-store --cluster main --os windows").await.out;
    assert!(windows.contains("-IPAddress 10.12.1.100"), "{windows}");
    let proxied = stand.run("arp-help hl7 --cluster main").await.out;
    assert!(proxied.contains("Nothing has to be done"), "{proxied}");
    let ran = stand.run("arp-help hl7/hl7-1 --cluster main").await;
    assert_eq!(ran.code, 2);
}
