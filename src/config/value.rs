//! Reads values from a file or from an environment variable.
//!
//! All layers are read in the same way: a scalar becomes text, and the text is parsed into the type
//! of the key. So `"8"`, `8` and `..._WORKERS=8` are the same, and the value of a text key is not
//! changed if it looks like a number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Replaces a secret in output.
pub(super) const MASK: &str = "********";

/// The longest duration: long enough for every retention, and short enough for date arithmetic.
const MAX_DURATION: Duration = Duration::from_hours(36_500 * 24);

/// The largest size, because integers in TOML are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

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
pub(super) fn auto_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigSize>, D::Error> {
    parsed(deserializer, "a size such as \"25MiB\", or \"auto\"", |text| match text {
        "auto" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a size, or `"auto"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn auto_size_text<S: Serializer>(
    value: &Option<ConfigSize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(size) => serializer.collect_str(size),
        None => serializer.serialize_str("auto"),
    }
}

/// Checks the range of a size, in bytes. The error is a problem for a `ConfigError`.
pub(super) fn in_range(size: ConfigSize, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&size.bytes()) {
        return Ok(());
    }
    let (least, most) = (ConfigSize::from_bytes(least), ConfigSize::from_bytes(most));
    Err(format!("must be a size from {least} to {most}, not {size}"))
}

/// An enum whose variants have names in the configuration.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Each name and its variant.
    const CHOICES: &'static [(&'static str, Self)];
}

/// Reads the name of a variant.
pub(super) fn choice<'de, D: Deserializer<'de>, T: Choice>(deserializer: D) -> Result<T, D::Error> {
    let names: Vec<String> = T::CHOICES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    parsed(deserializer, &names.join(" or "), |text| {
        T::CHOICES.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
    })
}

/// Writes the name of a variant.
pub(super) fn choice_name<S: Serializer, T: Choice>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let name = T::CHOICES.iter().find(|(_, choice)| choice == value).map(|(name, _)| *name);
    serializer.serialize_str(name.unwrap_or_default())
}

/// Reads true or false.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    parsed(deserializer, "true or false", as_flag)
}

/// Reads true, false, or `"auto"` for `None`.
pub(super) fn auto_flag<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<bool>, D::Error> {
    parsed(deserializer, "true, false or \"auto\"", |text| match text {
        "auto" => Some(None),
        _ => as_flag(text).map(Some),
    })
}

/// Writes true, false, or `"auto"` for `None`.
#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serialize_with calls"
)]
pub(super) fn auto_flag_text<S: Serializer>(
    value: &Option<bool>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(flag) => serializer.serialize_bool(*flag),
        None => serializer.serialize_str("auto"),
    }
}

/// Reads a duration, or `"off"` for `None`.
pub(super) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigDuration>, D::Error> {
    parsed(deserializer, "a duration such as \"48h\", or \"off\"", |text| match text {
        "off" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a duration, or `"off"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn optional_duration_text<S: Serializer>(
    value: &Option<ConfigDuration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.collect_str(duration),
        None => serializer.serialize_str("off"),
    }
}

/// Reads a duration, or `"auto"` for `None`.
pub(super) fn auto_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigDuration>, D::Error> {
    parsed(deserializer, "a duration such as \"48h\", or \"auto\"", |text| match text {
        "auto" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// Writes a duration, or `"auto"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn auto_duration_text<S: Serializer>(
    value: &Option<ConfigDuration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.collect_str(duration),
        None => serializer.serialize_str("auto"),
    }
}

/// Reads a whole number from 1 up, or `"off"` for `None`.
pub(super) fn optional_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    parsed(deserializer, "a whole number above zero, or \"off\"", |text| match text {
        "off" => Some(None),
        _ => text.parse().ok().filter(|number| *number > 0).map(Some),
    })
}

/// Writes a number, or `"off"` for `None`.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn optional_number_text<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(number) => serializer.serialize_u64(*number),
        None => serializer.serialize_str("off"),
    }
}

fn as_flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a whole number.
pub(super) fn number<'de, D: Deserializer<'de>, T: FromStr>(
    deserializer: D,
) -> Result<T, D::Error> {
    parsed(deserializer, "a whole number", |text| text.parse().ok())
}

/// Reads a number with a fraction.
pub(super) fn fraction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parsed(deserializer, "a number", |text| text.parse().ok())
}

/// Reads a text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    parsed(deserializer, "a text", |text| Some(text.to_owned()))
}

/// Reads a text; an empty text is `None`.
pub(super) fn optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    parsed(deserializer, "a text", |text| Some((!text.is_empty()).then(|| text.to_owned())))
}

/// Writes a text; `None` is written as an empty text.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn text_or_empty<S: Serializer>(
    value: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_deref().unwrap_or_default())
}

/// Reads a secret without trimming it; an empty secret is `None`. Errors never contain it.
pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    let text = deserializer.deserialize_any(Scalar("a text"))?;
    Ok((!text.is_empty()).then(|| SecretString::from(text)))
}

/// Writes [`MASK`] if there is a secret.
#[expect(clippy::ref_option, reason = "the signature that serialize_with calls")]
pub(super) fn masked<S: Serializer>(
    value: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let there = value.as_ref().is_some_and(|secret| !secret.expose_secret().is_empty());
    serializer.serialize_str(if there { MASK } else { "" })
}

/// Reads an array, or a text with commas. Items become lower case; empty items are dropped.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let items = deserializer.deserialize_any(List)?;
    let tidy = |item: String| item.trim().to_lowercase();
    Ok(items.into_iter().map(tidy).filter(|item| !item.is_empty()).collect())
}

/// Reads an array, or a text with commas. Items keep their case; empty items are dropped.
pub(super) fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let items = deserializer.deserialize_any(List)?;
    let tidy = |item: String| item.trim().to_owned();
    Ok(items.into_iter().map(tidy).filter(|item| !item.is_empty()).collect())
}

/// Reads a table of texts.
pub(super) fn text_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct Text(#[serde(deserialize_with = "text")] String);

    let map = BTreeMap::<String, Text>::deserialize(deserializer)?;
    Ok(map.into_iter().map(|(name, Text(text))| (name, text)).collect())
}

/// Reads a scalar as text and parses it. The error says what was `expected`.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = deserializer.deserialize_any(Scalar(expected))?;
    parse(text.trim()).ok_or_else(|| {
        D::Error::custom(format_args!("must be {expected}, not \"{}\"", text.trim()))
    })
}

/// Any scalar as text.
struct Scalar<'a>(&'a str);

impl Scalar<'_> {
    fn refuse<E: Error>(&self, found: &str) -> E {
        E::custom(format_args!("must be {}, not {found}", self.0))
    }
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Err(self.refuse("nothing"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.refuse("a list"))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.refuse("a section"))
    }
}

/// An array of scalars, or one text with commas.
struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Vec<String>, E> {
        Ok(value.split(',').map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Item>()? {
            list.push(item.0);
        }
        Ok(list)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Vec<String>, A::Error> {
        Err(A::Error::custom("must be a list such as [\"mp3\", \"ogg\"], not a section"))
    }
}

struct Item(String);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar("a text")).map(Self)
    }
}
