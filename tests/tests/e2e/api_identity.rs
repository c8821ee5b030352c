//! Who is let in, as what, and what the log says of who is not.

use agent_pb::agent_identity::Kind;
use agent_pb::agent_service_client::AgentServiceClient;
use agent_pb::enrollment_service_client::EnrollmentServiceClient;
use std::error::Error;

use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::{self, Identity};
use gantry_runtime::join::{self, JoinError};
use gantry_runtime::{clock, rpc};
use gantry_tests::forge::Forge;
use gantry_tests::{Site, eventually};
use pb::observe_service_client::ObserveServiceClient;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

const LB1: &str = "clusters/main/appliances/lb1";
const LB2: &str = "clusters/main/appliances/lb2";

/// A controller with the appliances given, which have joined.
async fn with_appliances(appliances: &[&str]) -> Site {
    let site = Site::controller_only().await;
    for appliance in appliances {
        join_as(&site, appliance).await;
    }
    site
}

async fn join_as(site: &Site, appliance: &str) -> Identity {
    let token = site.invite(appliance).await;
    let dir = site.identity_of(appliance);
    join::join(&site.url, &token, &dir).await.unwrap();
    Identity::load(&dir).unwrap()
}

/// A channel without a client certificate.
fn nameless(site: &Site) -> Channel {
    let ca = std::fs::read_to_string(site.operator().join("ca.pem")).unwrap();
    let tls = ClientTlsConfig::new()
        .domain_name(identity::CONTROLLER)
        .ca_certificate(Certificate::from_pem(ca));
    Endpoint::from_shared(site.url.clone()).unwrap().tls_config(tls).unwrap().connect_lazy()
}

async fn overview(channel: Channel) -> Result<pb::Overview, Status> {
    let mut client = ObserveServiceClient::new(channel);
    Ok(client.get_overview(pb::GetOverviewRequest::default()).await?.into_inner())
}

async fn watch(
    channel: Channel,
    appliance: &str,
) -> Result<tonic::Streaming<agent_pb::WatchConfigResponse>, Status> {
    let agent = Some(agent(appliance));
    let request = agent_pb::WatchConfigRequest { agent, ..Default::default() };
    Ok(AgentServiceClient::new(channel).watch_config(request).await?.into_inner())
}

fn agent(appliance: &str) -> agent_pb::AgentIdentity {
    agent_pb::AgentIdentity {
        appliance: appliance.to_owned(),
        kind: Kind::L7.into(),
        ..Default::default()
    }
}

