//! How values look: states as a word and a colour, addresses, times and rates in few characters.
//!
//! Nothing is told by colour alone.

use std::fmt;

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, Color};
use gantry_proto::v1;
use gantry_proto::v1::real_server_status::State as ServerState;
use gantry_proto::v1::virtual_service_status::State as ServiceState;
use gantry_proto::v1::{layer4, layer7, virtual_service};
use prost_types::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
    Plain,
    /// To be seen first.
    Strong,
}

/// Some text and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Tone {
    pub(crate) fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Quiet => Style::new().dimmed(),
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
        }
    }
}

impl Word {
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    /// The same in a table.
    pub(crate) fn cell(&self) -> Cell {
        let cell = Cell::new(&self.text);
        match self.tone {
            Tone::Good => cell.fg(Color::DarkGreen),
            Tone::Warning => cell.fg(Color::DarkYellow),
            Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
            Tone::Quiet => cell.add_attribute(Attribute::Dim),
            Tone::Plain => cell,
            Tone::Strong => cell.add_attribute(Attribute::Bold),
        }
    }
}

impl fmt::Display for Word {
    /// Coloured; what pads it is not.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.tone.style();
        let padding = out.width().unwrap_or(0).saturating_sub(self.text.chars().count());
        write!(out, "{style}{}{style:#}{:padding$}", self.text, "")
    }
}

/// The state of a virtual service. What rests on old reports is never green.
pub(crate) fn service_state(service: &v1::VirtualService) -> Word {
    let status = service.status.clone().unwrap_or_default();
    let word = match status.state() {
        ServiceState::Up => Word::new("up", Tone::Good),
        ServiceState::Degraded => Word::new("DEGRADED", Tone::Warning),
        ServiceState::Down => Word::new("DOWN", Tone::Bad),
        ServiceState::Off => Word::new("off", Tone::Quiet),
        ServiceState::NotInForce => Word::new("NOT IN FORCE", Tone::Bad),
        ServiceState::Unspecified => Word::new("unknown", Tone::Quiet),
    };
    doubted(word, status.stale)
}

/// The state of a real server.
pub(crate) fn server_state(server: &v1::RealServer) -> Word {
    let status = server.status.clone().unwrap_or_default();
    let word = match status.state() {
        ServerState::Serving => Word::new("serving", Tone::Good),
        ServerState::Draining => Word::new("draining", Tone::Warning),
        ServerState::Halted => Word::new("halted", Tone::Quiet),
        ServerState::Failed => Word::new("FAILED", Tone::Bad),
        ServerState::Unspecified => Word::new("unchecked", Tone::Quiet),
    };
    doubted(word, status.stale)
}

fn doubted(word: Word, stale: bool) -> Word {
    match (stale, word.tone) {
        (false, _) => word,
        (true, Tone::Good) => Word::new(format!("{}, STALE", word.text), Tone::Warning),
        (true, tone) => Word::new(format!("{}, STALE", word.text), tone),
    }
}

/// `10.1.0.4:104,11112`, with `/udp` if it is not TCP.
pub(crate) fn listens_on(service: &v1::VirtualService) -> String {
    let Some(listener) = &service.listener else { return "-".to_owned() };
    let protocol = match listener.protocol() {
        v1::listener::Protocol::Udp => "/udp",
        _ => "",
    };
    format!("{}{protocol}", socket(&listener.address, &listener.ports.join(",")))
}

/// `10.2.0.11:11112`, or only the address when the client's port is kept.
pub(crate) fn endpoint(endpoint: Option<&v1::Endpoint>) -> String {
    match endpoint {
        None => "-".to_owned(),
        Some(endpoint) if endpoint.port == 0 => endpoint.address.clone(),
        Some(endpoint) => socket(&endpoint.address, &endpoint.port.to_string()),
    }
}

fn socket(address: &str, ports: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{ports}")
    } else {
        format!("{address}:{ports}")
    }
}

/// `L4 DR`, `L7 TCP`.
pub(crate) fn path(service: &v1::VirtualService) -> &'static str {
    match &service.forwarding {
        None => "-",
        Some(virtual_service::Forwarding::Layer4(layer4)) => match layer4.method() {
            layer4::Method::Unspecified => "L4",
            layer4::Method::Dr => "L4 DR",
            layer4::Method::Nat => "L4 NAT",
            layer4::Method::Snat => "L4 SNAT",
            layer4::Method::Tunnel => "L4 TUNNEL",
        },
        Some(virtual_service::Forwarding::Layer7(layer7)) => match layer7.mode() {
            layer7::Mode::Unspecified | layer7::Mode::TcpMode => "L7 TCP",
            layer7::Mode::HttpMode => "L7 HTTP",
            layer7::Mode::DicomMode => "L7 DICOM",
            layer7::Mode::MllpMode => "L7 MLLP",
        },
    }
}

