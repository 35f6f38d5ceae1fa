//! How fast the runs of a process may ask the stores.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// A bound on requests a second, shared by all runs of a process; or none.
#[derive(Debug)]
pub struct Throttle(Option<DefaultDirectRateLimiter>);

impl Throttle {
    /// At most so many requests a second, and no more than that at once; 0 is no bound.
    pub fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|rate| RateLimiter::direct(Quota::per_second(rate))))
    }

    /// Waits for the next request's turn.
    pub async fn acquire(&self) {
        if let Some(limiter) = &self.0 {
            limiter.until_ready().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_beyond_the_rate_waits_its_turn() {
        let free = Throttle::new(0);
        for _ in 0..10_000 {
            free.acquire().now_or_never().expect("no bound");
        }
        let bound = Throttle::new(50);
        let start = Instant::now();
        for _ in 0..60 {
            bound.acquire().await;
        }
        // 50 at once, and ten more at 20 ms each.
        assert!(start.elapsed().as_millis() >= 180, "{:?}", start.elapsed());
    }
}
