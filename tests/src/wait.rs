//! Waiting for a condition, never for time to pass.

use std::net::SocketAddr;
use std::time::Duration;

use gantry_runtime::clock;
use tokio::net::TcpStream;

/// Far longer than anything takes on a busy machine, and on an emulated one.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_EMULATED: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(20);

/// How long to wait for what must come. While a test is being written, `GANTRY_PATIENCE` says how many
/// seconds.
pub fn patience() -> Duration {
    let said = std::env::var("GANTRY_PATIENCE").ok().and_then(|text| text.parse().ok());
    let usual = if is_emulated() { PATIENCE_EMULATED } else { PATIENCE };
    said.map_or(usual, Duration::from_secs)
}

/// Whether this runs in the VM of `kernel-vm`, whose processor is emulated: all is slow there.
pub fn is_emulated() -> bool {
    std::env::var_os("KERNEL_VM").is_some()
}

/// Asks again and again until there is an answer; gives it.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let (begun, patience) = (clock::monotonic(), patience());
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(clock::monotonic() - begun < patience, "it never came true that {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until somebody takes connections at `at`.
pub async fn listens(at: SocketAddr) {
    let what = format!("somebody listens at {at}");
    eventually(&what, async || TcpStream::connect(at).await.ok()).await;
}

/// Waits for something that has to happen by itself; fails when it does not.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience(), event).await {
        Ok(value) => value,
        Err(_) => panic!("it never came to this: {what}"),
    }
}
