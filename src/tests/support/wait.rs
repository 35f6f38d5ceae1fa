//! Waiting for a condition, with a limit, in place of fixed sleeps.

use std::time::{Duration, Instant};

/// How long a slow machine may take until a condition holds.
const LIMIT: Duration = Duration::from_mins(1);

/// The time between two checks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Repeats `probe` until it returns a value, and returns that value. Panics with `what` if there
/// is none within a minute.
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for_at_most(LIMIT, what, probe).await
}

/// As [`wait_for`], with a limit of its own.
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
