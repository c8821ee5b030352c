use super::*;

fn children(dir: &Path) -> Children {
    Children::new(Records { xtask: "xtask".into(), logs: dir.join("logs"), pids: dir.join("run") })
        .unwrap()
}

#[test]
fn the_end_of_a_log_is_a_few_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    assert!(tail(&log).is_empty());
    let text: String = (0..20).map(|line| format!("{line}\n")).collect();
    fs::write(&log, text).unwrap();
    assert_eq!(tail(&log), ["12", "13", "14", "15", "16", "17", "18", "19"]);
}

#[test]
fn the_end_of_a_process_is_told_in_words() {
    assert_eq!(how(&Ok(ExitStatus::from_raw(9))), "killed by signal 9");
    assert_eq!(how(&Ok(ExitStatus::from_raw(2 << 8))), "exit code 2");
}

#[tokio::test]
async fn with_nothing_running_there_is_nothing_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut children = children(dir.path());
    assert!(children.is_empty());
    let next = tokio::time::timeout(Duration::from_millis(20), children.next_end()).await;
    assert!(next.is_err(), "{next:?}");
    children.end().await;
}
