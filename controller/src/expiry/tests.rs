use gantry_model::violation::Violations;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::certificate::Material;
use crate::store::{Change, EventFilter, Write};

#[test]
fn each_stage_begins_when_it_is_said_to() {
    let end: Timestamp = "2026-12-31T12:00:00Z".parse().unwrap();
    for (now, expected) in [
        ("2026-11-30T12:00:00Z", Stage::Far),
        ("2026-12-01T11:59:59Z", Stage::Far),
        ("2026-12-01T12:00:00Z", Stage::Month),
        ("2026-12-24T11:59:59Z", Stage::Month),
        ("2026-12-24T12:00:00Z", Stage::Week),
        ("2026-12-30T12:00:00Z", Stage::Day),
        ("2026-12-31T12:00:00Z", Stage::Over),
        ("2027-12-31T12:00:00Z", Stage::Over),
    ] {
        assert_eq!(stage(end, now.parse().unwrap()), expected, "{now}");
    }
}

/// Imports a certificate that ends at about `end`, and gives its exact end.
async fn import(store: &Store, name: &str, end: Timestamp) -> Timestamp {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["pacs.example".to_owned()]).unwrap();
    params.not_after = time::OffsetDateTime::from_unix_timestamp(end.as_second()).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let begin = end - SignedDuration::from_hours(24 * 365);
    let mut violations = Violations::new();
    let material = Material::read(&mut violations, &chain, &key.serialize_pem(), begin).unwrap();
    let end = material.facts.expire_time;
    let name: CertificateName = format!("certificates/{name}").parse().unwrap();
    let write = Write::PutCertificate(name, Box::new(material));
    let change = Change { writes: vec![write], ..Change::default() };
    let done = store.change::<_, ()>(|_| Ok((change, ())), |_, _| {}).await;
    assert!(done.is_ok());
    end
}

async fn told(store: &Store) -> Vec<(String, Severity)> {
    let filter = EventFilter { limit: 100, ..EventFilter::default() };
    let events = store.events(&filter).await.unwrap();
    events.into_iter().rev().map(|event| (event.kind, event.severity)).collect()
}

/// The events of the log have the time at which they were written, so time stands still here and the
/// certificates are what moves.
#[tokio::test]
async fn an_end_is_told_once_for_each_stage_and_again_for_a_successor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gantry.db");
    let store = Store::open(&path).await.unwrap();
    let now = clock::wall();
    let days =
        |days: i64| now + SignedDuration::from_hours(24 * days) - SignedDuration::from_mins(9);
    import(&store, "far", days(100)).await;
    import(&store, "month", days(30)).await;
    import(&store, "day", days(1)).await;
    for _ in 0..2 {
        look(&store, clock::wall()).await.unwrap();
    }
    let once = [(EXPIRING.to_owned(), Severity::Info), (EXPIRING.to_owned(), Severity::Info)];
    assert_eq!(told(&store).await, once, "nobody uses them, so nothing is at stake");
    store.close().await;

    let store = Store::open(&path).await.unwrap();
    look(&store, clock::wall()).await.unwrap();
    assert_eq!(told(&store).await.len(), 2, "a restart repeats nothing");
    let end = import(&store, "day", days(7)).await;
    look(&store, clock::wall()).await.unwrap();
    assert_eq!(told(&store).await.len(), 3, "the successor ends soon as well");
    look(&store, end).await.unwrap();
    let all = told(&store).await;
    assert!(all.contains(&(EXPIRED.to_owned(), Severity::Info)), "{all:?}");
}
