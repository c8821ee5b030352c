//! What this proxy cannot carry out, said so that an operator knows what to do.

use std::net::SocketAddr;

use gantry_model::name::ServiceName;
use gantry_model::service::{CongestionControl, Forwarding, Layer7, Protocol, VirtualService};
use rustix::io::Errno;

use crate::tls::Unfit;

/// Why a service was not put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refusal {
    /// For programs, in capitals.
    pub reason: &'static str,
    /// The field that has to change, as the API names it.
    pub field: String,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// The layer 7 settings of a service that can be carried out.
pub(super) fn check(service: &VirtualService) -> Result<&Layer7, Refusal> {
    let Forwarding::Layer7(layer7) = &service.forwarding else {
        return Err(refusal(
            "UNSUPPORTED_FORWARDING",
            "forwarding",
            "the proxy carries layer 7 services only: leave this one to the layer 4 agent",
        ));
    };
    for (refused, reason, field, message) in [(
        service.listener.protocol != Protocol::Tcp,
        "UNSUPPORTED_PROTOCOL",
        "listener.protocol",
        "the proxy listens on TCP only: use layer 4 forwarding for UDP",
    )] {
        if refused {
            return Err(refusal(reason, field, message));
        }
    }
    Ok(layer7)
}

/// Connections cannot come from the addresses of clients.
pub(super) fn cannot_be_transparent(error: Errno) -> Refusal {
    let message = match error {
        Errno::PERM => {
            "grant agent-l7 CAP_NET_RAW (deploy/README.md says how), or leave this out".to_owned()
        }
        _ => format!("the kernel refuses: {error}; leave this out"),
    };
    refusal("PERMISSION_DENIED", "layer7.transparent_source", &message)
}

/// The threads that serve HTTP cannot be started.
pub(super) fn no_threads(error: &std::io::Error) -> Refusal {
    let message = format!("the kernel gives no threads for HTTP: {error}; free some memory");
    refusal("OUT_OF_THREADS", "layer7.mode", &message)
}

/// TLS cannot be spoken so.
pub(super) fn unfit(Unfit { field, message }: Unfit) -> Refusal {
    refusal("UNSUPPORTED_TLS", &format!("layer7.{field}"), &message)
}

/// Connections cannot have this congestion control.
pub(super) fn cannot_use(name: &CongestionControl, error: Errno) -> Refusal {
    let name = name.as_str();
    let message = match error {
        Errno::NOENT => format!(
            "this kernel has no congestion control {name}: use one of those in \
             /proc/sys/net/ipv4/tcp_available_congestion_control, or load its module, tcp_{name}"
        ),
        Errno::PERM => format!(
            "only an administrator may use the congestion control {name}: add it to \
             net.ipv4.tcp_allowed_congestion_control, or use another"
        ),
        _ => format!("the kernel refuses: {error}"),
    };
    refusal("UNSUPPORTED_TCP", "layer7.tcp.congestion_control", &message)
}

/// Another service listens at `address`.
pub(super) fn taken(address: SocketAddr, holder: &ServiceName) -> Refusal {
    let message = format!("{holder} listens at {address}: use another address or port");
    refusal("ADDRESS_IN_USE", "listener.address", &message)
}

/// Why nobody can listen at `address`.
pub(super) fn cannot_listen(address: SocketAddr, error: Errno) -> Refusal {
    let (reason, field, advice) = match error {
        Errno::ADDRINUSE => (
            "ADDRESS_IN_USE",
            "listener.address",
            "somebody else listens there: stop it, or use another address or port",
        ),
        Errno::ACCESS | Errno::PERM => (
            "PERMISSION_DENIED",
            "listener.ports",
            "grant the agent CAP_NET_BIND_SERVICE, or use ports from 1024",
        ),
        Errno::MFILE | Errno::NFILE => (
            "OUT_OF_DESCRIPTORS",
            "listener.ports",
            "no file descriptors are left: raise LimitNOFILE of the agent, or use fewer ports",
        ),
        Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => (
            "ADDRESS_UNAVAILABLE",
            "listener.address",
            "this machine cannot have such an address: use another, or enable its family",
        ),
        _ => ("LISTEN_FAILED", "listener.address", "see the agent's machine for the cause"),
    };
    refusal(reason, field, &format!("cannot listen at {address}: {error}; {advice}"))
}

fn refusal(reason: &'static str, field: &str, message: &str) -> Refusal {
    Refusal { reason, field: field.to_owned(), message: message.to_owned() }
}
