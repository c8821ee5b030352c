//! Certificates that live for seconds: they renew themselves, and nobody notices.

use agent_pb::agent_identity::Kind;
use agent_pb::agent_service_client::AgentServiceClient;
use agent_pb::enrollment_service_client::EnrollmentServiceClient;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::{self, Identity};
use gantry_runtime::{clock, join, rpc};
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{greeting_check, layer7, server};
use gantry_tests::{Site, eventually};
use tonic::{Code, Status, Streaming};

const LB1: &str = "clusters/main/appliances/lb1";

/// What the appliance's files hold now.
fn held(site: &Site) -> Identity {
    Identity::load(&site.identity_of("lb1")).unwrap()
}

/// The agents that are connected, as an operator who calls anew sees them.
async fn agents(site: &mut Site) -> Option<Vec<pb::AgentStatus>> {
    site.call_anew();
    let overview = site.observe().get_overview(pb::GetOverviewRequest::default()).await.ok()?;
    let appliances = overview.into_inner().appliances;
    let agents = appliances.into_iter().flat_map(|appliance| appliance.agents);
    Some(agents.filter(|agent| agent.connected && agent.current).collect())
}

/// Waits until both agents show the certificate that is in the files, another one than `before`.
async fn shown_anew(site: &mut Site, before: &Identity) -> Identity {
    eventually("both agents show the newest certificate", async || {
        let newest = held(site);
        let until = newest.validity()?.until.as_second();
        let agents = agents(site).await?;
        let new = |agent: &&pb::AgentStatus| {
            agent.certificate_expire_time.is_some_and(|time| time.seconds == until)
        };
        (newest != *before && agents.iter().filter(new).count() == 2).then_some(newest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_certificates_renew_themselves_and_nobody_notices() {
    let mut site = Site::start_with(&["--certificate-lifetime", "16s"]).await;
    let backend = Backend::start("one", site.block.socket(20, 8000)).await;
    let listen = site.block.socket(10, 8000);
    let service =
        pb::VirtualService { health_check: Some(greeting_check("one")), ..layer7(listen) };
    site.create("web", service, vec![server("one", backend.address)]).await;
    site.up("web").await;
    let mut client = Client::connect(listen).await.unwrap();
    let first = held(&site);
    let second = shown_anew(&mut site, &first).await;
    client.echoes().await.unwrap();
    let third = shown_anew(&mut site, &second).await;
    client.echoes().await.unwrap();
    assert!(first.key == third.key, "the appliance keeps its key");
    assert!(
        first.validity().unwrap().until < clock::wall(),
        "the first would not be good any more"
    );
    // What is configured now arrives, and the checks never stopped.
    let request = pb::HaltRealServerRequest {
        name: "clusters/main/virtualServices/web/realServers/one".to_owned(),
        ..Default::default()
    };
    site.call_anew();
    site.balancer().halt_real_server(request).await.unwrap();
    assert!(client.ends().await, "the agent has heard of it");
    site.call_anew();
    let events = site.events("").await;
    let count = |kind: &str| events.iter().filter(|event| event.r#type == kind).count();
    assert_eq!(count("REAL_SERVER_FAILED"), 0);
    let renewals = events.iter().filter(|event| event.subject == LB1);
    let renewals = renewals.filter(|event| event.r#type == "CERTIFICATE_RENEWED").count();
    assert!((2..=6).contains(&renewals), "one renewal for both agents, not {renewals}");
    for agent in [site.healthd.as_ref().unwrap(), site.agent_l7.as_ref().unwrap()] {
        assert!(!agent.log().contains("no controller"), "{}", agent.log());
        assert!(!agent.log().contains("was not renewed"), "{}", agent.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_the_controller_and_its_first_operator_renew_themselves() {
    let site = Site::controller_with(&["--certificate-lifetime", "8s"]).await;
    let first = Identity::load(&site.operator()).unwrap();
    let end = first.validity().unwrap().until;
    eventually("the first certificates have expired", async || (end < clock::wall()).then_some(()))
        .await;
    site.controller.says(&["renewed the controller's own certificate"]).await;
    // Had the controller's not been renewed, nobody could connect.
    site.gantry(&["overview"]).await.output();
    let renewed = Identity::load(&site.operator()).unwrap();
    assert!(renewed.key == first.key && renewed.certificate != first.certificate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_the_command_renews_its_own_certificate() {
    let site = Site::controller_with(&["--certificate-lifetime", "12s"]).await;
    let mine = site.folder("mine");
    let copy = |name: &str| std::fs::copy(site.operator().join(name), mine.join(name)).unwrap();
    let _sizes = ["ca.pem", "certificate.pem", "key.pem"].map(copy);
    let gantry = async |arguments: &[&str]| {
        let caller = ["--controller", &site.url, "--identity", mine.to_str().unwrap()];
        let path = gantry_tests::process::binary("gantry");
        gantry_tests::process::run(&path, arguments.iter().chain(&caller), site.dir()).await
    };
    let said = gantry(&["renew"]).await.output();
    assert!(said.contains("renewed users/admin in "), "{said}");
    let asked = Identity::load(&mine).unwrap();
    gantry(&["overview"]).await.output();
    assert_eq!(Identity::load(&mine).unwrap(), asked, "it was not due");
    let due = asked.validity().unwrap().renew_time(0.0);
    eventually("it is due", async || (due <= clock::wall()).then_some(())).await;
    gantry(&["overview"]).await.output();
    let renewed = Identity::load(&mine).unwrap();
    assert!(renewed != asked && renewed.key == asked.key, "any command renews it then");
    let end = renewed.validity().unwrap().until;
    let second = std::time::Duration::from_secs(1);
    eventually("it has expired", async || (end + second < clock::wall()).then_some(())).await;
    let refused = gantry(&["overview"]).await;
    assert_eq!(refused.status.code(), Some(3));
    let words = "an operator needs a new identity from whoever runs the controller";
    assert!(
        refused.err.contains("this certificate has expired") && refused.err.contains(words),
        "{}",
        refused.err
    );
}

async fn watch(
    site: &Site,
    who: &Identity,
) -> Result<Streaming<agent_pb::WatchConfigResponse>, Status> {
    let channel = rpc::connect(&site.url, who).unwrap();
    let agent = agent_pb::AgentIdentity {
        appliance: LB1.to_owned(),
        kind: Kind::L7.into(),
        ..Default::default()
    };
    let request = agent_pb::WatchConfigRequest { agent: Some(agent), ..Default::default() };
    Ok(AgentServiceClient::new(channel).watch_config(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_open_streams_end_with_their_certificate() {
    let site = Site::controller_with(&["--certificate-lifetime", "5s"]).await;
    join::join(&site.url, &site.invite("lb1").await, &site.identity_of("lb1")).await.unwrap();
    let lb1 = held(&site);
    let mut stream = watch(&site, &lb1).await.unwrap();
    stream.message().await.unwrap().expect("a snapshot");
    let ended = gantry_tests::wait::soon("the stream ends", stream.message()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(lb1.validity().unwrap().until <= clock::wall());
    site.controller.says(&["connection ended", LB1, "its certificate has expired"]).await;
    let refused = watch(&site, &lb1).await.unwrap_err();
    let why = rpc::why(&refused);
    assert!(why.contains("this certificate has expired") && why.contains("gantry join"), "{why}");
}

async fn renew(
    site: &Site,
    who: &Identity,
    request: String,
) -> Result<agent_pb::RenewResponse, Status> {
    let channel = rpc::connect(&site.url, who).unwrap();
    let request = agent_pb::RenewRequest { certificate_request: request };
    Ok(EnrollmentServiceClient::new(channel).renew(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_renewal_is_for_the_same_key_of_an_appliance_that_is_known() {
    let site = Site::start().await;
    let dir = site.identity_of("lb1");
    let lb1 = held(&site);
    let (_, other_key) = identity::new_key().unwrap();
    let refused = renew(&site, &lb1, other_key).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("certificate_request: is not over the key"), "{refused}");
    let answer = renew(&site, &lb1, lb1.request(&dir).unwrap()).await.unwrap();
    assert_eq!(identity::name_in(&answer.certificate).as_deref(), Some(LB1));
    // A removed appliance gets nothing, and the streams of all its agents end.
    let request = pb::DeleteApplianceRequest { name: LB1.to_owned(), ..Default::default() };
    site.fleet().delete_appliance(request).await.unwrap();
    let refused = renew(&site, &lb1, lb1.request(&dir).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let words = "clusters/main/appliances/lb1 has been removed";
    assert!(refused.message().contains(words), "{refused}");
    site.controller.says(&["renewal refused", words]).await;
    for agent in [site.healthd.as_ref().unwrap(), site.agent_l7.as_ref().unwrap()] {
        agent.says(&["PermissionDenied", words]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_a_renewal_that_does_not_work_is_told_once_and_tried_again() {
    let mut site = Site::start_with(&["--certificate-lifetime", "20s"]).await;
    let (dir, first) = (site.identity_of("lb1"), held(&site));
    // Nobody can write the files while these folders are in the way.
    let obstacles = ["ca.new", "certificate.new"].map(|name| dir.join(name));
    for obstacle in &obstacles {
        std::fs::create_dir(obstacle).unwrap();
    }
    let agent = site.agent_l7.as_ref().unwrap();
    let words = ["the certificate was not renewed", "cannot be written"];
    agent.says(&words).await;
    eventually("it was tried again and again", async || {
        (site.controller.log().matches("certificate renewed").count() >= 4).then_some(())
    })
    .await;
    let log = agent.log();
    let told = log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(told, 1, "{log}");
    assert_eq!(held(&site), first);
    for obstacle in &obstacles {
        std::fs::remove_dir(obstacle).unwrap();
    }
    shown_anew(&mut site, &first).await;
}
