use std::convert::Infallible;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn table(prefix: u8) -> Arc<Sticky> {
    Arc::new(Sticky::new(NonZeroU8::new(prefix)))
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// Connects as `client`; goes home if there is a home, or else to `server`.
fn visit(table: &Arc<Sticky>, client: &str, timeout: Duration, server: &str) -> (Id, Lease) {
    let choose = |home: Option<&Id>| {
        let server = home.cloned().unwrap_or_else(|| id(server));
        Ok::<_, Infallible>((server.clone(), server))
    };
    let Ok(settled) = table.settle(client.parse().unwrap(), timeout, choose);
    settled
}

fn size(table: &Sticky) -> usize {
    let sizes = table.shards.iter().map(|shard| {
        let shard = shard.lock();
        assert_eq!(shard.clients.len(), shard.round.len());
        shard.clients.len()
    });
    sizes.sum()
}

#[test]
fn addresses_are_masked() {
    for (client, prefix, key) in [
        ("10.1.2.3", 0, "10.1.2.3"),
        ("10.1.2.3", 24, "10.1.2.0"),
        ("10.1.2.3", 1, "0.0.0.0"),
        ("10.1.2.3", 32, "10.1.2.3"),
        ("10.1.2.3", 64, "10.1.2.3"),
        ("::ffff:10.1.2.3", 16, "10.1.0.0"),
        ("2001:db8:1:2:3::4", 64, "2001:db8:1:2::"),
        ("2001:db8:1:2:3::4", 128, "2001:db8:1:2:3::4"),
        ("2001:db8::1", 0, "2001:db8::1"),
    ] {
        let masked = masked(client.parse().unwrap(), NonZeroU8::new(prefix));
        assert_eq!(masked, key.parse::<IpAddr>().unwrap(), "{client}/{prefix}");
    }
}

#[test]
fn a_prefix_is_one_client() {
    let table = table(24);
    assert_eq!(visit(&table, "10.0.0.1", HOUR, "a").0, id("a"));
    assert_eq!(visit(&table, "10.0.0.2", HOUR, "b").0, id("a"));
    assert_eq!(visit(&table, "10.0.1.1", HOUR, "c").0, id("c"));
}

#[test]
fn a_client_with_an_open_connection_is_not_forgotten() {
    let table = table(0);
    let (_, first) = visit(&table, "10.0.0.1", Duration::ZERO, "a");
    let (server, second) = visit(&table, "10.0.0.1", Duration::ZERO, "b");
    assert_eq!(server, id("a"));
    drop(first);
    assert_eq!(visit(&table, "10.0.0.1", Duration::ZERO, "b").0, id("a"));
    drop(second);
    assert_eq!(visit(&table, "10.0.0.1", Duration::ZERO, "b").0, id("b"));
}

#[test]
fn a_decision_that_fails_changes_nothing() {
    let table = table(0);
    drop(visit(&table, "10.0.0.1", HOUR, "a"));
    let refused = table.settle("10.0.0.1".parse().unwrap(), HOUR, |_| Err::<(Id, ()), _>(()));
    assert!(refused.is_err());
    assert_eq!(visit(&table, "10.0.0.1", HOUR, "b").0, id("a"));
    assert!(table.settle("10.0.0.9".parse().unwrap(), HOUR, |_| Err::<(Id, ()), _>(())).is_err());
    assert_eq!(size(&table), 1);
}

#[test]
fn what_has_expired_is_swept_while_others_come() {
    let table = table(0);
    for client in 0..10_000_u32 {
        let client = Ipv4Addr::from(client).to_string();
        drop(visit(&table, &client, Duration::ZERO, "a"));
    }
    assert!(size(&table) <= 2 * SHARDS, "{} are left", size(&table));
}