#[track_caller]
fn refused<T>(result: Result<T, Status>, code: Code, words: &str) -> Status {
    let Err(status) = result else { panic!("it was let in") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{:?} is not in {:?}", words, status.message());
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_of_another_authority_is_refused() {
    let site = with_appliances(&["lb1"]).await;
    let ca = std::fs::read_to_string(site.operator().join("ca.pem")).unwrap();
    // One that calls itself like the controller's own, and one that does not.
    for (authority, why) in [("Gantry CA", "BadSignature"), ("Other CA", "UnknownIssuer")] {
        for (name, folder) in [("users/admin", "operator"), (LB1, "appliance")] {
            let forged = Forge::new(authority).client(name).save(&site.folder(folder), &ca);
            let channel = rpc::connect(&site.url, &forged).unwrap();
            // Refused by TLS: no answer of the controller's, so the code is the client's own.
            let failure = overview(channel.clone()).await.unwrap_err();
            assert!(failure.source().is_some(), "{failure:?}");
            assert!(watch(channel, LB1).await.is_err());
        }
        site.controller.says(&["WARN", "TLS handshake refused", why, "peer="]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_is_needed_for_all_but_joining() {
    let site = with_appliances(&["lb1"]).await;
    let words = "a client certificate is needed";
    let status = refused(overview(nameless(&site)).await, Code::Unauthenticated, words);
    assert_eq!(status.get_details_error_info().unwrap().reason, "NO_CERTIFICATE");
    refused(watch(nameless(&site), LB1).await, Code::Unauthenticated, words);
    let line = site.controller.says(&["call refused", "without a certificate"]).await;
    assert!(line.contains("needed=\"operators\""), "{line}");
    site.controller.says(&["without a certificate", "operators and appliances"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_of_one_kind_is_no_good_for_the_other() {
    let site = with_appliances(&["lb1", "lb2"]).await;
    let appliance = Identity::load(&site.identity_of("lb1")).unwrap();
    let appliance = rpc::connect(&site.url, &appliance).unwrap();
    let words = "this is for operators, not for clusters/main/appliances/lb1";
    refused(overview(appliance.clone()).await, Code::PermissionDenied, words);
    site.controller.says(&["call refused", &format!("caller={LB1} at")]).await;
    let words = "the certificate is for clusters/main/appliances/lb1, not for \
                 clusters/main/appliances/lb2";
    refused(watch(appliance.clone(), LB2).await, Code::PermissionDenied, words);
    site.controller.says(&["agent refused", &format!("claims={LB2}/agent-l7"), words]).await;
    let words = "only an appliance's certificate is good for its agents";
    refused(watch(site.channel(), LB1).await, Code::PermissionDenied, words);
    site.controller.says(&["agent refused", "caller=users/admin at", words]).await;
    watch(appliance, LB1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_of_a_removed_appliance_is_worth_nothing() {
    let site = with_appliances(&["lb1"]).await;
    let old = Identity::load(&site.identity_of("lb1")).unwrap();
    let old = rpc::connect(&site.url, &old).unwrap();
    let mut watching = watch(old.clone(), LB1).await.unwrap();
    watching.message().await.unwrap().expect("a snapshot");
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let first = agent_pb::ReportRequest {
        sequence: 1,
        agent: Some(agent(LB1)),
        full: true,
        ..Default::default()
    };
    sender.send(first).await.unwrap();
    let mut client = AgentServiceClient::new(old.clone());
    let reports = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut reporting = client.report(reports).await.unwrap().into_inner();
    reporting.message().await.unwrap().expect("what the controller can hear");
    let request = pb::DeleteApplianceRequest { name: LB1.to_owned(), ..Default::default() };
    site.fleet().delete_appliance(request).await.unwrap();
    let words = "clusters/main/appliances/lb1 has been removed";
    refused(watching.message().await, Code::PermissionDenied, words);
    refused(reporting.message().await, Code::PermissionDenied, words);
    site.controller.says(&["ending the agent's stream", words]).await;
    refused(watch(old.clone(), LB1).await, Code::PermissionDenied, words);
    site.controller.says(&["agent refused", words]).await;
    // Invited and joined anew, the old key stays worthless.
    let new = join_as(&site, "lb1").await;
    let words = "has joined again since, with another key";
    refused(watch(old, LB1).await, Code::PermissionDenied, words);
    watch(rpc::connect(&site.url, &new).unwrap(), LB1).await.unwrap();
    drop(sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_tokens_are_good_once_and_not_for_ever() {
    let site = Site::controller_only().await;
    let token = site.invite("lb1").await;
    join::join(&site.url, &token, &site.identity_of("lb1")).await.unwrap();
    let spent = "the token for clusters/main/appliances/lb1 was spent at";
    refused(buy(&site, &token).await, Code::PermissionDenied, spent);
    site.controller.says(&["join refused", spent]).await;
    let again = join::join(&site.url, &token, &site.folder("again")).await.unwrap_err();
    assert!(matches!(&again, JoinError::Refused(why) if why.contains(spent)), "{again}");
    let unknown = format!("{}x", token);
    refused(buy(&site, &unknown).await, Code::PermissionDenied, "this token is not known");
    site.controller.says(&["join refused", "this token is not known"]).await;
    refused(buy(&site, "nonsense").await, Code::InvalidArgument, "token: is not a join token");
    let ttl = Some(gantry_tests::services::duration(std::time::Duration::from_secs(1)));
    let request =
        pb::InviteApplianceRequest { appliance_id: "lb2".into(), ttl, ..Default::default() };
    let invitation = site.fleet().invite_appliance(request).await.unwrap().into_inner();
    let expiry = invitation.expire_time.unwrap();
    eventually("the token has expired", async || {
        (clock::wall().as_second() > expiry.seconds).then_some(())
    })
    .await;
    let expired = "the token for clusters/main/appliances/lb2 expired at";
    refused(buy(&site, &invitation.token).await, Code::PermissionDenied, expired);
    site.controller.says(&["join refused", expired]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_an_appliance_knows_its_controller_by_the_token() {
    let (site, other) = (Site::controller_only().await, Site::controller_only().await);
    let token = site.invite("lb1").await;
    let dir = site.folder("misled");
    let misled = join::join(&other.url, &token, &dir).await.unwrap_err();
    assert!(matches!(misled, JoinError::OtherCa { .. }), "{misled}");
    assert!(!dir.join("key.pem").exists());
    join::join(&site.url, &token, &dir).await.expect("the token was not spent");
    let identity = Identity::load(&dir).unwrap();
    let misled = watch(rpc::connect(&other.url, &identity).unwrap(), LB1).await;
    assert!(misled.is_err(), "an agent does not talk to another authority's controller");
}

/// Joins by hand, with an ordinary request.
async fn buy(site: &Site, token: &str) -> Result<agent_pb::JoinResponse, Status> {
    let (_, request) = identity::new_key().unwrap();
    buy_with(site, token, request).await
}

async fn buy_with(
    site: &Site,
    token: &str,
    certificate_request: String,
) -> Result<agent_pb::JoinResponse, Status> {
    let request = agent_pb::JoinRequest { token: token.to_owned(), certificate_request };
    Ok(EnrollmentServiceClient::new(nameless(site)).join(request).await?.into_inner())
}

/// A request that asks to be an operator, a controller and more.
fn greedy_request(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.subject_alt_names = vec![
        SanType::URI("gantry:users/admin".try_into().unwrap()),
        SanType::DnsName("gantry-controller".try_into().unwrap()),
    ];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_says_what_the_controller_decided_whatever_was_asked_for() {
    let site = Site::controller_only().await;
    let token = site.invite("lb1").await;
    let key = KeyPair::generate().unwrap();
    let answer = buy_with(&site, &token, greedy_request(&key)).await.unwrap();
    assert_eq!(answer.appliance, LB1);
    let der = pem::parse(&answer.certificate).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(der.contents()).unwrap();
    check_certificate(&certificate);
    let asked = pem::parse(key.public_key_pem()).unwrap();
    assert_eq!(certificate.public_key().raw, asked.contents());
    let dir = site.folder("greedy");
    Identity::save(&dir, &answer.ca_certificates, &answer.certificate, &key.serialize_pem())
        .unwrap();
    let identity = Identity::load(&dir).unwrap();
    let channel = rpc::connect(&site.url, &identity).unwrap();
    refused(overview(channel.clone()).await, Code::PermissionDenied, "this is for operators");
    watch(channel, LB1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_identity_a_request_cannot_make_an_authority() {
    let site = Site::controller_only().await;
    let token = site.invite("lb1").await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let ca_true = vec![0x30, 0x03, 0x01, 0x01, 0xff];
    let extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], ca_true);
    params.custom_extensions = vec![extension];
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    match buy_with(&site, &token, request).await {
        Ok(answer) => {
            let der = pem::parse(&answer.certificate).unwrap();
            let (_, certificate) = x509_parser::parse_x509_certificate(der.contents()).unwrap();
            check_certificate(&certificate);
        }
        Err(status) => {
            refused::<()>(Err(status), Code::InvalidArgument, "certificate_request");
            buy(&site, &token).await.expect("a request that cannot be signed spends no token");
        }
    }
    let nonsense = site.invite("lb2").await;
    let answer = buy_with(&site, &nonsense, "not a request".to_owned()).await;
    refused(answer, Code::InvalidArgument, "certificate_request");
}

/// The certificate is one for the agents of lb1, and nothing else.
fn check_certificate(certificate: &X509Certificate<'_>) {
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let uri = format!("gantry:{LB1}");
    assert_eq!(names.value.general_names, [GeneralName::URI(&uri)]);
    let subject: Vec<_> =
        certificate.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(subject, ["lb1"]);
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let purpose = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(purpose.client_auth && !purpose.server_auth && !purpose.any);
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!(seconds <= 367 * 24 * 3600, "{validity:?}");
    assert!(validity.not_before.timestamp() < clock::wall().as_second());
}
