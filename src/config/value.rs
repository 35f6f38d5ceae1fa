//! Reads values from a file or from an environment variable.
//!
//! Both are read in the same way: a scalar becomes text, and the text is parsed into the type of
//! the key. So `"8"`, `8` and `..._WORKERS=8` are the same, and the value of a text key is not
//! changed if it looks like a number.

mod duration;
mod size;
mod visitors;

use std::collections::BTreeMap;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use self::visitors::{List, Scalar};

pub use duration::ConfigDuration;
pub(super) use duration::{
    auto_duration, auto_duration_text, optional_duration, optional_duration_text,
};
pub use size::ConfigSize;
pub(super) use size::{auto_size, auto_size_text, in_range};

/// Replaces a secret in output.
pub(super) const MASK: &str = "********";

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
