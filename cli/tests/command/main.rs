//! The `gantry` command itself, run as operators run it, against a stand-in for the controller.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod answers;
mod history;
mod local;
mod stand;

use std::process::{Output, Stdio};

use stand::Stand;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// What a command answered.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Stand {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command
            .args(arguments)
            .env_clear()
            .env("GANTRY_CONFIG", self.dir.path().join("config.toml"))
            .env("GANTRY_CONTROLLER", format!("https://{}", self.address))
            .env("GANTRY_IDENTITY", self.identity())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `gantry` with these words.
    async fn run(&self, line: &str) -> Ran {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        self.command(&arguments).output().await.unwrap().into()
    }

    async fn run_with_input(&self, line: &str, input: &str) -> Ran {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let mut child = self.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        child.wait_with_output().await.unwrap().into()
    }
}

#[tokio::test]
async fn get_fetches_every_page() {
    let stand = Stand::start().await;
    let ran = stand.run("get vs --cluster main -o name").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let names: Vec<_> = ran.out.lines().map(|name| name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["dicom-store", "hl7", "viewer", "xds-registry"]);
    let table = stand.run("get services").await.out;
    assert!(table.starts_with("VIRTUAL SERVICE"), "{table}");
    assert!(table.contains("clusters/lab/virtualServices/old"), "which cluster: {table}");
    assert!(!table.contains('\x1b'), "no colours in a pipe");
    let one: serde_json::Value =
        serde_json::from_str(&stand.run("get rs hl7/hl7-1 --cluster main -o json").await.out)
            .unwrap();
    assert_eq!(one["endpoint"]["port"], 2575);
}

#[tokio::test]
async fn short_names_need_a_cluster_when_there_are_several() {
    let stand = Stand::start().await;
    let ran = stand.run("get vs hl7").await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "error: which cluster? there are main, lab: give --cluster\n");
    assert_eq!(stand.run("get vs clusters/main/virtualServices/hl7").await.code, 0);
}

#[tokio::test]
async fn create_sends_what_was_typed() {
    let stand = Stand::start().await;
    let ran = stand
        .run(
            "create vs pacs --cluster main --address 10.0.0.1 --port 104,11112 --layer4 dr \
             --persistence 1h --check dicom-echo:PACS --server a=10.0.0.2,weight=50",
        )
        .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, "created clusters/main/virtualServices/pacs with 1 real server\n");
    let expected = r#"CreateVirtualService {"parent":"clusters/main","virtualServiceId":"pacs","virtualService":{"listener":{"address":"10.0.0.1","ports":["104","11112"]},"layer4":{"method":"DR"},"persistence":{"timeout":"3600s"},"healthCheck":{"dicomEcho":{"calledAeTitle":"PACS"}}},"realServers":[{"name":"a","endpoint":{"address":"10.0.0.2"},"weight":50}]}"#;
    assert_eq!(stand.calls(), [expected]);
}

