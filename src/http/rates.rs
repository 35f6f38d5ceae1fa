//! How many requests a second a caller may send, told by the `RateLimit` headers of the IETF's
//! draft (draft-ietf-httpapi-ratelimit-headers-10) on every answer to it.
//!
//! Callers are counted by their owner, never by their address: behind a proxy all have the
//! proxy's, and `X-Forwarded-For` says whatever its sender likes. Each process counts for
//! itself.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::problem::{ApiError, Code};
use crate::domain::Owner;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// After so many requests the callers are forgotten that have their whole quota again.
const SWEEP: u32 = 1024;

type Limiter =
    RateLimiter<Owner, DefaultKeyedStateStore<Owner>, DefaultClock, StateInformationMiddleware>;

/// Counts requests by owner.
pub struct Rates {
    limiter: Limiter,
    burst: NonZeroU32,
    per_second: NonZeroU32,
    seen: AtomicU32,
}

/// Where a caller stands after a request.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    burst: u32,
    per_second: u32,
    remaining: u32,
    /// Seconds until the next request, where this one was too many.
    wait: Option<u64>,
}

/// The headers for the answer.
#[derive(Debug, Clone)]
pub struct RateHeaders(pub [(HeaderName, HeaderValue); 2]);

impl Rates {
    /// So many a second, and so many at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::keyed(quota).with_middleware();
        Self { limiter, burst, per_second, seen: AtomicU32::new(0) }
    }

    /// Counts a request.
    pub fn check(&self, owner: &Owner) -> Standing {
        if self.seen.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
        }
        let (remaining, wait) = match self.limiter.check_key(owner) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(until) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                (0, Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
            }
        };
        let (burst, per_second) = (self.burst.get(), self.per_second.get());
        Standing { burst, per_second, remaining, wait }
    }

    /// How many callers are remembered.
    pub fn remembered(&self) -> usize {
        self.limiter.len()
    }
}

impl Standing {
    /// Refuses a request that was too many.
    pub fn passed(self) -> Result<(), ApiError> {
        match self.wait {
            None => Ok(()),
            Some(seconds) => {
                let detail = format!("At most {} requests a second", self.per_second);
                let error = ApiError::saying(Code::RateLimited, detail);
                Err(error.header(RETRY_AFTER, HeaderValue::from(seconds.max(1))))
            }
        }
    }

    /// As headers: the quota with the seconds it takes to fill, and what is left of it.
    pub fn headers(self) -> RateHeaders {
        let Self { burst, per_second, remaining, wait } = self;
        let window = burst.div_ceil(per_second).max(1);
        let full = u64::from((burst - remaining.min(burst)).div_ceil(per_second));
        let reset = wait.unwrap_or(0).max(full);
        let value = |text: String| {
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        RateHeaders([
            (POLICY, value(format!("\"default\";q={burst};w={window}"))),
            (STATE, value(format!("\"default\";r={remaining};t={reset}"))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_second: u32, burst: u32) -> Rates {
        let some = |n| NonZeroU32::new(n).unwrap();
        Rates::new(some(per_second), some(burst))
    }

    #[test]
    fn a_caller_over_its_rate_is_told_when_to_come_back_and_others_are_not_touched() {
        let rates = rates(1, 3);
        let ann = Owner::named("ann");
        for left in [2, 1, 0] {
            let standing = rates.check(&ann);
            assert_eq!(standing.remaining, left);
            assert!(standing.passed().is_ok());
        }
        let standing = rates.check(&ann);
        assert_eq!(standing.passed().unwrap_err().code(), Code::RateLimited);
        let RateHeaders([policy, state]) = standing.headers();
        assert_eq!(policy.1, "\"default\";q=3;w=3");
        assert_eq!(state.1, "\"default\";r=0;t=3");
        assert!(rates.check(&Owner::named("bob")).passed().is_ok());
    }

    #[test]
    fn callers_that_have_gone_are_forgotten() {
        let rates = rates(1_000_000, 1);
        for n in 0..5 * SWEEP {
            rates.check(&Owner::named(format!("owner-{n}")));
        }
        assert!(rates.remembered() <= 2 * SWEEP as usize, "{}", rates.remembered());
    }
}
