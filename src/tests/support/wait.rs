//! Waits for a condition with a time limit, instead of fixed sleeps.

use std::time::{Duration, Instant};

/// The time limit on a slow machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The time between two checks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Repeats `probe` until it returns a value, and returns that value. Panics with `what` if there
/// is none within a minute.
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for_at_most(LIMIT, what, probe).await
}

/// Like [`wait_for`], with another time limit.
pub async fn wait_for_at_most<T>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
