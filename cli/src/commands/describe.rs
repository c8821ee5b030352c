//! `gantry describe`: everything about one resource. What kind it is, its name tells.

use std::fmt::Write;

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;
use gantry_runtime::clock;

use super::{events, lists};
use crate::document::{self, Documented};
use crate::look::{self, Tone, Word};
use crate::names::{self, Name, Reference};
use crate::output;
use crate::overview::{finding, rejection};
use crate::session::Session;

mod associations;
mod connections;
mod messages;

const EVENTS: usize = 10;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry describe dicom           a virtual service
  gantry describe dicom/pacs-1    a real server
  gantry describe appliances/lb1
  gantry describe certificates/pacs
  gantry describe clusters/main")]
pub(crate) struct Arguments {
    /// SERVICE, SERVICE/SERVER, appliances/APPLIANCE, certificates/CERTIFICATE, clusters/CLUSTER or
    /// any whole name
    name: Reference,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let name = session.resolve(arguments.name).await?;
    let request = name.to_string();
    let mut text = match &name {
        Name::Service(_) => service(request, session).await?,
        Name::Server(_) => server(request, session).await?,
        Name::Cluster(_) => cluster(request, session).await?,
        Name::Appliance(_) => appliance(request, session).await?,
        Name::Certificate(_) => certificate(request, session).await?,
    };
    let wanted = events::Wanted { subject: &name.to_string(), filter: "" };
    let recent = events::recent(wanted, EVENTS, session).await?;
    text.push_str("\nEvents:\n");
    if recent.is_empty() {
        text.push_str("  none\n");
    }
    for event in recent {
        let _ = writeln!(text, "  {}", events::line(&event));
    }
    Ok(output::raw(text)?)
}

async fn service(name: String, session: &Session) -> Result<String> {
    let request = v1::GetVirtualServiceRequest { name: name.clone() };
    let service = session.balancer().get_virtual_service(request).await?.into_inner();
    let servers = lists::servers(session, name, "").await?;
    let now = clock::wall().as_second();
    let status = service.status.clone().unwrap_or_default();
    let mut text = header("Virtual service", &service.name, look::service_state(&service));
    field(&mut text, "Says", &status.message);
    field(&mut text, "Listens on", &look::listens_on(&service));
    field(&mut text, "Path", look::path(&service));
    let in_service = look::servers(&service);
    field(&mut text, "In service", &in_service);
    let (active, inactive) = (status.active_connections, status.inactive_connections);
    field(&mut text, "Connections", &look::with_inactive(active, inactive));
    field(&mut text, "Queue", &connections::queue(status.queue.as_ref()));
    field(&mut text, "Persistence", &connections::persistence(status.persistence.as_ref()));
    if status.reconciling {
        field(&mut text, "In force", "not everywhere yet");
    }
    field(&mut text, "Changed", &look::time(service.update_time.as_ref()));
    rejections(&mut text, &status.rejections);
    findings(&mut text, &status.findings);
    ports(&mut text, &status.ports);
    connections::ended(&mut text, &status.ended);
    http(&mut text, status.http.as_ref());
    associations::associations(&mut text, status.dicom.as_ref());
    messages::messages(&mut text, status.mllp.as_ref());
    text.push_str("\nReal servers:\n");
    for server in &servers {
        let _ = writeln!(text, "  {}", server_line(server, now));
    }
    if servers.is_empty() {
        text.push_str("  none\n");
    }
    configuration(&mut text, &configured_service(service));
    Ok(text)
}

async fn server(name: String, session: &Session) -> Result<String> {
    let request = v1::GetRealServerRequest { name: name.clone() };
    let server = session.balancer().get_real_server(request).await?.into_inner();
    let of_service = name.split("/realServers/").next().unwrap_or_default().to_owned();
    let request = v1::GetVirtualServiceRequest { name: of_service };
    let service = session.balancer().get_virtual_service(request).await?.into_inner();
    let now = clock::wall().as_second();
    let status = server.status.clone().unwrap_or_default();
    let mut text = header("Real server", &server.name, look::server_state(&server));
    let since = look::since(status.since.as_ref(), now);
    field(&mut text, "Since", &since.map_or_else(String::new, |since| format!("{since} ago")));
    let (active, inactive) = (status.active_connections, status.inactive_connections);
    field(&mut text, "Connections", &look::with_inactive(active, inactive));
    if status.persistent_clients > 0 {
        field(&mut text, "Clients kept", &status.persistent_clients.to_string());
    }
    let asked = look::since(status.last_check_time.as_ref(), now);
    let asked = asked.map_or_else(String::new, |asked| format!(" ({asked} ago)"));
    field(&mut text, "Last check", &format!("{}{asked}", status.last_check));
    field(&mut text, "Got as far as", &status.last_check_layer);
    messages::messages(&mut text, status.mllp.as_ref());
    if let Some(halt) = &server.halt_time {
        field(&mut text, "Halts at", &look::time(Some(halt)));
    }
    if let Some(service) = &service.status {
        rejections(&mut text, &service.rejections);
        findings(&mut text, &service.findings);
    }
    text.push_str("\nCheck:\n");
    let check = service.health_check.unwrap_or_default();
    indented(&mut text, &document::to_yaml(&check.to_dynamic()), "a TCP connect every 4s");
    configuration(&mut text, &configured_server(server));
    Ok(text)
}

