//! Time as an argument.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Datelike as _, SecondsFormat, TimeDelta, Timelike as _, Utc};

/// A moment in UTC, to the microsecond: what both databases keep.
pub type Timestamp = DateTime<Utc>;

/// Where the time comes from: the system in production, the test's hand in tests.
pub trait Clock: Send + Sync {
    /// The present moment, to the microsecond.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        let now = Utc::now();
        to_micros(now)
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.timestamp_micros()))
    }

    /// Moves the clock by `delta`.
    pub fn advance(&self, delta: TimeDelta) {
        self.0.fetch_add(delta.num_microseconds().unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

/// Cuts a moment to the microsecond, so that a value read back equals the one written.
pub fn to_micros(at: Timestamp) -> Timestamp {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// A moment as RFC 3339 has it, `2026-11-23T00:41:33.000123Z`: what chrono writes, in a fraction of
/// the time. Every request has some of them, and every row of a list. Behind the point are none, 3, 6
/// or 9 digits, as it needs, but `least` of them.
pub fn in_rfc3339<R>(at: Timestamp, least: usize, take: impl FnOnce(&str) -> R) -> R {
    let (year, nanos) = (at.year(), at.nanosecond());
    // More than a second of nanoseconds is a leap second.
    if !(0..=9999).contains(&year) || nanos >= 1_000_000_000 {
        return take(&at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    }
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let mut put = |at: usize, digits: usize, mut number: u32| {
        for place in text[at..at + digits].iter_mut().rev() {
            *place = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
    };
    put(0, 4, year.unsigned_abs());
    put(5, 2, at.month());
    put(8, 2, at.day());
    put(11, 2, at.hour());
    put(14, 2, at.minute());
    put(17, 2, at.second());
    put(20, 9, nanos);
    let needed = match nanos {
        0 => 0,
        _ if nanos.is_multiple_of(1_000_000) => 3,
        _ if nanos.is_multiple_of(1_000) => 6,
        _ => 9,
    };
    let end = match needed.max(least) {
        0 => 19,
        digits => 20 + digits,
    };
    text[end] = b'Z';
    take(std::str::from_utf8(&text[..=end]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn moments_are_written_as_chrono_writes_them(
            seconds in prop_oneof![-99_999_999_999_i64..999_999_999_999, 0..4_000_000_000_i64],
            nanos in 0..2_000_000_000_u32, cut in 0..10_u32,
        ) {
            let nanos = nanos / 10_u32.pow(cut) * 10_u32.pow(cut);
            let Some(at) = DateTime::from_timestamp(seconds, nanos) else { return Ok(()) };
            let theirs = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            prop_assert_eq!(in_rfc3339(at, 0, str::to_owned), theirs);
        }

        #[test]
        fn the_digits_asked_for_are_there(micros in 0..4_000_000_000_000_000_i64) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let theirs = at.to_rfc3339_opts(SecondsFormat::Micros, true);
            prop_assert_eq!(in_rfc3339(at, 6, str::to_owned), theirs);
        }
    }
}
