use gantry_model::revision::{ItemHash, Revision};
use proptest::prelude::*;

use super::*;

/// The update that brings `desired` to the next revision by one upsert.
fn upsert(desired: &Desired<Bytes>, name: &str, plan: &[u8]) -> Update<Bytes> {
    let mut hash = desired.hash();
    if let Some(held) = desired.services().get(name) {
        hash.toggle(&ItemHash::of(name, held));
    }
    hash.toggle(&ItemHash::of(name, plan));
    let Revision { epoch, number } = desired.revision();
    let upserts = vec![(name.to_owned(), Bytes::copy_from_slice(plan))];
    Update {
        removals_approved: false,
        revision: Revision { epoch, number: number + 1 },
        hash,
        change: Change::Delta { upserts, removed: Vec::new() },
    }
}

fn put(ledger: &mut Ledger, desired: &mut Desired<Bytes>, name: &str, plan: &[u8]) {
    let update = upsert(desired, name, plan);
    ledger.append(&update).unwrap();
    desired.take(update).unwrap();
    ledger.tidy(desired).unwrap();
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, mut desired) = Ledger::open(dir.path()).unwrap();
    for number in 0..20 {
        put(&mut ledger, &mut desired, &format!("s{}", number % 3), &[number]);
    }
    drop(ledger);
    let (_, read) = Ledger::open(dir.path()).unwrap();
    assert_eq!(read, desired);
}

#[test]
fn it_is_written_anew_when_the_deltas_outweigh_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, mut desired) = Ledger::open(dir.path()).unwrap();
    let mut largest = 0;
    for number in 0..200u8 {
        put(&mut ledger, &mut desired, "only", &vec![number; 8 << 10]);
        largest = largest.max(ledger.size);
    }
    assert!(largest < 2 * SMALL, "{largest}");
    drop(ledger);
    assert_eq!(Ledger::open(dir.path()).unwrap().1, desired);
}

#[test]
fn two_agents_cannot_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = Ledger::open(dir.path()).unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::InUse(_))));
    drop(held);
    Ledger::open(dir.path()).unwrap();
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ledger"), "something that somebody else wrote").unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Foreign(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// Cut anywhere, the ledger gives a state that was once current, and goes on from there.
    #[test]
    fn a_torn_end_gives_an_earlier_state(cut in 0usize..2000, flip in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let (mut ledger, mut desired) = Ledger::open(dir.path()).unwrap();
        let mut states = vec![desired.clone()];
        for number in 0..12u8 {
            put(&mut ledger, &mut desired, &format!("s{}", number % 4), &[number; 9]);
            states.push(desired.clone());
        }
        drop(ledger);
        let mut content = std::fs::read(&path).unwrap();
        let at = MAGIC.len() + cut % (content.len() - MAGIC.len());
        if flip { content[at] ^= 1 } else { content.truncate(at) }
        std::fs::write(&path, content).unwrap();

        let (mut ledger, mut read) = Ledger::open(dir.path()).unwrap();
        prop_assert!(states.contains(&read));
        put(&mut ledger, &mut read, "after", b"x");
        drop(ledger);
        prop_assert_eq!(Ledger::open(dir.path()).unwrap().1, read);
    }
}