async fn cluster(name: String, session: &Session) -> Result<String> {
    let request = v1::GetClusterRequest { name: name.clone() };
    let cluster = session.fleet().get_cluster(request).await?.into_inner();
    let appliances = lists::appliances(session, name.clone(), "").await?;
    let services = lists::services(session, name, "").await?;
    let mut text = header("Cluster", &cluster.name, Word::new("", Tone::Plain));
    field(&mut text, "Label", &cluster.display_name);
    field(&mut text, "Created", &look::time(cluster.create_time.as_ref()));
    field(&mut text, "Services", &services.len().to_string());
    text.push_str("\nAppliances:\n");
    for appliance in &appliances {
        let words = agent_words(appliance).join("   ");
        let _ = writeln!(text, "  {}   {words}", names::last(&appliance.name));
    }
    if appliances.is_empty() {
        text.push_str("  none yet: gantry invite CLUSTER/APPLIANCE\n");
    }
    Ok(text)
}

async fn appliance(name: String, session: &Session) -> Result<String> {
    let request = v1::GetApplianceRequest { name };
    let appliance = session.fleet().get_appliance(request).await?.into_inner();
    let mut text = header("Appliance", &appliance.name, Word::new("", Tone::Plain));
    field(&mut text, "Joined", &look::time(appliance.join_time.as_ref()));
    field(&mut text, "Last word", &look::time(appliance.last_seen_time.as_ref()));
    text.push_str("\nAgents:\n");
    for (agent, word) in appliance.agents.iter().zip(agent_words(&appliance)) {
        let applied = agent.apply_duration.as_ref().map(look::duration);
        let applied = applied.map_or_else(String::new, |took| format!(", applied in {took}"));
        let v1::AgentStatus { version, revision, .. } = agent;
        let _ = writeln!(text, "  {word} (version {version}, revision {revision}{applied})");
        if agent.certificate_expire_time.is_some() {
            let until = look::time(agent.certificate_expire_time.as_ref());
            let _ = writeln!(text, "    its certificate is good until {until}");
        }
    }
    if appliance.agents.is_empty() {
        text.push_str("  none has reported\n");
    }
    let found: Vec<_> = appliance.agents.iter().flat_map(|agent| &agent.findings).collect();
    findings(&mut text, found);
    appliance.agents.iter().for_each(|agent| settings(&mut text, agent));
    Ok(text)
}

async fn certificate(name: String, session: &Session) -> Result<String> {
    let request = v1::GetCertificateRequest { name };
    let certificate = session.certificates().get_certificate(request).await?.into_inner();
    let mut text = header("Certificate", &certificate.name, Word::new("", Tone::Plain));
    field(&mut text, "Subject", &certificate.subject);
    field(&mut text, "Covers", &certificate.subject_alternative_names.join(", "));
    field(&mut text, "Expires", &look::time(certificate.expire_time.as_ref()));
    field(&mut text, "Fingerprint", &certificate.fingerprint);
    field(&mut text, "Imported", &look::time(certificate.create_time.as_ref()));
    field(&mut text, "Replaced", &look::time(certificate.update_time.as_ref()));
    text.push_str("\nUsed by:\n");
    for user in &certificate.used_by {
        let _ = writeln!(text, "  {}", names::short(user));
    }
    if certificate.used_by.is_empty() {
        text.push_str("  none\n");
    }
    Ok(text)
}

fn agent_words(appliance: &v1::Appliance) -> Vec<String> {
    let now = clock::wall().as_second();
    crate::overview::agents(appliance, now).iter().map(ToString::to_string).collect()
}

