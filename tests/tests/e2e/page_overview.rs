//! The System Overview page in a real browser: what it shows, what its buttons do, and that it never
//! shows old news as green.

use std::path::Path;
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::browser::{Browser, DESK, PHONE, Screen};
use gantry_tests::process::{Process, binary};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{server_name, service_name};
use pb::real_server_status::State as ServerState;
use pb::virtual_service_status::State as ServiceState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The issue's promise: a verdict is on the page so soon.
const PROMISED: Duration = Duration::from_secs(2);

/// The example deployment on the addresses of a test, with its sample servers as processes.
struct Deployment {
    site: Site,
    servers: Vec<(&'static str, Process)>,
}

/// Name, kind, the address's last part, ports.
const SERVERS: [(&str, &str, u8, &[u16]); 8] = [
    ("dicom1", "dicom", 110, &[10104, 11112]),
    ("dicom2", "dicom", 111, &[10104, 11112]),
    ("hl71", "mllp", 130, &[2575]),
    ("hl72", "mllp", 131, &[2575]),
    ("xds1", "xds", 150, &[17035]),
    ("xds2", "xds", 151, &[17035]),
    ("viewer1", "https", 170, &[8443]),
    ("viewer2", "https", 171, &[8443]),
];

impl Deployment {
    async fn start() -> Self {
        let site = Site::with_page().await;
        let servers = SERVERS.map(|sample| (sample.0, start_sample(&site, sample))).into();
        let [a, b, c, _] = site.block.address(0).octets();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/loopback.yaml");
        let example = std::fs::read_to_string(example).unwrap();
        let document = example
            .replace("127.12.1.", &format!("{a}.{b}.{c}."))
            .replace("interval: 1s", "interval: 200ms\n        timeout: 2s");
        let path = site.dir().join("site.yaml");
        std::fs::write(&path, document).unwrap();
        site.gantry(&["apply", "-f", path.to_str().unwrap()]).await.output();
        for id in ["dicom-modalities", "hl7", "xds-registry", "https-viewer"] {
            site.up(id).await;
        }
        Self { site, servers }
    }

