//! One CA takes the place of another under traffic, whoever dies meanwhile.

use agent_pb::agent_identity::Kind;
use agent_pb::agent_service_client::AgentServiceClient;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use gantry_tests::backend::{Backend, Client};
use gantry_tests::process::{Ran, binary, run};
use gantry_tests::services::{greeting_check, layer7, server};
use gantry_tests::{Site, eventually};
use pb::ca_certificate::State;
use tonic::Code;

const LB1: &str = "clusters/main/appliances/lb1";
const LB2: &str = "clusters/main/appliances/lb2";

async fn authority(site: &Site) -> pb::Authority {
    site.authority().get_authority(pb::GetAuthorityRequest {}).await.unwrap().into_inner()
}

fn states(authority: &pb::Authority) -> Vec<State> {
    authority.certificates.iter().map(pb::CaCertificate::state).collect()
}

async fn nobody_waits(site: &Site) -> pb::Authority {
    eventually("every appliance shows a certificate of the new CA", async || {
        let authority = authority(site).await;
        authority.waiting_for.is_empty().then_some(authority)
    })
    .await
}

/// An operator with a copy of the first one's files.
fn copied(site: &Site, name: &str) -> std::path::PathBuf {
    let folder = site.folder(name);
    for file in ["ca.pem", "certificate.pem", "key.pem"] {
        std::fs::copy(site.operator().join(file), folder.join(file)).unwrap();
    }
    folder
}

async fn gantry(site: &Site, identity: &std::path::Path, arguments: &[&str]) -> Ran {
    let caller = ["--controller", &site.url, "--identity", identity.to_str().unwrap()];
    run(&binary("gantry"), arguments.iter().chain(&caller), site.dir()).await
}