#[tokio::test]
async fn create_reads_documents_of_both_kinds() {
    let stand = Stand::start().await;
    let alone = "name: pacs\nlistener: {address: 10.0.0.1, ports: [104]}\nlayer7: {}\n";
    let nested = "virtualService: {name: pacs, layer7: {}}\nrealServers: [{name: a}]\n";
    for document in [alone, nested] {
        let ran = stand.run_with_input("create vs -f - --cluster main", document).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(stand.calls()[0].contains(r#""virtualServiceId":"pacs""#));
    }
    let ran = stand.run_with_input("create vs -f - --cluster main", "lisener: {}\n").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains(r#"unknown field "lisener": did you mean listener?"#), "{}", ran.err);
    let ran = stand.run_with_input("create rs hl7/x -f - --cluster main", "weight: 0\n").await;
    assert_eq!(ran.out, "created clusters/main/virtualServices/hl7/realServers/x\n");
}

#[tokio::test]
async fn refusals_name_every_field() {
    let stand = Stand::start().await;
    let ran =
        stand.run("create vs wrong --cluster main --address 10.0.0.1 --port 1 --layer7").await;
    assert_eq!(ran.code, 1);
    let expected = "error: refused, nothing was changed:\n  \
                    virtual_service.listener.ports[0]: no port\n  \
                    real_servers[0].weight: too much\n";
    assert_eq!(ran.err, expected);
}

#[tokio::test]
async fn a_wrong_name_is_answered_with_the_nearest() {
    let stand = Stand::start().await;
    let ran = stand.run("describe dicom-stor --cluster main").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.ends_with("\n  did you mean dicom-store?\n"), "{}", ran.err);
    let ran = stand.run("describe hl7/hl7-9 --cluster main").await;
    assert!(ran.err.ends_with("\n  there are hl7-1, hl7-2\n"), "{}", ran.err);
}

#[tokio::test]
async fn set_changes_only_what_is_named() {
    let stand = Stand::start().await;
    let ran = stand.run("set hl7/hl7-1 weight=0 endpoint.port=2576 --cluster main").await;
    let server = "clusters/main/virtualServices/hl7/realServers/hl7-1";
    assert_eq!(ran.out, format!("changed weight, endpoint.port of {server}\n"), "{}", ran.err);
    let expected = format!(
        r#"UpdateRealServer {{"realServer":{{"name":"{server}","endpoint":{{"port":2576}},"weight":0}},"updateMask":"weight,endpoint.port"}}"#
    );
    assert_eq!(stand.calls(), [expected]);
}

#[tokio::test]
async fn whoever_may_not_is_told_as_whom_they_called() {
    let stand = Stand::start().await;
    let ran = stand.run("delete hl7/hl7-1 --cluster main -m gone").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("viewers change nothing\n  called as users/anna"), "{}", ran.err);
    assert!(stand.calls()[0].contains(r#""comment":"gone""#));
}

#[tokio::test]
async fn a_drain_waits_until_nothing_is_open() {
    let stand = Stand::start().await;
    let ran = stand.run("drain dicom-store/pacs-3 --cluster main --halt-after 10m --wait").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let expected = "draining dicom-store/pacs-3, 3 connections open\n2 connections\n1 connection\n\
                    no connection is left\n";
    assert_eq!(ran.out, expected);
    assert!(stand.calls()[0].contains(r#""haltAfter":"600s""#));
}

#[tokio::test]
async fn an_export_can_be_applied() {
    let stand = Stand::start().await;
    let exported = stand.run("export main").await;
    assert!(exported.out.starts_with("# clusters/main, etag 7:"), "{}", exported.out);
    assert!(!exported.out.contains("status"), "{}", exported.out);
    let ran = stand.run_with_input("apply -f - --base 7 -m why --dry-run", &exported.out).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let expected = "~ hl7  listener\n0 would be created, 1 would be changed, 0 would be deleted \
                    (etag 8)\n";
    assert_eq!(ran.out, expected);
    let call = &stand.calls()[0];
    let ends = r#""baseEtag":"7","comment":"why","validateOnly":true}"#;
    assert!(call.contains(r#""name":"clusters/main""#) && call.ends_with(ends), "{call}");
    let elsewhere = stand.run_with_input("apply -f - --cluster lab", &exported.out).await;
    assert_eq!(elsewhere.code, 0, "{}", elsewhere.err);
    assert!(stand.calls()[0].contains(r#""name":"clusters/lab""#));
}

#[tokio::test]
async fn the_overview_is_that_of_the_golden_file() {
    let stand = Stand::start().await;
    let ran = stand.run("overview").await;
    assert_eq!(ran.out, include_str!("../golden/overview-piped.txt"));
}

#[tokio::test]
async fn a_watched_overview_survives_the_controller() {
    let mut stand = Stand::start().await;
    let mut child = stand.command(&["overview", "--watch"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next_overview = async || loop {
        let line = out.next_line().await.unwrap().expect("it went on");
        if line.starts_with("CLUSTER lab") {
            return;
        }
    };
    next_overview().await;
    stand.stop();
    let complaint = err.next_line().await.unwrap().unwrap();
    assert!(complaint.ends_with("does not answer, trying again"), "{complaint}");
    stand.restart().await;
    next_overview().await;
}

#[tokio::test]
async fn events_are_shown_in_order_and_followed_across_a_restart() {
    let mut stand = Stand::start().await;
    let ran = stand.run("events -n 3").await;
    let messages: Vec<_> = ran.out.lines().map(|line| line.contains("event ")).collect();
    assert_eq!(messages.len(), 3, "{}", ran.out);
    assert!(ran.out.contains("event 3") && ran.out.trim_end().ends_with("(users/anna)"));

    let mut child = stand.command(&["events", "-n", "0", "-f", "-o", "json"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next_name = async || {
        let line = out.next_line().await.unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(next_name().await, "events/6");
    stand.stop();
    stand.restart().await;
    assert_eq!(next_name().await, "events/7", "none is lost and none is repeated");
}

#[tokio::test]
async fn an_invitation_says_what_to_type() {
    let stand = Stand::start().await;
    let ran = stand.run("invite main/lb9 --ttl 2h").await;
    let line = format!(
        "gantry join --controller https://{} --token gantry1.abc.def --dir /var/lib/gantry/identity",
        stand.address
    );
    assert!(ran.out.contains(&line), "{}{}", ran.out, ran.err);
    let expected =
        r#"InviteAppliance {"parent":"clusters/main","applianceId":"lb9","ttl":"7200s"}"#;
    assert_eq!(stand.calls(), [expected]);
}
