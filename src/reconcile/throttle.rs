//! Limits the requests that the runs of a process send to the stores.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// A limit of requests per second, shared by all runs of a process; or no limit.
#[derive(Debug)]
pub struct Throttle(Option<DefaultDirectRateLimiter>);

impl Throttle {
    /// At most `per_second` requests per second. A burst may have the same number. 0 means no
    /// limit.
    pub fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|rate| RateLimiter::direct(Quota::per_second(rate))))
    }

    /// Waits until the next request may be sent.
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
    async fn requests_beyond_the_limit_wait() {
        let unlimited = Throttle::new(0);
        for _ in 0..10_000 {
            unlimited.acquire().now_or_never().unwrap();
        }
        let limited = Throttle::new(50);
        let start = Instant::now();
        for _ in 0..60 {
            limited.acquire().await;
        }
        // 50 requests at once, and then ten more with 20 ms each.
        assert!(start.elapsed().as_millis() >= 180, "{:?}", start.elapsed());
    }
}
