//! Plans, revisions, the way back, and waiting for what was changed.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use crate::stand::Stand;

#[tokio::test]
async fn a_plan_shows_values_and_cuts_and_what_to_type() {
    let stand = Stand::start().await;
    let exported = stand.run("export main").await.out;
    let file = stand.dir.path().join("my site.yaml");
    std::fs::write(&file, exported).unwrap();
    let file = file.to_str().unwrap();
    let planned = stand.command(&["plan", "-f", file]).output().await.unwrap();
    let expected = format!(
        "~ hl7/hl7-1  weight: 100 -> 50\n- hl7/hl7-2\n    cuts 3 connections: the real server is \
         removed\n\n0 would be created, 1 would be changed, 1 would be deleted\n3 open connections \
         end\napply it with:  gantry apply -f '{file}' --base 7\n"
    );
    assert_eq!(String::from_utf8(planned.stdout).unwrap(), expected);
    assert!(stand.calls()[0].contains(r#"{"config":{"name":"clusters/main","services":"#));
    let json = stand.command(&["plan", "-f", file, "-o", "json"]).output().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["cutConnections"], "3");
}

#[tokio::test]
async fn history_is_listed_page_by_page_and_one_revision_whole() {
    let stand = Stand::start().await;
    let ran = stand.run("history -n 3").await;
    let lines: Vec<Vec<&str>> =
        ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected: [Vec<&str>; 4] = [
        vec!["REVISION", "WHEN", "WHO", "CHANGES", "WHY"],
        vec!["1.5", "2026-09-21", "14:13:25Z", "anna", "5", "why", "5"],
        vec!["1.4", "2026-09-21", "14:13:24Z", "anna", "4", "why", "4"],
        vec!["1.3", "2026-09-21", "14:13:23Z", "anna", "3", "why", "3"],
    ];
    assert_eq!(lines, expected);
    assert_eq!(stand.calls().len(), 2, "two pages");

    stand.run("history main -n 1").await;
    let expected = r#"ListRevisions {"parent":"clusters/main","pageSize":1}"#;
    assert_eq!(stand.calls(), [expected]);

    let ran = stand.run("history 4").await;
    let expected = "Revision  1.4\nWhen      2026-09-21 14:13:24Z\nWho       users/anna\n\
                    Why       why 4\n\n~ hl7/hl7-1  weight: 100 -> 50\n";
    assert_eq!(ran.out, expected);
    assert_eq!(stand.calls(), [r#"GetRevision {"name":"revisions/4"}"#]);
}

#[tokio::test]
async fn two_revisions_are_compared() {
    let stand = Stand::start().await;
    let ran = stand.run("diff 3 --cluster main").await;
    let expected =
        "from 1.3 to 1.5\n~ hl7/hl7-1  weight: 100 -> 50\n0 created, 1 changed, 0 deleted\n";
    assert_eq!(ran.out, expected);
    assert_eq!(stand.calls(), [r#"DiffRevisions {"parent":"clusters/main","from":"3"}"#]);
}

#[tokio::test]
async fn a_rollback_is_shown_and_made() {
    let stand = Stand::start().await;
    let shown = stand.run("rollback 3 --dry-run --cluster main").await;
    let expected = "~ hl7/hl7-1  weight: 100 -> 50\n\n0 would be created, 1 would be changed, 0 \
                    would be deleted\nno open connection ends\n";
    assert_eq!(shown.out, expected);
    let made = stand.run("rollback 3 --cluster main -m bad --base 8").await;
    let expected = "~ hl7/hl7-1  weight: 100 -> 50\n0 created, 1 changed, 0 deleted (revision 1.9, \
                    etag 9)\n";
    assert_eq!(made.out, expected);
    let call =
        |rest: &str| format!(r#"RollbackConfig {{"name":"clusters/main","revision":"3",{rest}}}"#);
    let expected = [call(r#""validateOnly":true"#), call(r#""baseEtag":"8","comment":"bad""#)];
    assert_eq!(stand.calls(), expected);
}

#[tokio::test]
async fn an_export_of_a_revision_says_which_one() {
    let stand = Stand::start().await;
    let ran = stand.run("export main --revision 3").await;
    assert!(ran.out.starts_with("# clusters/main as it was at revision 3\n"), "{}", ran.out);
    let ran = stand.run("export main --revision 404").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: there is no revision revisions/1.404\n"));
}

#[tokio::test]
async fn who_waits_is_told_who_does_not_run_it() {
    let stand = Stand::start().await;
    let exported = stand.run("export main").await.out;
    let ran = stand.run_with_input("apply -f - --wait=0s", &exported).await;
    assert_eq!(ran.code, 1);
    let expected = "~ hl7  listener\n0 created, 1 changed, 0 deleted (etag 8)\n\
                    lb1 agent-l4: in force\n\
                    lb1 agent-l7: in force, but for 1 virtual service\n\
                    lb1 healthd: in force\n\
                    lb2 agent-l7: still at revision 1.117\n\
                    lb2 healthd: not connected, last heard 2026-03-02 07:57:00Z\n";
    assert_eq!(ran.out, expected);
    let expected = "error: not in force everywhere after 0ms\n  \
                    lb2 agent-l7: still at revision 1.117\n  \
                    lb2 healthd: not connected, last heard 2026-03-02 07:57:00Z; it takes it when \
                    it is back\n";
    assert_eq!(ran.err, expected);
}

/// It takes the connection and then says nothing, not even who it is.
#[tokio::test]
async fn a_controller_that_is_stuck_is_given_up() {
    let stand = Stand::start().await;
    let stuck = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", stuck.local_addr().unwrap());
    let ran = stand.run(&format!("get vs --timeout 300ms --controller {url}")).await;
    assert_eq!(ran.code, 3);
    let expected = format!("error: the controller at {url} has not answered for 300ms\n");
    assert!(ran.err.starts_with(&expected), "{}", ran.err);
}