fn server_line(server: &v1::RealServer, now: i64) -> String {
    let status = server.status.clone().unwrap_or_default();
    let since = look::since(status.since.as_ref(), now).unwrap_or_default();
    let mut state = look::server_state(server);
    state.text = format!("{} {since}", state.text).trim_end().to_owned();
    let line = format!(
        "{:16} {:22} w{:<4} {state:14}  {:16}  {}",
        names::last(&server.name),
        look::endpoint(server.endpoint.as_ref()),
        look::weight(server),
        look::connections(status.active_connections),
        status.last_check,
    );
    line.trim_end().to_owned()
}

fn header(kind: &str, name: &str, state: Word) -> String {
    let mut text = String::new();
    field(&mut text, kind, name);
    if !state.text.is_empty() {
        field(&mut text, "State", &state.to_string());
    }
    text
}

/// One line, unless there is nothing to say.
fn field(text: &mut String, title: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "{:16} {value}", format!("{title}:"));
    }
}

fn rejections(text: &mut String, rejections: &[v1::Rejection]) {
    if rejections.is_empty() {
        return;
    }
    text.push_str("\nNot in force, because:\n");
    for one in rejections {
        let _ = writeln!(text, "  {}", Word::new(rejection(one), Tone::Bad));
    }
}

fn findings<'a>(text: &mut String, findings: impl IntoIterator<Item = &'a v1::Finding>) {
    for (at, one) in findings.into_iter().enumerate() {
        if at == 0 {
            text.push_str("\nFound wrong:\n");
        }
        let _ = writeln!(text, "  {}", Word::new(finding(one), Tone::Warning));
    }
}

/// Traffic since the service is in force.
fn ports(text: &mut String, ports: &[v1::PortStatus]) {
    if !ports.is_empty() {
        text.push_str("\nTraffic by port:\n");
    }
    for one in ports {
        let connections = match one.connections_total {
            None => String::new(),
            Some(count) => format!("{}, ", look::connections(count)),
        };
        let (packets, bytes) = (one.received_packets_total, look::bytes(one.received_bytes_total));
        let _ = writeln!(text, "  {:12} {connections}{packets} packets, {bytes}", one.port);
    }
}

/// Requests since the agents started, and their answers.
fn http(text: &mut String, http: Option<&v1::HttpStatistics>) {
    let Some(http) = http else { return };
    let _ = writeln!(text, "\nRequests of HTTP: {}", http.requests_total);
    for (what, count) in [
        ("succeeded", http.succeeded_total),
        ("redirected", http.redirected_total),
        ("client's fault", http.client_errors_total),
        ("server's fault", http.server_errors_total),
        ("answered here", http.own_answers_total),
    ] {
        let _ = writeln!(text, "  {what:14} {count}");
    }
}

/// Kernel settings that an agent sees to, and what they were.
fn settings(text: &mut String, agent: &v1::AgentStatus) {
    if !agent.settings.is_empty() {
        let _ = writeln!(text, "\nKernel settings, by {}:", agent.agent);
    }
    for one in &agent.settings {
        let value = match one.former.as_str() {
            "" => one.value.clone(),
            former => format!("{} (was {former})", one.value),
        };
        let line = format!("  {:40} {value:14} {}", one.name, one.purpose);
        let _ = writeln!(text, "{}", line.trim_end());
        if !one.error.is_empty() {
            let v1::KernelSetting { wanted, error, .. } = one;
            let error = Word::new(format!("has to be {wanted}: {error}"), Tone::Bad);
            let _ = writeln!(text, "    {error}");
        }
    }
}

fn configuration(text: &mut String, message: &impl Documented) {
    text.push_str("\nConfiguration:\n");
    indented(text, &document::to_yaml(&message.to_dynamic()), "all as it comes");
}

fn indented(text: &mut String, yaml: &str, when_empty: &str) {
    if yaml.trim() == "{}" {
        let _ = writeln!(text, "  {when_empty}");
        return;
    }
    for line in yaml.lines() {
        let _ = writeln!(text, "  {line}");
    }
}

/// Without what is observed, and without what the head has said already.
fn configured_service(service: v1::VirtualService) -> v1::VirtualService {
    v1::VirtualService {
        name: String::new(),
        status: None,
        create_time: None,
        update_time: None,
        ..service
    }
}

fn configured_server(server: v1::RealServer) -> v1::RealServer {
    v1::RealServer { name: String::new(), status: None, ..server }
}
