//! Revisions: what was, what differs, and the way back.

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{server_name, service_name};
use pb::change::Action;
use pb::real_server::AdminState;
use tonic::Code;

async fn export(site: &Site, revision: &str) -> pb::Config {
    let request = pb::ExportConfigRequest { revision: revision.to_owned(), ..Default::default() };
    site.config().export_config(request).await.unwrap().into_inner()
}

async fn rollback(
    site: &Site,
    revision: &str,
) -> Result<pb::RollbackConfigResponse, tonic::Status> {
    let (revision, comment) = (revision.to_owned(), "it was better".to_owned());
    let request = pb::RollbackConfigRequest { revision, comment, ..Default::default() };
    site.config().rollback_config(request).await.map(tonic::Response::into_inner)
}

async fn diff(site: &Site, from: &str, to: &str) -> pb::DiffRevisionsResponse {
    let (from, to) = (from.to_owned(), to.to_owned());
    let request = pb::DiffRevisionsRequest { from, to, ..Default::default() };
    site.config().diff_revisions(request).await.unwrap().into_inner()
}

async fn list(site: &Site, filter: &str, page_size: i32) -> Vec<pb::Revision> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = filter.to_owned();
        let request =
            pb::ListRevisionsRequest { filter, page_size, page_token, ..Default::default() };
        let page = site.config().list_revisions(request).await.unwrap().into_inner();
        all.extend(page.revisions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn weigh(site: &Site, service: &str, name: &str, weight: i32, comment: &str) {
    let real_server = Some(pb::RealServer {
        name: server_name(service, name),
        weight: Some(weight),
        ..Default::default()
    });
    let comment = comment.to_owned();
    let request = pb::UpdateRealServerRequest { real_server, comment, ..Default::default() };
    site.balancer().update_real_server(request).await.unwrap();
}

/// Revision 1 makes the cluster, 2 "a" with two servers, 3 "b"; 4 and 5 change weights.
async fn grown() -> Site {
    let site = Site::controller_only().await;
    let servers = |last: u8| {
        [("one", 80), ("two", 81)]
            .map(|(id, port)| server(id, site.block.socket(last, port)))
            .to_vec()
    };
    site.create("a", layer7(site.block.socket(10, 80)), servers(20)).await;
    site.create("b", layer7(site.block.socket(11, 80)), servers(21)).await;
    weigh(&site, "a", "one", 50, "half").await;
    weigh(&site, "a", "one", 25, "less").await;
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_every_revision_says_who_when_why_and_what() {
    let site = grown().await;
    let all = list(&site, "", 2).await;
    let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [5, 4, 3, 2, 1].map(|number| format!("revisions/1.{number}")));
    let counts: Vec<_> = all.iter().map(|it| it.change_count).collect();
    assert_eq!(counts, [1, 1, 3, 3, 1]);
    assert!(all.iter().all(|it| it.actor == "users/admin" && it.time.is_some()));
    assert!(all.iter().all(|it| it.changes.is_empty()), "only GetRevision tells them");

    let found = async |filter: &str| -> Vec<String> {
        let found = list(&site, filter, 1).await;
        found.into_iter().map(|it| it.name.replace("revisions/", "")).collect()
    };
    assert_eq!(found("comment : HALF").await, ["1.4"]);
    assert_eq!(found("change_count > 1 AND actor = users/admin").await, ["1.3", "1.2"]);
    assert_eq!(found("actor = users/nobody").await, [""; 0]);
    assert_eq!(found("time < 2020-01-31T08:00:00Z").await, [""; 0]);
    let filter = "weight = 3".to_owned();
    let request = pb::ListRevisionsRequest { filter, ..Default::default() };
    let refused = site.config().list_revisions(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("name, time, actor, comment, change_count"), "{refused}");

    let name = "revisions/1.4".to_owned();
    let whole = site.config().get_revision(pb::GetRevisionRequest { name }).await.unwrap();
    let whole = whole.into_inner();
    let [change] = &whole.changes[..] else { panic!("{whole:?}") };
    assert_eq!((change.action(), change.name.clone()), (Action::Update, server_name("a", "one")));
    let [field] = &change.field_changes[..] else { panic!("{change:?}") };
    assert_eq!((&*field.path, &*field.before, &*field.after), ("weight", "100", "50"));
    let ran = site.gantry(&["history", "4"]).await.output();
    assert!(ran.contains("~ a/one  weight: 100 -> 50\n"), "{ran}");
    let ran = site.gantry(&["history", "main", "-n", "2"]).await.output();
    assert_eq!(ran.lines().count(), 3, "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_any_two_revisions_can_be_compared() {
    let site = grown().await;
    let one = diff(&site, "2", "").await;
    assert_eq!((&*one.from, &*one.to), ("1.2", "1.5"));
    let told: Vec<_> = one.changes.iter().map(|it| (it.action(), it.name.clone())).collect();
    let expected = [
        (Action::Update, server_name("a", "one")),
        (Action::Create, service_name("b")),
        (Action::Create, server_name("b", "one")),
        (Action::Create, server_name("b", "two")),
    ];
    assert_eq!(told, expected, "two steps of one field are one difference");
    let weight = &one.changes[0].field_changes[0];
    assert_eq!((&*weight.before, &*weight.after), ("100", "25"));
    assert_eq!(diff(&site, "1.5", "1.2").await, one, "in either order");
    weigh(&site, "a", "one", 100, "whole again").await;
    assert!(diff(&site, "2", "6").await.changes.iter().all(|it| it.action() == Action::Create));
    assert!(diff(&site, "6", "").await.changes.is_empty());
    let ran = site.gantry(&["diff", "4", "5"]).await.output();
    let expected = "from 1.4 to 1.5\n~ a/one  weight: 50 -> 25\n0 created, 1 changed, 0 deleted\n";
    assert_eq!(ran, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_rollback_makes_the_configuration_what_it_was() {
    let site = grown().await;
    let (then, now) = (export(&site, "1.3").await, export(&site, "").await);
    assert_eq!(then.etag, "3");
    let name = service_name("b");
    let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
    site.balancer().delete_virtual_service(request).await.unwrap();
    assert_eq!(export(&site, "5").await, now, "as it was, whatever happens later");

    let revision = "3".to_owned();
    let dry = pb::RollbackConfigRequest { revision, validate_only: true, ..Default::default() };
    let dry = site.config().rollback_config(dry).await.unwrap().into_inner();
    assert_eq!(dry.changes.len(), 4, "{dry:?}");
    assert_eq!(export(&site, "").await.services.len(), 1, "a dry run changes nothing");

    let made = rollback(&site, "3").await.unwrap();
    assert_eq!((&*made.revision, &*made.etag), ("1.7", "7"));
    assert_eq!(export(&site, "").await.services, then.services);
    let event = site.event("clusters/main", "CONFIG_ROLLED_BACK").await;
    assert_eq!(event.message, "rolled back to 1.3: 3 created, 1 changed, 0 deleted");
    assert_eq!((&*event.comment, &*event.revision), ("it was better", "1.7"));
    let again = rollback(&site, "3").await.unwrap();
    assert!(again.changes.is_empty());
    assert_eq!(again.revision, "1.7", "nothing was to be done");
    rollback(&site, "1.6").await.unwrap();
    assert_eq!(export(&site, "").await.services.len(), 1, "a rollback can be rolled back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_rollback_puts_no_server_into_service_and_takes_none_out() {
    let site = grown().await;
    let halt = |service: &str, id: &str| pb::HaltRealServerRequest {
        name: server_name(service, id),
        comment: "disk failed".to_owned(),
    };
    let online = |service: &str, id: &str| pb::OnlineRealServerRequest {
        name: server_name(service, id),
        comment: String::new(),
    };
    // At the revision gone back to, a/one is in service and a/two is not; now it is otherwise.
    site.balancer().halt_real_server(halt("a", "two")).await.unwrap();
    weigh(&site, "a", "one", 10, "to be undone").await;
    let back = "7";
    site.balancer().halt_real_server(halt("a", "one")).await.unwrap();
    site.balancer().online_real_server(online("a", "two")).await.unwrap();
    weigh(&site, "a", "one", 200, "the mistake").await;
    // And b/one was in service then, was halted, and is gone.
    site.balancer().halt_real_server(halt("b", "one")).await.unwrap();
    let name = server_name("b", "one");
    let request = pb::DeleteRealServerRequest { name, ..Default::default() };
    site.balancer().delete_real_server(request).await.unwrap();

    rollback(&site, back).await.unwrap();
    let server = async |service: &str, id: &str| {
        let request = pb::GetRealServerRequest { name: server_name(service, id) };
        site.balancer().get_real_server(request).await.unwrap().into_inner()
    };
    let one = server("a", "one").await;
    assert_eq!((one.weight, one.admin_state()), (Some(10), AdminState::Halt));
    assert_eq!(server("a", "two").await.admin_state(), AdminState::Online);
    assert_eq!(server("b", "one").await.admin_state(), AdminState::Halt, "as it was when it went");
    let then = export(&site, back).await;
    assert_eq!(
        then.services[0].real_servers[0].admin_state(),
        AdminState::Online,
        "an export tells"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_rollback_to_where_there_is_no_way_says_why() {
    let site = grown().await;
    for (revision, code, words) in [
        ("1.99", Code::InvalidArgument, "revision: 1.99 is in the future: the present one is 1.5"),
        ("2.1", Code::InvalidArgument, "revision: 2.1 is in the future"),
        ("0", Code::NotFound, "there is no revision revisions/1.0"),
        ("", Code::InvalidArgument, "revision: is required: give epoch.number, such as \"1.5\""),
        ("yesterday", Code::InvalidArgument, "revision: \"yesterday\" is not a revision"),
        ("1.-2", Code::InvalidArgument, "is not a revision"),
        ("1.2.3", Code::InvalidArgument, "is not a revision"),
        ("99999999999999999999", Code::InvalidArgument, "is not a revision"),
    ] {
        let refused = rollback(&site, revision).await.unwrap_err();
        assert_eq!(refused.code(), code, "{revision}: {refused}");
        assert!(refused.message().contains(words), "{revision}: {refused}");
    }
    let (cluster_id, cluster) = ("late".to_owned(), None);
    let request = pb::CreateClusterRequest { cluster_id, cluster, ..Default::default() };
    site.fleet().create_cluster(request).await.unwrap();
    let (name, revision) = ("clusters/late".to_owned(), "1.3".to_owned());
    let request = pb::RollbackConfigRequest { name, revision, ..Default::default() };
    let refused = site.config().rollback_config(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("did not exist yet at revision 1.3"), "{refused}");
    let (name, revision) = ("clusters/main".to_owned(), "1.3".to_owned());
    let base_etag = "4".to_owned();
    let request = pb::RollbackConfigRequest { name, revision, base_etag, ..Default::default() };
    let refused = site.config().rollback_config(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "somebody changed it meanwhile");
    for name in ["1.3", "revisions/", "revisions/x", "clusters/main"] {
        let request = pb::GetRevisionRequest { name: name.to_owned() };
        let refused = site.config().get_revision(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_history_is_kept_over_a_restart_of_the_controller() {
    let mut site = grown().await;
    let (before, then) = (list(&site, "", 0).await, export(&site, "3").await);
    site.controller.kill();
    site.controller.start_again();
    site.controller.says_times("serving", 2).await;
    assert_eq!(list(&site, "", 0).await, before);
    assert_eq!(export(&site, "3").await, then);
}
