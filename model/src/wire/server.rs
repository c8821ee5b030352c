//! Real servers.

use gantry_proto::v1 as pb;
use pb::real_server::AdminState as Admin;

use super::layer7::pool;
use super::{choice, endpoint, endpoint_message, label, number, timestamp, timestamp_message};
use crate::name::{Id, ServerName};
use crate::server::{AdminState, RealServer, Weight};
use crate::violation::Violations;

/// Reads the configuration of the real server `name`; what the message calls itself is ignored.
pub fn real_server(
    violations: &mut Violations,
    name: ServerName,
    message: &pb::RealServer,
) -> Option<RealServer> {
    let endpoint = match &message.endpoint {
        Some(given) => violations.within("endpoint", |violations| endpoint(violations, given)),
        None => {
            let what = "is required: give the address (and port) where the server listens";
            violations.add("endpoint", "REQUIRED", what);
            None
        }
    };
    let label = label(violations, &message.display_name);
    let weight = weight(violations, message.weight);
    let priority = number(violations, "priority", message.priority, u32::from(u16::MAX));
    let (min_connections, max_connections) = limits(violations, message);
    let admin_state = admin_state(violations, message);
    let pool = pool(violations, &message.pool);
    Some(RealServer {
        name,
        label,
        endpoint: endpoint?,
        weight: weight?,
        priority: u16::try_from(priority).ok()?,
        min_connections,
        max_connections,
        admin_state: admin_state?,
        pool: pool?,
    })
}

/// Writes the configuration of a real server.
pub fn real_server_message(server: &RealServer) -> pb::RealServer {
    let (admin_state, halt_time) = match server.admin_state {
        AdminState::Online => (Admin::Online, None),
        AdminState::Drain { halt_at } => (Admin::Drain, halt_at.map(timestamp_message)),
        AdminState::Halt => (Admin::Halt, None),
    };
    pb::RealServer {
        name: server.name.to_string(),
        display_name: server.label.clone(),
        endpoint: Some(endpoint_message(&server.endpoint)),
        weight: Some(i32::from(server.weight.get())),
        priority: i32::from(server.priority),
        min_connections: i32::try_from(server.min_connections).unwrap_or(i32::MAX),
        max_connections: i32::try_from(server.max_connections).unwrap_or(i32::MAX),
        admin_state: admin_state.into(),
        halt_time,
        pool: server.pool.as_ref().map(Id::to_string).unwrap_or_default(),
        ..Default::default()
    }
}

fn weight(violations: &mut Violations, value: Option<i32>) -> Option<Weight> {
    let Some(value) = value else { return Some(Weight::DEFAULT) };
    let weight = u16::try_from(value).ok().and_then(Weight::new);
    if weight.is_none() {
        let what = format!("{value} is out of range: use 0 to {}", Weight::MAX.get());
        violations.add("weight", "OUT_OF_RANGE", what);
    }
    weight
}

fn limits(violations: &mut Violations, message: &pb::RealServer) -> (u32, u32) {
    let most = 1_000_000;
    let min = number(violations, "min_connections", message.min_connections, most);
    let max = number(violations, "max_connections", message.max_connections, most);
    if min > 0 && max == 0 && message.max_connections == 0 {
        let what = "needs max_connections: it says when a full server is used again";
        violations.add("min_connections", "NEEDS_MAX_CONNECTIONS", what);
    } else if max > 0 && min > max {
        let what = format!("{min} is more than max_connections, which is {max}");
        violations.add("min_connections", "OUT_OF_RANGE", what);
    }
    (min, max)
}

fn admin_state(violations: &mut Violations, message: &pb::RealServer) -> Option<AdminState> {
    let state = choice::<Admin>(violations, "admin_state", message.admin_state)?;
    let halt_at = match &message.halt_time {
        None => None,
        Some(_) if state != Admin::Drain => {
            let what = "is only for admin_state DRAIN: it says when the drain becomes a halt";
            violations.add("halt_time", "NEEDS_DRAIN", what);
            return None;
        }
        Some(time) => {
            let time = timestamp(time);
            if time.is_none() {
                violations.add("halt_time", "INVALID_TIME", "is not a time from year 1 to 9999");
            }
            Some(time?)
        }
    };
    Some(match state {
        Admin::Unspecified | Admin::Online => AdminState::Online,
        Admin::Drain => AdminState::Drain { halt_at },
        Admin::Halt => AdminState::Halt,
    })
}
