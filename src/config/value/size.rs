//! Sizes, such as `"25MiB"`.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::parsed;

/// The largest size, because integers in TOML are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// A number of bytes, written `64KiB`, `100 MiB` or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigSize(u64);

impl ConfigSize {
    /// A number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A number of mebibytes.
    pub const fn from_mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// In bytes, as `usize`.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ConfigSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let size = text.parse::<ByteSize>().map_err(|_| ())?.as_u64();
        if size <= MAX_SIZE { Ok(Self(size)) } else { Err(()) }
    }
}

impl fmt::Display for ConfigSize {
    /// Uses the largest unit that is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, name) in units {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a size such as \"64KiB\" or \"100MiB\"", |text| text.parse().ok())
    }
}

impl Serialize for ConfigSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a size, or `"auto"` for `None`.
pub(in crate::config) fn auto_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigSize>, D::Error> {
    parsed(deserializer, "a size such as \"25MiB\", or \"auto\"", |text| match text {
        "auto" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a size, or `"auto"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(in crate::config) fn auto_size_text<S: Serializer>(
    value: &Option<ConfigSize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(size) => serializer.collect_str(size),
        None => serializer.serialize_str("auto"),
    }
}

/// Checks the range of a size, in bytes. The error is the text of a `ConfigError`.
pub(in crate::config) fn in_range(size: ConfigSize, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&size.bytes()) {
        return Ok(());
    }
    let (least, most) = (ConfigSize::from_bytes(least), ConfigSize::from_bytes(most));
    Err(format!("must be a size from {least} to {most}, not {size}"))
}
