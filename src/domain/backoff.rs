//! Exponential back-off.

use std::time::Duration;

/// The largest number of doublings. It prevents an overflow; pauses reach their limit earlier.
const MAX_DOUBLINGS: u32 = 16;

/// Pauses that double with each failure, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after a failure that follows `earlier` other failures in a row.
    pub fn pause(self, earlier: u32) -> Duration {
        (self.first * (1 << earlier.min(MAX_DOUBLINGS))).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let seconds = Duration::from_secs;
        let backoff = Backoff { first: seconds(5), longest: seconds(300) };
        let pauses = [0, 1, 2, 5, 6, u32::MAX].map(|earlier| backoff.pause(earlier).as_secs());
        assert_eq!(pauses, [5, 10, 20, 160, 300, 300]);
    }
}