/// `1/2`, with `fo` in failover mode.
pub(crate) fn servers(service: &v1::VirtualService) -> String {
    let status = service.status.clone().unwrap_or_default();
    let mode = match service.strategy() {
        virtual_service::Strategy::Failover => " fo",
        _ => "",
    };
    format!("{}/{}{mode}", status.healthy_count, status.real_server_count)
}

/// `1 connection`, `2 connections`.
pub(crate) fn connections(count: i64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

/// `38`, `38, and 120 that ended or fell silent`
pub(crate) fn with_inactive(active: i64, inactive: i64) -> String {
    match inactive {
        0 => active.to_string(),
        inactive => format!("{active}, and {inactive} that ended or fell silent"),
    }
}

/// `1.3 GB`
pub(crate) fn bytes(count: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let (value, unit) = match count as f64 {
        count if count >= 1e9 => (count / 1e9, "GB"),
        count if count >= 1e6 => (count / 1e6, "MB"),
        count if count >= 1e3 => (count / 1e3, "kB"),
        count => return format!("{count:.0} B"),
    };
    format!("{} {unit}", few_digits(value))
}

/// The weight in force.
pub(crate) fn weight(server: &v1::RealServer) -> i32 {
    server.weight.unwrap_or(100)
}

/// How long ago, or until: `45s`, `3m`, `5h`, `14d`.
pub(crate) fn span(seconds: i64) -> String {
    match seconds.unsigned_abs() {
        seconds @ 0..100 => format!("{seconds}s"),
        seconds @ 100..6_000 => format!("{}m", seconds / 60),
        seconds @ 6_000..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// How long before `now` something was.
pub(crate) fn since(time: Option<&Timestamp>, now: i64) -> Option<String> {
    time.map(|time| span(now.saturating_sub(time.seconds).max(0)))
}

/// The time of day with its date, UTC.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let parsed = time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok());
    parsed.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// `210 Mb/s`.
pub(crate) fn bits(rate: f64) -> String {
    let (value, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "Gb/s"),
        rate if rate >= 1e6 => (rate / 1e6, "Mb/s"),
        rate if rate >= 1e3 => (rate / 1e3, "kb/s"),
        rate => (rate, "b/s"),
    };
    format!("{} {unit}", few_digits(value))
}

/// Two significant digits, or as many as the whole part has.
pub(crate) fn few_digits(value: f64) -> String {
    if value == 0.0 || value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A duration as it is typed: `1h`, `1h30m`, `4s`, `500ms`.
pub(crate) fn duration(duration: &prost_types::Duration) -> String {
    let seconds = duration.seconds;
    let parts = [
        (seconds / 3_600, "h"),
        (seconds % 3_600 / 60, "m"),
        (seconds % 60, "s"),
        (i64::from(duration.nanos / 1_000_000), "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_short() {
        let spans: Vec<_> = [0, 99, 100, 5_999, 6_000, 172_799, 172_800].map(span).into();
        assert_eq!(spans, ["0s", "99s", "1m", "99m", "1h", "47h", "2d"]);
        let rates: Vec<_> = [0.0, 7.0, 8_000.0, 3.14e6, 210e6, 1.26e9].map(bits).into();
        assert_eq!(rates, ["0 b/s", "7.0 b/s", "8.0 kb/s", "3.1 Mb/s", "210 Mb/s", "1.3 Gb/s"]);
        let shown = |seconds, nanos| duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(
            [shown(3600, 0), shown(5400, 0), shown(0, 500_000_000), shown(0, 0)],
            ["1h", "1h30m", "500ms", "0s"]
        );
    }

    #[test]
    fn stale_is_never_green() {
        let status = v1::VirtualServiceStatus {
            state: ServiceState::Up.into(),
            stale: true,
            ..Default::default()
        };
        let service = v1::VirtualService { status: Some(status), ..Default::default() };
        assert_eq!(service_state(&service), Word::new("up, STALE", Tone::Warning));
    }

    #[test]
    fn addresses_of_both_families() {
        let listener = v1::Listener {
            address: "fd00::1".into(),
            ports: vec!["104".into(), "8000-8010".into()],
            protocol: v1::listener::Protocol::Udp.into(),
            ..Default::default()
        };
        let service = v1::VirtualService { listener: Some(listener), ..Default::default() };
        assert_eq!(listens_on(&service), "[fd00::1]:104,8000-8010/udp");
        let kept = v1::Endpoint { address: "10.0.0.1".into(), port: 0 };
        assert_eq!(endpoint(Some(&kept)), "10.0.0.1");
    }
}
