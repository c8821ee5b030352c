//! Every call of every service, found by reflection, with input that no honest client sends.
//!
//! Each answer is an error with a clear code and clear words, or the success of a call that changes
//! nothing; the configuration is the same as before, the controller never panics, and it goes on
//! answering. A call that is added later is covered without a line here; a seed in
//! `api_hostile/seeds.rs` brings its fields behind the first check.

#[path = "api_hostile/raw.rs"]
mod raw;
#[path = "api_hostile/seeds.rs"]
mod seeds;
#[path = "api_hostile/variants.rs"]
mod variants;

use std::sync::Arc;
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use gantry_tests::services::{layer7, server};
use gantry_tests::{Site, own_ca};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Services that the controller does not serve.
const ELSEWHERE: &[&str] = &["gantry.agent.v1.HealthFeedService"];

/// What reads, by the first word of its name.
const READING: &[&str] = &["Get", "List", "Watch", "Export", "Plan", "Diff", "Report"];

/// Words of Rust that no operator should have to read.
const LEAKS: &[&str] = &[
    "panicked",
    "unwrap",
    "Err(",
    "Ok(",
    "Some(",
    "Error {",
    ".rs:",
    "INSERT INTO",
    "tonic::",
    "gantry_",
];

/// How long a stream is listened to, which may have nothing to say.
const LISTEN: Duration = Duration::from_millis(300);

/// How many calls one connection carries: HTTP/2 closes one whose calls were broken off a thousand
/// times, to be safe from floods (CVE-2025-8671), and a call that is refused may be one of them.
const OF_A_CONNECTION: usize = 256;

/// How many calls are under way at a time.
const AT_ONCE: usize = 16;

/// What the services are called with.
struct Callers {
    site: Site,
    operator: Identity,
    appliance: Identity,
    pool: DescriptorPool,
}

impl Callers {
    async fn start() -> Self {
        // With a CA from elsewhere, to replace it needs more than the wish.
        let dir = tempfile::tempdir().unwrap();
        let ca = own_ca::root(dir.path(), "root").await;
        let site = Site::controller_with(&ca.arguments()).await;
        site.create(
            "web",
            layer7(site.block.socket(10, 80)),
            vec![server("one", site.block.socket(20, 80))],
        )
        .await;
        let token = site.invite("lb1").await;
        let folder = site.identity_of("lb1");
        join::join(&site.url, &token, &folder).await.unwrap();
        let appliance = Identity::load(&folder).unwrap();
        let operator = Identity::load(&site.operator()).unwrap();
        let pool = DescriptorPool::decode(gantry_proto::DESCRIPTORS).unwrap();
        Self { site, operator, appliance, pool }
    }

    fn methods(&self) -> Vec<MethodDescriptor> {
        let services = self.pool.services();
        let own = services.filter(|service| service.full_name().starts_with("gantry."));
        let served = own.filter(|service| !ELSEWHERE.contains(&service.full_name()));
        served.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    /// A connection of its own, as who may call `method`.
    fn channel(&self, method: &MethodDescriptor) -> Channel {
        let of_agents = method.full_name().starts_with("gantry.agent.");
        let who = if of_agents { &self.appliance } else { &self.operator };
        rpc::connect(&self.site.url, who).unwrap()
    }

    /// What must be the same before and after.
    async fn configuration(&self) -> (String, pb::Config) {
        let overview = pb::GetOverviewRequest::default();
        let overview = self.site.observe().get_overview(overview).await.unwrap().into_inner();
        let name = "clusters/main".to_owned();
        let export = pb::ExportConfigRequest { name, ..Default::default() };
        let export = self.site.config().export_config(export).await.unwrap().into_inner();
        (overview.revision, export)
    }
}

/// What one call came to.
struct Answer {
    what: String,
    bytes: Arc<Vec<u8>>,
    /// None: it succeeded.
    status: Option<Status>,
}

/// Calls `method` with each of `attempts`.
async fn call_all(
    callers: &Callers,
    method: &MethodDescriptor,
    attempts: Vec<(String, Vec<u8>)>,
) -> Vec<Answer> {
    let (mut calls, mut answers) = (JoinSet::new(), Vec::with_capacity(attempts.len()));
    let mut channel = callers.channel(method);
    for (at, (what, bytes)) in attempts.into_iter().enumerate() {
        if at % OF_A_CONNECTION == 0 {
            channel = callers.channel(method);
        }
        if calls.len() >= AT_ONCE {
            answers.extend(calls.join_next().await.map(Result::unwrap));
        }
        let (channel, method, bytes) = (channel.clone(), method.clone(), Arc::new(bytes));
        calls.spawn(async move {
            let status = raw::call(channel, &method, bytes.to_vec(), LISTEN).await;
            Answer { what, bytes, status }
        });
    }
    answers.extend(calls.join_all().await);
    answers
}

/// What is wrong with an answer, if anything is.
fn judge(method: &MethodDescriptor, answer: &Answer) -> Option<String> {
    let Some(status) = &answer.status else {
        return (!reads(method, &answer.bytes)).then(|| "it was carried out".to_owned());
    };
    let message = status.message();
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::OutOfRange => {}
        code => return Some(format!("{code:?}: {message}")),
    }
    if message.trim().is_empty() || message.len() > 4096 {
        return Some(format!("the message has {} bytes", message.len()));
    }
    let leak = LEAKS.iter().find(|leak| message.contains(**leak));
    leak.map(|leak| format!("{leak:?} in {message:?}"))
}