/// A connection that has to work all the time, and its backend.
async fn traffic(site: &Site) -> (Backend, Client) {
    let backend = Backend::start("one", site.block.socket(20, 8000)).await;
    let listen = site.block.socket(10, 8000);
    let check = Some(greeting_check("one"));
    let service = pb::VirtualService { health_check: check, ..layer7(listen) };
    site.create("web", service, vec![server("one", backend.address)]).await;
    site.up("web").await;
    (backend, Client::connect(listen).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_another_ca_takes_over_under_traffic() {
    let mut site = Site::start().await;
    let (_backend, mut client) = traffic(&site).await;
    let (left_behind, renewed) = (copied(&site, "left-behind"), copied(&site, "renewed"));
    let before = authority(&site).await;
    assert_eq!(states(&before), [State::Signing]);

    let said = site.gantry(&["authority", "rotate", "-m", "drill"]).await;
    assert!(said.err.contains("a new CA signs from now on"), "{}", said.err);
    let said = said.output();
    assert!(said.contains("signing") && said.contains("retiring"), "{said}");
    let event = site.event("authority", "AUTHORITY_ROTATED").await;
    assert_eq!((event.actor.as_str(), event.comment.as_str()), ("users/admin", "drill"));
    let again = site.gantry(&["authority", "rotate"]).await;
    assert!(again.err.contains("the CA is being replaced already"), "{}", again.err);
    // Both agents end up on the new CA by themselves, without a restart.
    let both = nobody_waits(&site).await;
    assert_eq!(states(&both), [State::Signing, State::Retiring]);
    assert_eq!(both.certificates[1].fingerprint, before.certificates[0].fingerprint);
    client.echoes().await.unwrap();
    assert_eq!(
        site.events(LB1).await.iter().filter(|it| it.r#type == "CERTIFICATE_RENEWED").count(),
        1
    );
    // An appliance may join meanwhile, with a token that names the CA shown.
    join::join(&site.url, &site.invite("lb2").await, &site.identity_of("lb2")).await.unwrap();
    let lb2 = std::fs::read_to_string(site.identity_of("lb2").join("ca.pem")).unwrap();
    assert_eq!(lb2.matches("BEGIN CERTIFICATE").count(), 2);
    // It has not shown its certificate yet, and nobody retires anything under its feet.
    let refused = gantry(&site, &site.operator(), &["authority", "retire"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.err.contains(LB2) && !refused.err.contains(LB1), "{}", refused.err);
    let request = pb::DeleteApplianceRequest { name: LB2.to_owned(), ..Default::default() };
    site.fleet().delete_appliance(request).await.unwrap();
    // Nor do operators lock themselves out.
    let refused = gantry(&site, &left_behind, &["authority", "retire"]).await;
    assert!(refused.err.contains("renew it first with `gantry renew`"), "{}", refused.err);
    gantry(&site, &renewed, &["renew"]).await.output();

    site.gantry(&["authority", "retire", "-m", "drill over"]).await.output();
    site.controller.says(&["connection ended", "the CA of its certificate was retired"]).await;
    site.call_anew();
    let after = authority(&site).await;
    assert_eq!(states(&after), [State::Signing]);
    assert_eq!(after.certificates[0].fingerprint, both.certificates[0].fingerprint);
    site.event("authority", "AUTHORITY_RETIRED").await;
    site.agents_report().await;
    client.echoes().await.unwrap();
    gantry(&site, &renewed, &["overview"]).await.output();
    let refused = gantry(&site, &left_behind, &["overview"]).await;
    assert_eq!(refused.status.code(), Some(3));
    let words = "an operator needs a new identity from whoever runs the controller";
    assert!(refused.err.contains(words), "{}", refused.err);
    // The agents stop trusting the old one, too.
    eventually("the appliance trusts only the new CA", async || {
        let ca = std::fs::read_to_string(site.identity_of("lb1").join("ca.pem")).unwrap();
        (ca == after.certificates[0].pem).then_some(())
    })
    .await;
    site.agents_report().await;
    let name = "clusters/main/virtualServices/web/realServers/one".to_owned();
    let request = pb::HaltRealServerRequest { name, ..Default::default() };
    site.balancer().halt_real_server(request).await.unwrap();
    assert!(client.ends().await, "what is configured under the new CA arrives");
    let events = site.events("").await;
    assert!(!events.iter().any(|event| event.r#type == "REAL_SERVER_FAILED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_a_replacement_survives_the_death_of_everybody() {
    let mut site = Site::start().await;
    let (_backend, mut client) = traffic(&site).await;
    site.agent_l7.as_ref().unwrap().freeze();
    site.authority().rotate_authority(pb::RotateAuthorityRequest::default()).await.unwrap();
    let signing = authority(&site).await.certificates[0].fingerprint.clone();
    site.restart_controller_with("controller-again", &[]).await;
    // One agent of the appliance sleeps on with its old certificate, or is not heard of at all.
    let again = authority(&site).await;
    assert_eq!(states(&again), [State::Signing, State::Retiring]);
    assert_eq!(again.certificates[0].fingerprint, signing);
    site.agent_l7.as_ref().unwrap().thaw();
    nobody_waits(&site).await;
    client.echoes().await.unwrap();
    site.controller.kill();
    site.controller.start_again();
    site.agents_report().await;
    nobody_waits(&site).await;
    site.call_anew();
    let request = pb::RetireAuthorityRequest::default();
    site.authority().retire_authority(request).await.unwrap();
    site.restart_controller_with("controller-after", &[]).await;
    let after = authority(&site).await;
    assert_eq!(
        (states(&after), &after.certificates[0].fingerprint),
        (vec![State::Signing], &signing)
    );
    site.agents_report().await;
    client.echoes().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_who_slept_through_a_replacement_is_told_to_join_again() {
    let mut site = Site::start().await;
    let (_backend, mut client) = traffic(&site).await;
    let slept = Identity::load(&site.identity_of("lb1")).unwrap();
    let channel = rpc::connect(&site.url, &slept).unwrap();
    let appliance = LB1.to_owned();
    let agent = agent_pb::AgentIdentity { appliance, kind: Kind::L4.into(), ..Default::default() };
    let request = agent_pb::WatchConfigRequest { agent: Some(agent), ..Default::default() };
    let mut stream =
        AgentServiceClient::new(channel).watch_config(request).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("a snapshot");
    let (agent, checks) = (site.agent_l7.as_mut().unwrap(), site.healthd.as_mut().unwrap());
    checks.kill();
    agent.freeze();
    site.authority().rotate_authority(pb::RotateAuthorityRequest::default()).await.unwrap();
    site.call_anew();
    let mut retire = pb::RetireAuthorityRequest::default();
    let refused = site.authority().retire_authority(retire.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(LB1), "{refused}");
    retire.force = true;
    site.authority().retire_authority(retire).await.unwrap();
    let ended = gantry_tests::wait::soon("the open stream ends", stream.message()).await;
    assert!(ended.is_err(), "{ended:?}");
    let agent = site.agent_l7.as_ref().unwrap();
    agent.thaw();
    let words =
        "its CA was replaced while this one was away, and then an appliance has to join again";
    agent.says(&["no controller", words]).await;
    client.echoes().await.unwrap();
    // Joining into the same folder is all: a running agent finds the files.
    site.start_healthd();
    join::join(&site.url, &site.invite("lb1").await, &site.identity_of("lb1")).await.unwrap();
    site.agents_report().await;
    client.echoes().await.unwrap();
}