    fn server(&mut self, name: &str) -> &mut Process {
        let found = self.servers.iter_mut().find(|(known, _)| *known == name);
        &mut found.unwrap().1
    }
}

fn start_sample(site: &Site, (name, kind, last, ports): (&str, &str, u8, &[u16])) -> Process {
    let mut arguments = vec!["sample".to_owned(), kind.to_owned()];
    for port in ports {
        arguments.extend(["--listen".to_owned(), site.block.socket(last, *port).to_string()]);
    }
    let label = name.to_uppercase();
    if kind == "dicom" {
        let dir = site.folder(name).to_str().unwrap().to_owned();
        arguments.extend(["--ae".to_owned(), label, "--dir".to_owned(), dir]);
    } else {
        arguments.extend(["--name".to_owned(), label]);
    }
    Process::start(name, &binary("xtask"), arguments, site.dir())
}

async fn log_in(browser: &mut Browser, site: &Site, password: &str) {
    browser.go(&site.page()).await;
    browser.fill("#user", "admin").await;
    browser.fill("#password", password).await;
    browser.click("button").await;
}

/// An expression for the tone of a row: of `main/hl7` or of `main/hl7/hl71`.
fn tone(short: &str) -> String {
    let kind = if short.matches('/').count() == 1 { "row" } else { "server" };
    format!("document.getElementById({:?})?.dataset.tone", format!("{kind}:{short}"))
}

async fn turns(browser: &mut Browser, short: &str, expected: &str) {
    let code = format!("{} === {expected:?}", tone(short));
    browser.sees(&format!("{short} is shown as {expected}"), &code).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_shows_the_deployment_and_a_dead_server_turns_red_by_itself() {
    let mut deployment = Deployment::start().await;
    let mut browser = Browser::start(DESK).await;
    browser.go(&deployment.site.page()).await;
    browser.shot("login").await;
    let password = deployment.site.page_password().await;
    log_in(&mut browser, &deployment.site, &password).await;
    for id in ["dicom-modalities", "hl7", "xds-registry", "https-viewer"] {
        turns(&mut browser, &format!("main/{id}"), "good").await;
    }
    browser.sees("it follows", "document.querySelector('#live span').innerText === 'live'").await;
    assert_eq!(browser.text(".tile.good").await.replace('\n', " "), "4 up");
    let row = browser.text("[id='row:main/https-viewer']").await;
    for words in ["up", "HTTPS-Viewer", "TCP 8443", "layer 7, TCP mode", "load balanced", "2 of 2"]
    {
        assert!(row.contains(words), "{row}");
    }
    let server = browser.text("[id='server:main/https-viewer/viewer1']").await;
    for words in ["serving", "VIEWER1", ":8443", "weight 100", "200", "Drain", "Halt"] {
        assert!(server.contains(words), "{server}");
    }
    browser.shot("healthy").await;
    // Closed by a person, a row stays closed whatever happens.
    browser.click("[id='row:main/hl7']").await;
    watch(&mut browser, "main/https-viewer/viewer1").await;
    deployment.server("viewer1").kill();
    let subject = server_name("https-viewer", "viewer1");
    let verdict = deployment.site.event(&subject, "REAL_SERVER_FAILED").await;
    turns(&mut browser, "main/https-viewer/viewer1", "bad").await;
    turns(&mut browser, "main/https-viewer", "warning").await;
    let delay = since(&mut browser, &verdict).await;
    report("from a verdict to the page", delay);
    assert!(delay < PROMISED, "{delay:?}");
    assert_eq!(
        browser.look("document.querySelector('[id=\"service:main/hl7\"] details').open").await,
        false
    );
    let server = browser.text("[id='server:main/https-viewer/viewer1']").await;
    assert!(server.contains("failed") && server.contains("refused"), "{server}");
    let told = "document.getElementById('events').innerText.includes('https-viewer/viewer1')";
    browser.sees("the event is among the newest", told).await;
    assert!(browser.look("document.title").await.as_str().unwrap().starts_with("1 degraded"));
    browser.click("[id='row:main/hl7']").await;
    browser.shot("one-server-down").await;
    deployment.server("viewer2").kill();
    turns(&mut browser, "main/https-viewer", "bad").await;
    browser.shot("service-down").await;
    assert_eq!(browser.errors().await, serde_json::json!([]), "nothing breaks the policy");
}

/// Has the page note when a server turns red.
async fn watch(browser: &mut Browser, short: &str) {
    let tone = tone(short);
    let code = format!(
        "new MutationObserver(() => {{ if (!window.red && {tone} === 'bad') window.red = Date.now(); }})
             .observe(document.body, {{ subtree: true, childList: true, attributes: true }})"
    );
    browser.look(&format!("({code}, null)")).await;
}

/// How long after the event the page showed it; both times are this machine's.
async fn since(browser: &mut Browser, event: &pb::Event) -> Duration {
    let shown = browser.look("window.red").await.as_u64().unwrap();
    let time = event.time.unwrap();
    let happened = u64::try_from(time.seconds * 1000 + i64::from(time.nanos) / 1_000_000).unwrap();
    Duration::from_millis(shown.saturating_sub(happened))
}

#[expect(clippy::print_stderr, reason = "a measurement, for who runs the test")]
fn report(what: &str, took: Duration) {
    eprintln!("{what}: {} ms", took.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_drains_halts_and_puts_back_by_clicks_as_the_api_does() {
    let deployment = Deployment::start().await;
    let site = &deployment.site;
    let mut browser = Browser::start(DESK).await;
    log_in(&mut browser, site, &site.page_password().await).await;
    turns(&mut browser, "main/hl7/hl71", "good").await;
    browser.click("[aria-label='drain HL71']").await;
    browser.fill("#comment", "engine's update").await;
    let command = browser.text("[data-command]").await;
    assert_eq!(command, r"gantry drain hl7/hl71 -m 'engine'\''s update'");
    browser.shot("drain").await;
    browser.click("dialog .primary").await;
    browser.sees("the question is gone", "!document.querySelector('dialog[open]')").await;
    turns(&mut browser, "main/hl7/hl71", "warning").await;
    site.server_reaches("hl7", "hl71", ServerState::Draining).await;
    let event = site.event(&server_name("hl7", "hl71"), "REAL_SERVER_DRAINED").await;
    assert_eq!((event.actor.as_str(), event.comment.as_str()), ("users/admin", "engine's update"));
    turns(&mut browser, "main/hl7", "warning").await;
    // The other one is the last: that is said before, with how many connections it cuts.
    let listen = site.block.socket(120, 2575);
    let mut held = tokio::net::TcpStream::connect(listen).await.unwrap();
    // A sender has a receiver from its first message on.
    let message = b"\x0bMSH|^~\\&|HIS|SITE|||20261127||ADT^A08|1|P|2.5\rPID|1||TEST\r\x1c\r";
    held.write_all(message).await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), 0x0b, "it is acknowledged");
    let open =
        "document.querySelector('[id=\"server:main/hl7/hl72\"] .c-open').innerText.includes('1')";
    browser.sees("its connection is counted", open).await;
    browser.click("[aria-label='halt HL72']").await;
    let asked = "document.querySelector('dialog[open]')?.innerText.includes('Halt HL72')";
    browser.sees("it is asked", asked).await;
    let question = browser.text("dialog[open]").await;
    assert!(question.contains("1 open connection is cut"), "{question}");
    assert!(question.contains("the only real server of HL7 that serves"), "{question}");
    browser.shot("halt-last").await;
    browser.press("Escape").await;
    let focus = "document.activeElement.getAttribute('aria-label') === 'halt HL72'";
    browser.sees("the focus is where it was", focus).await;
    assert_eq!(
        site.server_status("hl7", "hl72").await.state(),
        ServerState::Serving,
        "nothing was done"
    );
    browser.click("[aria-label='halt HL71']").await;
    browser.click("dialog .primary").await;
    turns(&mut browser, "main/hl7/hl71", "idle").await;
    site.server_reaches("hl7", "hl71", ServerState::Halted).await;
    browser.click("[aria-label='online HL71']").await;
    browser.click("dialog .primary").await;
    turns(&mut browser, "main/hl7/hl71", "good").await;
    turns(&mut browser, "main/hl7", "good").await;
    // Something done elsewhere shows as well, and a service that comes or goes.
    site.halt("xds-registry", "xds1").await;
    turns(&mut browser, "main/xds-registry/xds1", "idle").await;
    let name = service_name("xds-registry");
    let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
    site.balancer().delete_virtual_service(request).await.unwrap();
    browser.sees("it is gone", "!document.getElementById('row:main/xds-registry')").await;
    site.create("alone", layer7(site.block.socket(190, 80)), vec![]).await;
    turns(&mut browser, "main/alone", "bad").await;
    assert_eq!(browser.errors().await, serde_json::json!([]));
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_greys_out_when_nothing_is_heard_and_is_green_again_after() {
    let mut deployment = Deployment::start().await;
    let mut browser = Browser::start(DESK).await;
    log_in(&mut browser, &deployment.site, &deployment.site.page_password().await).await;
    turns(&mut browser, "main/hl7", "good").await;
    let colour = "getComputedStyle(document.querySelector('[id=\"row:main/hl7\"] .state')).color";
    let green = browser.look(colour).await;
    deployment.site.controller.freeze();
    let banner = "!document.getElementById('banner').hidden";
    browser.sees("the page says that it is old", banner).await;
    let text = browser.text("#banner").await;
    assert!(text.contains("Not connected") && text.contains("old"), "{text}");
    assert_ne!(browser.look(colour).await, green, "nothing is green");
    let word = "getComputedStyle(document.querySelector('[id=\"row:main/hl7\"] .word'), '::before').content";
    assert_eq!(browser.look(word).await, "\"was \"");
    browser.shot("stale").await;
    deployment.site.controller.thaw();
    browser.sees("the page is up to date again", &format!("!({banner})")).await;
    browser.sees("it is green again", &format!("{colour} === {green}")).await;
    // The same when the controller starts again, but that its sessions are over.
    deployment.site.controller.kill();
    deployment.site.controller.start_again();
    let over = "!document.querySelector('#banner a').hidden";
    browser.sees("the page says that the session is over", over).await;
    log_in(&mut browser, &deployment.site, &deployment.site.page_password().await).await;
    turns(&mut browser, "main/hl7", "good").await;
    // Only the agents are silent: the page follows, and nothing is green all the same.
    deployment.site.healthd.take().unwrap().kill();
    turns(&mut browser, "main/hl7", "unknown").await;
    turns(&mut browser, "main/hl7/hl71", "unknown").await;
    let server = browser.text("[id='server:main/hl7/hl71']").await;
    assert!(server.contains("was serving"), "{server}");
    let cluster = browser.text("[id='cluster:main']").await;
    assert!(cluster.contains("silent"), "{cluster}");
    browser.shot("agents-silent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_fits_a_phone_and_works_without_a_script() {
    let deployment = Deployment::start().await;
    let site = &deployment.site;
    let password = site.page_password().await;
    let mut browser = Browser::start(PHONE).await;
    log_in(&mut browser, site, &password).await;
    turns(&mut browser, "main/hl7", "good").await;
    let overflow = "document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.look(overflow).await, true, "nothing is wider than the phone");
    browser.shot("phone").await;
    browser.click("[aria-label='halt HL71']").await;
    browser.text("dialog h2").await;
    assert_eq!(browser.look(overflow).await, true);
    browser.shot("phone-halt").await;
    // The keyboard alone is enough, and the filter finds names and addresses.
    browser.size(1440, 900).await;
    browser.press("Escape").await;
    browser.press("/").await;
    browser.fill("#q", "viewer2").await;
    let shown = "[...document.querySelectorAll('.service')].filter(one => !one.hidden).length";
    assert_eq!(browser.look(shown).await, 1);
    assert_eq!(browser.text("#shown").await, "1 of 4");
    browser.fresh(Screen { dark: true, ..DESK }).await;
    log_in(&mut browser, site, &password).await;
    turns(&mut browser, "main/hl7", "good").await;
    browser.shot("dark").await;
    browser.fresh(Screen { script: false, ..DESK }).await;
    log_in(&mut browser, site, &password).await;
    assert!(browser.text("[id='row:main/hl7']").await.contains("up"));
    browser.click("[aria-label='drain HL71']").await;
    browser.fill("#comment", "no script").await;
    browser.click(".primary").await;
    let notice = browser.text("#notice").await;
    assert!(notice.contains("HL71 gets no new connections"), "{notice}");
    let event = site.event(&server_name("hl7", "hl71"), "REAL_SERVER_DRAINED").await;
    assert_eq!(event.comment, "no script");
    browser.go(&format!("{}/?q=viewer", site.page())).await;
    assert!(!browser.text("#clusters").await.contains("HL7"));
    browser.shot("without-script").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_with_many_services_is_quick_and_filters() {
    let site = Site::with_page().await;
    let services: String = (0..300).map(|number| many(&site, number)).collect();
    let path = site.dir().join("many.yaml");
    std::fs::write(&path, format!("name: clusters/main\nservices:\n{services}")).unwrap();
    site.gantry(&["apply", "-f", path.to_str().unwrap()]).await.output();
    site.reaches("service-299", ServiceState::Up).await;
    let mut browser = Browser::start(DESK).await;
    log_in(&mut browser, &site, &site.page_password().await).await;
    turns(&mut browser, "main/service-299", "good").await;
    let all_up = "document.querySelector('.tile.good').innerText.startsWith('300')";
    browser.sees("all are up", all_up).await;
    let inside = "!!document.getElementById('server:main/service-123/a')";
    assert_eq!(browser.look(inside).await, false, "what is closed is not there yet");
    browser.look("window.first = document.getElementById('row:main/service-000')").await;
    site.halt("service-123", "a").await;
    turns(&mut browser, "main/service-123", "warning").await;
    browser.shot("many").await;
    browser.click(".tile.warning").await;
    assert_eq!(browser.text("#shown").await, "1 of 300");
    browser.click("[id='row:main/service-123']").await;
    turns(&mut browser, "main/service-123/a", "idle").await;
    browser.shot("many-filtered").await;
    site.online("service-123", "a").await;
    turns(&mut browser, "main/service-123/a", "good").await;
    site.halt("service-123", "a").await;
    turns(&mut browser, "main/service-123", "warning").await;
    site.create(
        "zz",
        layer7(site.block.socket(252, 80)),
        vec![server("a", site.block.socket(2, 1))],
    )
    .await;
    browser.sees("a new one is there", "!!document.getElementById('row:main/zz')").await;
    let kept = "window.first === document.getElementById('row:main/service-000')";
    assert_eq!(browser.look(kept).await, true, "what did not change was not made anew");
    assert_eq!(browser.text("#shown").await, "1 of 301", "the filter holds");
}

fn many(site: &Site, number: u16) -> String {
    let listen = site.block.address(u8::try_from(10 + number / 10).unwrap());
    let server = site.block.address(2);
    let (name, port) = (format!("service-{number:03}"), 8000 + number % 10);
    format!(
        "  - virtualService:
      name: {name}
      listener: {{ address: {listen}, ports: [\"{port}\"] }}
      layer7: {{}}
      healthCheck: {{ none: {{}} }}
    realServers:
      - {{ name: a, endpoint: {{ address: {server}, port: 7001 }} }}
      - {{ name: b, endpoint: {{ address: {server}, port: 7002 }} }}
"
    )
}
