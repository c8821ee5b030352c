use std::time::Duration;

use gantry_model::verdict::Layer;
use gantry_runtime::clock;

use super::*;

fn server(id: &str) -> ServerName {
    format!("clusters/main/virtualServices/dicom/realServers/{id}").parse().unwrap()
}

fn result(healthy: bool) -> CheckResult {
    let (layer, cause) = (Layer::Application, format!("C-ECHO {healthy}"));
    CheckResult { healthy, layer, cause, at: clock::wall(), took: Duration::ZERO }
}

fn ids(changes: &Changes) -> (bool, Vec<String>, Vec<String>) {
    let id = |server: &ServerName| server.server.to_string();
    let verdict = |verdict: &Verdict| format!("{} {}", id(&verdict.server), verdict.healthy);
    let mut verdicts: Vec<_> = changes.verdicts.iter().map(verdict).collect();
    verdicts.sort();
    (changes.whole, verdicts, changes.gone.iter().map(id).collect())
}

/// What [`ids`] should give.
fn expected(whole: bool, verdicts: &[&str], gone: &[&str]) -> (bool, Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    (whole, owned(verdicts), owned(gone))
}

#[test]
fn a_reader_sees_all_and_then_what_changed() {
    let board = Board::new([]);
    let (one, two) = (board.seat(server("one")), board.seat(server("two")));
    assert_eq!(ids(&board.changes_since(0)), expected(true, &[], &[]));
    one.record(true, result(true));
    two.record(false, result(false));
    let all = board.changes_since(0);
    assert_eq!(ids(&all), expected(true, &["one true", "two false"], &[]));
    assert_eq!(ids(&board.changes_since(all.version)), expected(false, &[], &[]));
    one.record(false, result(false));
    one.record(true, result(true));
    one.record(false, result(false));
    let changes = board.changes_since(all.version);
    assert_eq!(ids(&changes), expected(false, &["one false"], &[]));
    board.forget(&server("two"));
    assert_eq!(ids(&board.changes_since(changes.version)), expected(false, &[], &["two"]));
    let both = board.changes_since(all.version);
    assert_eq!(ids(&both), expected(false, &["one false"], &["two"]));
    board.seat(server("two")).record(true, result(true));
    let back = board.changes_since(changes.version);
    assert_eq!(ids(&back), expected(false, &["two true"], &[]));
}

#[test]
fn only_a_change_of_conclusion_wakes() {
    let board = Board::new([]);
    let seat = board.seat(server("one"));
    let mut woken = board.subscribe();
    seat.record(true, result(true));
    assert!(woken.has_changed().unwrap());
    woken.mark_unchanged();
    let before = board.verdict(&server("one")).unwrap();
    // A failure that is not yet believed is shown, but is not what the verdict rests on.
    seat.record(true, result(false));
    assert!(!woken.has_changed().unwrap());
    assert_eq!(board.verdict(&server("one")), Some(before.clone()));
    let shown = board.take_results(9);
    assert!(!shown[0].last.healthy && shown[0].healthy);
    assert!(board.take_results(9).is_empty(), "it was taken");
    seat.record(true, result(true));
    let after = board.verdict(&server("one")).unwrap();
    assert_eq!(after.since, before.since);
    assert!(after.last.at >= before.last.at && !woken.has_changed().unwrap());
    board.forget(&server("one"));
    assert!(woken.has_changed().unwrap());
}

#[test]
fn a_seat_that_was_given_up_records_nothing() {
    let board = Board::new([]);
    let old = board.seat(server("one"));
    old.record(true, result(true));
    board.forget(&server("one"));
    old.record(true, result(true));
    assert_eq!(board.verdict(&server("one")), None);
    let new = board.seat(server("one"));
    old.record(true, result(true));
    assert_eq!(board.verdict(&server("one")), None);
    new.record(false, result(false));
    assert_eq!(new.opinion(), Some(false));
}

#[test]
fn verdicts_outlive_a_restart() {
    let last = result(false);
    let verdict = Verdict { server: server("one"), healthy: false, since: last.at, last };
    let board = Board::new(vec![verdict.clone()]);
    assert_eq!(board.changes_since(0).verdicts, vec![verdict.clone()]);
    let seat = board.seat(server("one"));
    assert_eq!(seat.opinion(), Some(false));
    let version = board.changes_since(0).version;
    seat.record(false, result(false));
    assert_eq!(board.verdict(&server("one")).unwrap().since, verdict.since);
    assert!(board.changes_since(version).verdicts.is_empty());
}

#[test]
fn a_reader_far_behind_gets_everything() {
    let board = Board::new([]);
    board.seat(server("stays")).record(true, result(true));
    let early = board.changes_since(0).version;
    for number in 0..=REMEMBERED {
        let name = server(&format!("s{number}"));
        board.seat(name.clone()).record(true, result(true));
        board.forget(&name);
    }
    assert_eq!(ids(&board.changes_since(early)), expected(true, &["stays true"], &[]));
    let version = board.changes_since(early).version;
    assert_eq!(ids(&board.changes_since(version)), expected(false, &[], &[]));
    let other_boards = board.changes_since(version + 1);
    assert_eq!(ids(&other_boards), expected(true, &["stays true"], &[]));
}

#[test]
fn results_are_taken_in_turn() {
    let board = Board::new([]);
    let seats = ["one", "two", "three"].map(|id| board.seat(server(id)));
    seats.iter().for_each(|seat| seat.record(true, result(true)));
    let take = |most| -> Vec<_> {
        board.take_results(most).into_iter().map(|verdict| verdict.server).collect()
    };
    assert_eq!(take(2), [server("one"), server("two")]);
    seats.iter().for_each(|seat| seat.record(true, result(true)));
    board.forget(&server("one"));
    assert_eq!(take(9), [server("three"), server("two")]);
}