/// What the controller's log says of panics, with where they were.
fn panics(callers: &Callers) -> Vec<String> {
    let log = callers.site.controller.log();
    let mut lines = log.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains("panicked") {
            found.push(format!("{line} {}", lines.next().unwrap_or_default()));
        }
    }
    found
}

/// Whether this call may succeed: it reads, or it is asked to change nothing.
fn reads(method: &MethodDescriptor, bytes: &[u8]) -> bool {
    let validates = || {
        let message = DynamicMessage::decode(method.input(), bytes).ok()?;
        message.get_field_by_name("validate_only")?.as_bool()
    };
    READING.iter().any(|word| method.name().starts_with(word)) || validates() == Some(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_hostile_input_is_refused_in_clear_words_and_changes_nothing() {
    let mut callers = Callers::start().await;
    let before = callers.configuration().await;
    let methods = callers.methods();
    assert!(methods.len() > 40, "{} calls were found", methods.len());
    let (mut count, mut wrong) = (0, Vec::new());
    for method in &methods {
        let seed = seeds::seed(method);
        let answers = call_all(&callers, method, variants::all(&seed)).await;
        count += answers.len();
        for answer in &answers {
            let what = judge(method, answer);
            wrong.extend(
                what.map(|what| format!("{} with {}: {what}", method.full_name(), answer.what)),
            );
        }
        assert_eq!(callers.configuration().await, before, "{} changed it", method.full_name());
    }
    assert!(count > 2000, "only {count} calls were made");
    wrong.extend(panics(&callers));
    wrong.sort();
    let shown: Vec<_> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), shown.join("\n"));
    assert!(callers.site.controller.is_running());
}

/// Each seed is read by the fields it has, so none of them is stale.
#[tokio::test]
async fn api_hostile_seeds_are_messages() {
    let pool = DescriptorPool::decode(gantry_proto::DESCRIPTORS).unwrap();
    for (name, _) in seeds::SEEDS {
        let (service, method) = name.rsplit_once('.').unwrap();
        let service = pool.services().find(|found| found.name() == service).unwrap();
        let method = service.methods().find(|found| found.name() == method).unwrap();
        seeds::seed(&method);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_hostile_size_is_refused_and_the_connection_lives() {
    let callers = Callers::start().await;
    for method in callers.methods() {
        let size = match method.parent_service().name() {
            // Whole documents may be long.
            "ConfigService" => (64 << 20) + 1,
            // Full reports of an appliance may be longer than a test should send.
            "AgentService" => continue,
            _ => (4 << 20) + 1,
        };
        let channel = callers.channel(&method);
        let status = raw::call(channel, &method, vec![0; size], LISTEN).await.expect("refused");
        assert_eq!(status.code(), Code::OutOfRange, "{}: {status:?}", method.full_name());
        assert!(status.message().contains("too large"), "{status:?}");
    }
    callers.configuration().await;
}
