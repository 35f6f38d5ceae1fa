//! Parses timestamps from JSON. The strict form that the driver writes is tried first: chrono's own
//! `Deserialize` accepts more forms and takes several times as long.

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sqlx::types::chrono::DateTime;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads a timestamp.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<DateTimeUtc, D::Error> {
    parse(<&str>::deserialize(from)?)
}

/// Reads a timestamp or null.
pub(crate) fn read_option<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<DateTimeUtc>, D::Error> {
    let text = <Option<&str>>::deserialize(from)?;
    text.map(parse).transpose()
}

fn parse<E: Error>(text: &str) -> Result<DateTimeUtc, E> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(at.to_utc()),
        Err(_) => text.parse().map_err(E::custom),
    }
}
