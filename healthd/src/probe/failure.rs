//! What goes wrong in a check, in words for people who run a PACS and have never read errno.h.
//!
//! Every failure says whose it is. An appliance that runs out of sockets must not conclude that all
//! its real servers are down.

use std::io::{self, ErrorKind};

use rustls::AlertDescription;

/// What a check saw: `Ok` is a healthy answer.
pub(super) type Outcome = Result<String, Failure>;

/// Why a check is not a success.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server, or the way to it.
    Server(String),
    /// This appliance: the check was not made.
    Own(String),
}

impl Failure {
    /// Any failure to read from or write to an open connection.
    pub(super) fn talking(error: &io::Error) -> Self {
        if let Some(error) = tls_error(error) {
            return Self::Server(format!("TLS: {}", tls_words(error)));
        }
        Self::from_io(error)
    }

    /// The TLS handshake.
    pub(super) fn shaking_hands(error: &io::Error) -> Self {
        if let Some(error) = tls_error(error) {
            return Self::Server(format!("TLS: handshake failed: {}", tls_words(error)));
        }
        match Self::from_io(error) {
            Self::Server(cause) => Self::Server(format!("TLS: handshake failed: {cause}")),
            own => own,
        }
    }

    /// The TCP connection.
    pub(super) fn connecting(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::TimedOut {
            return Self::Server("timed out connecting".to_owned());
        }
        Self::from_io(error)
    }

    fn from_io(error: &io::Error) -> Self {
        if let Some(cause) = own_words(error) {
            return Self::Own(cause.to_owned());
        }
        let cause = match error.kind() {
            ErrorKind::ConnectionRefused => "connection refused",
            ErrorKind::HostUnreachable => "no route to host",
            ErrorKind::NetworkUnreachable => "no route to the network",
            ErrorKind::ConnectionReset => "connection reset by the server",
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => "connection closed by the server",
            ErrorKind::TimedOut => "timed out: the server stopped acknowledging",
            _ => return Self::Server(error.to_string()),
        };
        Self::Server(cause.to_owned())
    }
}

impl From<String> for Failure {
    fn from(cause: String) -> Self {
        Self::Server(cause)
    }
}

impl From<&str> for Failure {
    fn from(cause: &str) -> Self {
        Self::Server(cause.to_owned())
    }
}

/// Errors that come from this side of the connection.
fn own_words(error: &io::Error) -> Option<&'static str> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    match (error.kind(), error.raw_os_error()) {
        (_, Some(ENFILE | EMFILE)) => Some("too many open connections on this appliance"),
        (ErrorKind::OutOfMemory, _) | (_, Some(ENOBUFS)) => Some("out of memory on this appliance"),
        (ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse, _) => {
            Some("no free address and port on this appliance to connect from")
        }
        (ErrorKind::PermissionDenied, _) => Some("connection forbidden on this appliance"),
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(alert) => format!("the server says: {}", alert_words(*alert)),
        rustls::Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        rustls::Error::PeerIncompatible(_) => {
            "no TLS version or cipher in common (TLS 1.2 or 1.3 is needed)".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "the server has no certificate".to_owned(),
        _ => "the server does not keep to the protocol".to_owned(),
    }
}

/// `CertificateRequired` as `certificate required`.
fn alert_words(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return format!("alert {}", u8::from(alert));
    };
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_words() {
        let server = |words: &str| Failure::Server(words.to_owned());
        let own = |words: &str| Failure::Own(words.to_owned());
        let cases = [
            (111, server("connection refused")),
            (113, server("no route to host")),
            (101, server("no route to the network")),
            (110, server("timed out connecting")),
            (104, server("connection reset by the server")),
            (24, own("too many open connections on this appliance")),
            (99, own("no free address and port on this appliance to connect from")),
            (13, own("connection forbidden on this appliance")),
        ];
        for (errno, expected) in cases {
            assert_eq!(Failure::connecting(&io::Error::from_raw_os_error(errno)), expected);
        }
    }

    #[test]
    fn tls_errors_in_words() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let alert = io::Error::new(ErrorKind::InvalidData, alert);
        let expected = "TLS: the server says: certificate required";
        assert_eq!(Failure::talking(&alert), Failure::Server(expected.into()));
        assert_eq!(alert_words(AlertDescription::from(250)), "alert 250");
        let closed = io::Error::new(ErrorKind::UnexpectedEof, "tls handshake eof");
        let expected = "TLS: handshake failed: connection closed by the server";
        assert_eq!(Failure::shaking_hands(&closed), Failure::Server(expected.into()));
    }
}
