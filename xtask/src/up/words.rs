//! What `up` tells: what runs and what to type, and later what ended.

use std::fmt::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style};

use super::children::{Children, Ended, Program, tail};
use super::layer4;
use super::overview::Overview;
use super::site::{CONTROLLER, Site};
use crate::say;
use crate::workspace::find_program;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
/// Where the example has its viewers.
const VIEWER: &str = "127.12.1.160";
const HEAD: Style = Style::new().bold();

/// Everything that somebody wants to know who has just started it.
pub(super) fn ready(
    site: &Site,
    children: &Children,
    seen: &Overview,
    missing: &[String],
    samples: bool,
) {
    say("");
    match missing {
        [] => say(format_args!("{HEAD}Gantry runs.{HEAD:#} Ctrl-C ends all of it.\n")),
        some => say(format_args!(
            "{BAD}Gantry runs, but not everything is as it should be:{BAD:#}\n  {}\n",
            some.join("\n  ")
        )),
    }
    if seen.rows.is_empty() {
        say(
            "No virtual service is configured: gantry apply -f FILE, or gantry create vs --help.\n",
        );
    } else {
        say(services(seen));
    }
    say(page(site));
    say(format_args!("{HEAD}Processes{HEAD:#}\n{}", processes(children)));
    say(format_args!(
        "{HEAD}In another terminal{HEAD:#}, in this folder:\n\n{}",
        typed(site, samples && has_service(seen, VIEWER))
    ));
    if site.agents().contains(&"agent-l4") && has_service(seen, layer4::ADDRESS) {
        say(format_args!("{HEAD}Layer 4{HEAD:#} is carried by the kernel:\n\n{}", in_kernel(site)));
    }
}

/// Where the page is, and how to get in.
fn page(site: &Site) -> String {
    let mut text = format!("{HEAD}System Overview{HEAD:#} in a browser\n  {}", site.page());
    let _ = match site.first_password() {
        Some(password) => writeln!(
            text,
            "   user admin, password {HEAD}{password}{HEAD:#}\n  (shown this once; the certificate \
             is of this controller's own CA)"
        ),
        None => writeln!(
            text,
            "   user admin\n  (the password was shown at the first start; for a new one: {} \
             reset-password --state {})",
            site.show(&site.binaries().join("gantry-controller")),
            site.show(&site.dir().join(CONTROLLER))
        ),
    };
    text
}

/// Whether a service of the example is there: another configuration has other addresses.
fn has_service(seen: &Overview, address: &str) -> bool {
    seen.rows.iter().any(|row| row.service.listener.address == address)
}

fn services(seen: &Overview) -> String {
    let mut text = format!("{HEAD}Virtual services{HEAD:#}\n");
    for service in seen.rows.iter().map(|row| &row.service) {
        let status = &service.status;
        let style = match status.state.as_str() {
            "UP" => GOOD,
            "DEGRADED" => AnsiColor::Yellow.on_default(),
            _ => BAD,
        };
        let state = status.state.to_lowercase().replace('_', " ");
        let count = format!("{}/{}", status.healthy_count, status.real_server_count);
        let listens = format!("{}:{}", service.listener.address, service.listener.ports.join(","));
        let _ =
            writeln!(text, "  {:18} {listens:28} {style}{state}{style:#} {count}", service.label());
    }
    text
}

/// `name pid`, some to a line.
fn processes(children: &Children) -> String {
    let list: Vec<_> = children.list().map(|(name, pid)| format!("{name:11} {pid:<9}")).collect();
    list.chunks(3).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {}", line.concat().trim_end());
        text
    })
}

fn typed(site: &Site, example: bool) -> String {
    let mut text = format!(
        "  export PATH=\"{}:$PATH\" GANTRY_CONFIG=\"{}\"\n  gantry overview --watch\n  gantry events \
         --follow\n",
        from_here(site, site.binaries()),
        from_here(site, &site.config()),
    );
    if example {
        let images = site.show(&site.images());
        let store = match find_program("storescu") {
            Some(_) => format!("storescu -aec PACS 127.12.1.100 11112 +sd {images}"),
            None => "(to send them, install storescu: apt-get install dcmtk)".to_owned(),
        };
        let _ = write!(
            text,
            "\n  cargo xtask sample images --dir {images}\n  {store}\n  cargo xtask sample hl7 --to \
             127.12.1.120:2575\n  curl -k https://127.12.1.160:8443/\n  curl \
             'http://127.12.1.140:17035/registry?wsdl'\n"
        );
    }
    let pids = site.show(&site.records().pids);
    let name = if example { "dicom1" } else { "healthd" };
    let _ = write!(text, "\n  kill $(cat {pids}/{name}.pid)     and see what happens\n");
    text
}

fn in_kernel(site: &Site) -> String {
    format!(
        "  storescu -aec PACS {} 11112 +sd {}\n  gantry get connections dicom-layer4\n  gantry get \
         persistence dicom-layer4\n  gantry describe appliances/lb1    the kernel settings it has made\n",
        layer4::ADDRESS,
        site.show(&site.images()),
    )
}

/// For an `export` that goes on to hold in other folders.
fn from_here(site: &Site, path: &Path) -> String {
    let short = site.show(path);
    if Path::new(&short).is_absolute() { short } else { format!("$PWD/{short}") }
}

/// One process is gone: which, why, what that means, and how to get it back.
pub(super) fn ended(site: &Site, ended: &Ended) {
    let Ended { program, how, log } = ended;
    say(format_args!("{BAD}{} ended{BAD:#} ({how}). {}", program.name, meaning(&program.name)));
    say(format_args!("{}\n  start it again: {}\n", quote(log), again(site, program)));
}

/// The end of a log, set in.
pub(super) fn quote(log: &Path) -> String {
    let lines: Vec<_> = tail(log).into_iter().map(|line| format!("  | {line}")).collect();
    match lines.as_slice() {
        [] => "  (its log is empty)".to_owned(),
        lines => lines.join("\n"),
    }
}

fn meaning(name: &str) -> &'static str {
    match name {
        CONTROLLER => "Traffic and health checks go on; nothing can be changed or shown.",
        "agent-l7" => "No virtual service is open until it is back.",
        "agent-l4" => {
            "Layer 4 traffic goes on in the kernel; a server that fails stays in it until it is back."
        }
        "healthd" => "Traffic goes on with the last verdicts; no server is checked.",
        _ => "The other real server gets its clients.",
    }
}

fn again(site: &Site, program: &Program) -> String {
    let arguments = program.arguments.iter().map(|argument| site.show(Path::new(argument)));
    let words: Vec<_> = std::iter::once(site.show(&program.path)).chain(arguments).collect();
    words.join(" ")
}
