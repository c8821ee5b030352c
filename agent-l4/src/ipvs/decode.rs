//! What the kernel sends, from attributes.

use std::net::{Ipv4Addr, Ipv6Addr};

use gantry_model::service::Protocol;

use super::attribute::Table;
use super::uapi::{self, daemon, dest, info, stats, svc, top};
use super::{
    Checksum, Destination, DestinationEntry, DestinationKey, Error, Family, Info, Method,
    Persistence, Scheduler, Service, ServiceEntry, ServiceKey, Statistics, SyncDaemon, SyncRole,
    Timeouts, Tunnel, Version,
};

/// Nothing for a service of a protocol that has no [`ServiceKey`].
pub(super) fn service(message: &Table<'_>) -> Result<Option<ServiceEntry>, Error> {
    let nest = message.nest(top::SERVICE)?;
    let Some(key) = service_key(&nest)? else { return Ok(None) };
    let scheduler = nest.text(svc::SCHED_NAME)?;
    let service = whole_service(key, &scheduler, &nest)?;
    let statistics = statistics(&nest.nest(svc::STATS64)?)?;
    Ok(Some(ServiceEntry { key, service, scheduler, statistics }))
}

pub(super) fn destination(message: &Table<'_>) -> Result<Option<DestinationEntry>, Error> {
    let nest = message.nest(top::DEST)?;
    let address = nest.address(dest::ADDR, nest.family(dest::ADDR_FAMILY)?)?;
    let destination = Destination {
        key: DestinationKey { address, port: nest.port(dest::PORT)? },
        method: method(&nest)?,
        weight: nest.u32(dest::WEIGHT)?,
        upper: nest.u32(dest::U_THRESH)?,
        lower: nest.u32(dest::L_THRESH)?,
    };
    Ok(Some(DestinationEntry {
        destination,
        active: nest.u32(dest::ACTIVE_CONNS)?,
        inactive: nest.u32(dest::INACT_CONNS)?,
        persistent: nest.u32(dest::PERSIST_CONNS)?,
        statistics: statistics(&nest.nest(dest::STATS64)?)?,
    }))
}

pub(super) fn timeouts(message: &Table<'_>) -> Result<Option<Timeouts>, Error> {
    Ok(Some(Timeouts {
        tcp: message.u32(top::TIMEOUT_TCP)?,
        tcp_fin: message.u32(top::TIMEOUT_TCP_FIN)?,
        udp: message.u32(top::TIMEOUT_UDP)?,
    }))
}

pub(super) fn info(message: &Table<'_>) -> Result<Option<Info>, Error> {
    let [_, major, minor, patch] = message.u32(info::VERSION)?.to_be_bytes();
    Ok(Some(Info {
        version: Version { major, minor, patch },
        connection_table_size: message.u32(info::CONN_TAB_SIZE)?,
    }))
}

pub(super) fn daemon(message: &Table<'_>) -> Result<Option<SyncDaemon>, Error> {
    let nest = message.nest(top::DAEMON)?;
    let role = match nest.u32(daemon::STATE)? {
        daemon::MASTER => SyncRole::Master,
        daemon::BACKUP => SyncRole::Backup,
        _ => return Err(Error::Malformed("a sync daemon in no known role")),
    };
    let group4 = nest.get(daemon::MCAST_GROUP).map(|_| nest.array::<4>(daemon::MCAST_GROUP));
    let group6 = nest.get(daemon::MCAST_GROUP6).map(|_| nest.array::<16>(daemon::MCAST_GROUP6));
    let group4 = group4.transpose()?.map(|group| Ipv4Addr::from(group).into());
    let group6 = group6.transpose()?.map(|group| Ipv6Addr::from(group).into());
    let sync_id = u8::try_from(nest.u32(daemon::SYNC_ID)?);
    Ok(Some(SyncDaemon {
        role,
        interface: nest.text(daemon::MCAST_IFN)?,
        sync_id: sync_id.map_err(|_| Error::Malformed("a sync id over 255"))?,
        max_len: nest
            .get(daemon::SYNC_MAXLEN)
            .map(|_| nest.u16(daemon::SYNC_MAXLEN))
            .transpose()?,
        group: group4.or(group6),
        port: nest.get(daemon::MCAST_PORT).map(|_| nest.u16(daemon::MCAST_PORT)).transpose()?,
        ttl: nest.get(daemon::MCAST_TTL).map(|_| nest.u8(daemon::MCAST_TTL)).transpose()?,
    }))
}

