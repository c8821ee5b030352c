use std::convert::Infallible;

use std::net::Ipv4Addr;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn table(prefix: u8) -> Arc<Sticky> {
    let (key, prefix) = (PersistenceKey::SourceIp, NonZeroU8::new(prefix));
    Arc::new(Sticky::new(&Persistence { key, timeout: HOUR, prefix }))
}

fn identity(address: &str) -> Identity {
    Identity::Address(address.parse().unwrap())
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
    let Ok(settled) = table.settle(identity(client), timeout, choose);
    settled
}

fn size(table: &Sticky) -> usize {
    table.shards.iter().map(|shard| shard.lock().iter().count()).sum()
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
    let refused = table.settle(identity("10.0.0.1"), HOUR, |_| Err::<(Id, ()), _>(()));
    assert!(refused.is_err());
    assert_eq!(visit(&table, "10.0.0.1", HOUR, "b").0, id("a"));
    assert!(table.settle(identity("10.0.0.9"), HOUR, |_| Err::<(Id, ()), _>(())).is_err());
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

fn rounded(left: Duration) -> u64 {
    (left + Duration::from_millis(999)).as_secs()
}

/// The clients of a table in their order, each with its server and the seconds that are left.
fn told(table: &Sticky, only: Option<&str>, timeout: Duration) -> Vec<(String, Id, u64)> {
    let only = only.map(|client| table.read(client).unwrap());
    let mut all: Vec<_> = table
        .remembered(only.as_ref(), timeout)
        .into_iter()
        .map(|one| (one.client.to_string(), one.server, rounded(one.left)))
        .collect();
    all.sort();
    all
}

#[test]
fn whom_it_remembers_can_be_told() {
    let table = table(24);
    let open = visit(&table, "10.0.1.9", HOUR, "a").1;
    drop(visit(&table, "10.0.2.9", HOUR, "b"));
    let all = [("10.0.1.0".to_owned(), id("a"), 3600), ("10.0.2.0".to_owned(), id("b"), 3600)];
    assert_eq!(told(&table, None, HOUR), all);
    assert_eq!(told(&table, Some("10.0.2.77"), HOUR), all[1..]);
    assert_eq!(told(&table, Some("10.0.3.1"), HOUR), []);
    let at_once = told(&table, None, Duration::ZERO);
    assert_eq!(at_once, [("10.0.1.0".to_owned(), id("a"), 0)], "it is connected");
    drop(open);
    assert_eq!(told(&table, None, Duration::ZERO), []);
}

#[test]
fn a_client_that_is_forgotten_may_go_elsewhere_and_its_connections_go_on() {
    let table = table(0);
    let (_, old) = visit(&table, "10.0.0.1", HOUR, "a");
    table.forget(&identity("10.0.0.1"));
    table.forget(&identity("10.0.0.2"));
    assert_eq!(told(&table, None, HOUR), []);
    let (server, new) = visit(&table, "10.0.0.1", Duration::ZERO, "b");
    assert_eq!(server, id("b"));
    drop(old);
    assert_eq!(visit(&table, "10.0.0.1", Duration::ZERO, "c").0, id("b"), "one is open yet");
    drop(new);
    assert_eq!(visit(&table, "10.0.0.1", Duration::ZERO, "c").0, id("c"));
    assert_eq!(size(&table), 1);
}
