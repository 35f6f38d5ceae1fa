//! Durations, such as `"90s"` or `"7d"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::parsed;

/// The longest duration: long enough for every retention, and short enough for date arithmetic.
const MAX_DURATION: Duration = Duration::from_hours(36_500 * 24);

/// A span of time, written `90s`, `15min`, `1h` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(Duration);

impl ConfigDuration {
    /// A number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A number of hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_secs(hours * 3600)
    }

    /// Converts to the type of the standard library.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Converts to the type of date arithmetic.
    pub fn delta(self) -> TimeDelta {
        TimeDelta::from_std(self.0).unwrap_or(TimeDelta::MAX)
    }
}

impl FromStr for ConfigDuration {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        humantime::parse_duration(text)
            .ok()
            .filter(|duration| *duration <= MAX_DURATION)
            .map(Self)
            .ok_or(())
    }
}

impl fmt::Display for ConfigDuration {
    /// Uses the largest unit that is exact: `36h` and not `1d 12h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if self.0.subsec_nanos() != 0 {
            return write!(f, "{}", humantime::format_duration(self.0));
        }
        let units = [(86_400, "d", 2), (3600, "h", 1), (60, "min", 1)];
        for (unit, name, least) in units {
            if seconds.is_multiple_of(unit) && seconds / unit >= least {
                return write!(f, "{}{name}", seconds / unit);
            }
        }
        write!(f, "{seconds}s")
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a duration such as \"90s\" or \"1h\"", |text| text.parse().ok())
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a duration, or `"off"` for `None`.
pub(in crate::config) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigDuration>, D::Error> {
    parsed(deserializer, "a duration such as \"48h\", or \"off\"", |text| match text {
        "off" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a duration, or `"off"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(in crate::config) fn optional_duration_text<S: Serializer>(
    value: &Option<ConfigDuration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.collect_str(duration),
        None => serializer.serialize_str("off"),
    }
}

/// Reads a duration, or `"auto"` for `None`.
pub(in crate::config) fn auto_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigDuration>, D::Error> {
    parsed(deserializer, "a duration such as \"48h\", or \"auto\"", |text| match text {
        "auto" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a duration, or `"auto"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(in crate::config) fn auto_duration_text<S: Serializer>(
    value: &Option<ConfigDuration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.collect_str(duration),
        None => serializer.serialize_str("auto"),
    }
}