pub(super) fn service_key(nest: &Table<'_>) -> Result<Option<ServiceKey>, Error> {
    let family = nest.family(svc::AF)?;
    if nest.get(svc::FWMARK).is_some() {
        return Ok(Some(ServiceKey::Mark { family, mark: nest.u32(svc::FWMARK)? }));
    }
    let protocol = match nest.u16(svc::PROTOCOL)? {
        uapi::IPPROTO_TCP => Protocol::Tcp,
        uapi::IPPROTO_UDP => Protocol::Udp,
        _ => return Ok(None),
    };
    let address = nest.address(svc::ADDR, family)?;
    Ok(Some(ServiceKey::Address { protocol, address, port: nest.port(svc::PORT)? }))
}

fn whole_service(
    key: ServiceKey,
    scheduler: &str,
    nest: &Table<'_>,
) -> Result<Option<Service>, Error> {
    const KNOWN: u32 =
        svc::F_PERSISTENT | svc::F_HASHED | svc::F_ONEPACKET | svc::F_SCHED1 | svc::F_SCHED2;
    let [f0, f1, f2, f3, ..] = nest.array::<8>(svc::FLAGS)?;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let Some(scheduler) = Scheduler::from_name(scheduler) else { return Ok(None) };
    if flags & !KNOWN != 0 || nest.get(svc::PE_NAME).is_some() {
        return Ok(None);
    }
    let mut persistence = None;
    if flags & svc::F_PERSISTENT != 0 {
        let Some(prefix) = prefix(key.family(), nest)? else { return Ok(None) };
        persistence = Some(Persistence { timeout: nest.u32(svc::TIMEOUT)?, prefix });
    }
    Ok(Some(Service {
        key,
        scheduler,
        hash_ports: flags & svc::F_SCHED2 != 0,
        hash_fallback: flags & svc::F_SCHED1 != 0,
        one_packet: flags & svc::F_ONEPACKET != 0,
        persistence,
    }))
}

/// Nothing for a netmask that is none of a prefix, or of an empty one.
fn prefix(family: Family, nest: &Table<'_>) -> Result<Option<u8>, Error> {
    let prefix = match family {
        Family::V4 => {
            let mask = u32::from_be_bytes(nest.array(svc::NETMASK)?);
            if mask.leading_ones() + mask.trailing_zeros() != u32::BITS {
                return Ok(None);
            }
            mask.leading_ones()
        }
        Family::V6 => nest.u32(svc::NETMASK)?,
    };
    Ok(u8::try_from(prefix).ok().filter(|prefix| (1..=128).contains(prefix)))
}

fn method(nest: &Table<'_>) -> Result<Method, Error> {
    let [number, ..] = (nest.u32(dest::FWD_METHOD)? & dest::METHOD_MASK).to_le_bytes();
    Ok(match number {
        dest::MASQUERADE => Method::Masquerade,
        dest::LOCAL => Method::Local,
        dest::TUNNEL => Method::Tunnel(tunnel(nest)?),
        dest::DIRECT_ROUTING => Method::DirectRouting,
        dest::BYPASS => Method::Bypass,
        number => Method::Unknown(number),
    })
}

fn tunnel(nest: &Table<'_>) -> Result<Tunnel, Error> {
    // Kernels before 5.3 know IPIP only, and do not say so.
    if nest.get(dest::TUN_TYPE).is_none() {
        return Ok(Tunnel::Ipip);
    }
    let flags = nest.get(dest::TUN_FLAGS).map_or(Ok(0), |_| nest.u16(dest::TUN_FLAGS))?;
    let checksum = match flags {
        flags if flags & dest::REMCSUM != 0 => Checksum::Remote,
        flags if flags & dest::CSUM != 0 => Checksum::Full,
        _ => Checksum::None,
    };
    Ok(match nest.u8(dest::TUN_TYPE)? {
        dest::IPIP => Tunnel::Ipip,
        dest::GUE => Tunnel::Gue { port: nest.port(dest::TUN_PORT)?, checksum },
        dest::GRE => Tunnel::Gre { checksum },
        number => Tunnel::Unknown(number),
    })
}

fn statistics(nest: &Table<'_>) -> Result<Statistics, Error> {
    Ok(Statistics {
        connections: nest.u64(stats::CONNS)?,
        packets_in: nest.u64(stats::INPKTS)?,
        packets_out: nest.u64(stats::OUTPKTS)?,
        bytes_in: nest.u64(stats::INBYTES)?,
        bytes_out: nest.u64(stats::OUTBYTES)?,
        connections_per_second: nest.u64(stats::CPS)?,
        packets_in_per_second: nest.u64(stats::INPPS)?,
        packets_out_per_second: nest.u64(stats::OUTPPS)?,
        bytes_in_per_second: nest.u64(stats::INBPS)?,
        bytes_out_per_second: nest.u64(stats::OUTBPS)?,
    })
}
