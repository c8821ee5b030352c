//! Waiting for a condition, never for time to pass.

use std::time::Duration;

use gantry_runtime::clock;

/// Far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer; gives it.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = clock::monotonic();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(clock::monotonic() - begun < PATIENCE, "it never came true that {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for something that has to happen by itself; fails when it does not.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("it never came to this: {what}"),
    }
}
