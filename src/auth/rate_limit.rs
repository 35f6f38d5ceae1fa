//! The request rate limit of each owner.
//!
//! Callers are counted by owner and not by address: behind a proxy all callers have the
//! proxy's address, and `X-Forwarded-For` can be forged. Each process counts for itself.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::Owner;

/// After this number of requests, owners with a full quota are dropped from memory.
const SWEEP: u32 = 1024;

type Limiter =
    RateLimiter<Owner, DefaultKeyedStateStore<Owner>, DefaultClock, StateInformationMiddleware>;

/// Counts requests by owner.
pub struct RateLimit {
    limiter: Limiter,
    burst: NonZeroU32,
    per_second: NonZeroU32,
    seen: AtomicU32,
}

/// The state of an owner's quota after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStatus {
    /// The size of a full quota: the number of requests that an owner can send at once.
    pub burst: u32,
    /// The number of requests per second by which the quota is refilled.
    pub per_second: u32,
    /// The number of requests that are left.
    pub remaining: u32,
    /// If the request exceeded the quota: seconds until the next one is accepted.
    pub retry_after: Option<u64>,
}

impl RateLimit {
    /// A limit of `per_second` requests on average, and of `burst` requests at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::keyed(quota).with_middleware();
        Self { limiter, burst, per_second, seen: AtomicU32::new(0) }
    }

    /// Counts a request of an owner.
    pub fn check(&self, owner: &Owner) -> RateStatus {
        self.check_many(owner, NonZeroU32::MIN)
    }

    /// Counts several requests of an owner. If they exceed the limit, none of them is counted.
    pub fn check_many(&self, owner: &Owner, requests: NonZeroU32) -> RateStatus {
        if self.seen.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
        }
        let (burst, per_second) = (self.burst.get(), self.per_second.get());
        let (remaining, retry_after) = match self.limiter.check_key_n(owner, requests) {
            Ok(Ok(state)) => (state.remaining_burst_capacity(), None),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                (0, Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)))
            }
            // More requests than a full quota: waiting does not help.
            Err(_) => (0, Some(u64::from(burst.div_ceil(per_second)).max(1))),
        };
        RateStatus { burst, per_second, remaining, retry_after }
    }

    /// The number of owners in memory.
    pub fn owners_in_memory(&self) -> usize {
        self.limiter.len()
    }
}

impl RateStatus {
    /// The time in which an empty quota is refilled, in seconds.
    pub fn window(self) -> u32 {
        self.burst.div_ceil(self.per_second).max(1)
    }

    /// Seconds until the quota is full again, but at least until the next request is accepted.
    pub fn reset(self) -> u64 {
        let used = self.burst - self.remaining.min(self.burst);
        self.retry_after.unwrap_or(0).max(u64::from(used.div_ceil(self.per_second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        let some = |n| NonZeroU32::new(n).unwrap();
        RateLimit::new(some(per_second), some(burst))
    }

    #[test]
    fn an_owner_over_its_rate_is_limited_and_other_owners_are_not() {
        let limit = limit(1, 3);
        let ann = Owner::named("ann");
        for left in [2, 1, 0] {
            let status = limit.check(&ann);
            assert_eq!((status.remaining, status.retry_after), (left, None));
        }
        let status = limit.check(&ann);
        assert_eq!((status.remaining, status.retry_after), (0, Some(1)));
        assert_eq!((status.window(), status.reset()), (3, 3));
        assert_eq!(limit.check(&Owner::named("bob")).retry_after, None);
    }

    #[test]
    fn several_requests_count_all_or_none() {
        let limit = limit(1, 5);
        let ann = Owner::named("ann");
        let check = |requests| limit.check_many(&ann, NonZeroU32::new(requests).unwrap());
        assert_eq!((check(3).remaining, check(3).retry_after), (2, Some(1)));
        assert_eq!(check(2).retry_after, None, "refused requests are not counted");
        assert_eq!(check(6).retry_after, Some(5), "more than a full quota");
    }

    #[test]
    fn owners_with_a_full_quota_are_dropped_from_memory() {
        let limit = limit(1_000_000, 1);
        for n in 0..5 * SWEEP {
            limit.check(&Owner::named(format!("owner-{n}")));
        }
        assert!(limit.owners_in_memory() <= 2 * SWEEP as usize, "{}", limit.owners_in_memory());
    }
}
