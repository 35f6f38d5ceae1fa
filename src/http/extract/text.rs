//! Parses text values. An error is a message for the client.

use std::str::FromStr;

use chrono::{DateTime, Datelike as _, NaiveDate};

use super::id::UUID_LEN;
use crate::domain::clock::to_micros;
use crate::domain::policy::FieldErrors;
use crate::domain::track::MAX_NAME_CHARS;
use crate::domain::{Algorithm, Checksum, Timestamp};

/// The error for a missing field.
pub const REQUIRED: &str = "This field is required";

/// The error for a null in a field that needs a value.
pub const NOT_NULL: &str = "Must not be null";

const CONTROL: &str = "Must not contain control characters";

/// Refuses control characters, among them NUL, which PostgreSQL does not store.
pub fn refuse_control(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) { Err(CONTROL.to_owned()) } else { Ok(()) }
}

/// A title or the name of an artist. Spaces are kept.
pub fn name(text: String) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("Must not be blank".to_owned());
    }
    if text.chars().count() > MAX_NAME_CHARS {
        return Err(format!("Must be at most {MAX_NAME_CHARS} characters long"));
    }
    refuse_control(&text)?;
    Ok(text)
}

/// A date, `YYYY-MM-DD`, in the years 0001 to 9999.
pub fn date(text: &str) -> Result<NaiveDate, String> {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date = if shaped { NaiveDate::from_str(text).ok() } else { None };
    date.filter(|date| (1..=9999).contains(&date.year()))
        .ok_or_else(|| "Must be a date such as 2026-01-31".to_owned())
}

/// A time (RFC 3339) in the years 0001 to 9999.
pub fn timestamp(text: &str) -> Result<Timestamp, String> {
    // In a query, the `+` of an offset arrives as a space.
    let text = text.replace(' ', "+");
    let at = DateTime::parse_from_rfc3339(&text).ok().map(|at| to_micros(at.to_utc()));
    at.filter(|at| (1..=9999).contains(&at.year()))
        .ok_or_else(|| "Must be a time such as 2026-01-31T12:00:00Z".to_owned())
}

/// An id in a body or a query.
pub fn id<T: FromStr>(text: &str) -> Result<T, String> {
    let id = if text.len() == UUID_LEN { text.parse().ok() } else { None };
    id.ok_or_else(|| "Must be a UUID".to_owned())
}

/// `true` or `false`.
pub fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("Must be true or false".to_owned()),
    }
}

/// One of these names. `T` may have more names, which are refused.
pub fn one_of<'a, T: FromStr>(
    names: impl IntoIterator<Item = &'a str>,
) -> impl FnOnce(&str) -> Result<T, String> {
    let names: Vec<&str> = names.into_iter().collect();
    move |text| {
        let parsed = names.contains(&text).then(|| text.parse().ok()).flatten();
        parsed.ok_or_else(|| format!("Must be one of: {}", names.join(", ")))
    }
}

/// A checksum: the name of its algorithm and its base64.
pub fn checksum(algorithm: &str, value: &str) -> Result<Checksum, String> {
    let algorithm: Algorithm = algorithm.parse().map_err(sentence)?;
    Checksum::parse(algorithm, value).map_err(sentence)
}

fn sentence(error: impl std::fmt::Display) -> String {
    capitalised(&error.to_string())
}

/// The text with a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Returns a valid value. Otherwise adds the error of the field and returns `None`, so that the
/// caller can check the other fields too.
pub fn record_error<T>(
    value: Result<T, String>,
    field: &str,
    errors: &mut FieldErrors,
) -> Option<T> {
    value.map_err(|sentence| errors.add(field, sentence)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated_text;

    proptest! {
        #[test]
        fn an_accepted_date_or_timestamp_is_valid(
            day in prop_oneof![mutated_text(Just("2024-02-29")), "[0-9-]{8,11}"],
            time in prop_oneof![mutated_text(Just("2024-02-29T23:59:60.123456789+14:00")), "\\PC{0,30}"],
        ) {
            if let Ok(date) = date(&day) {
                prop_assert_eq!(date.to_string(), day);
            }
            if let Ok(at) = timestamp(&time) {
                prop_assert!((1..=9999).contains(&at.year()));
                prop_assert_eq!(timestamp(&at.to_rfc3339()), Ok(at));
            }
        }

        #[test]
        fn an_accepted_name_fits_a_row(text in prop_oneof![mutated_text("\\PC{95,105}"), ".{0,8}"]) {
            if let Ok(accepted) = name(text.clone()) {
                prop_assert_eq!(&accepted, &text);
                prop_assert!(accepted.chars().count() <= MAX_NAME_CHARS && !accepted.trim().is_empty());
                prop_assert!(!accepted.chars().any(char::is_control));
            }
        }

        #[test]
        fn an_accepted_id_or_checksum_has_one_spelling(
            (uuid, bytes) in any::<(u128, [u8; 8])>().prop_map(|(id, bytes)| (uuid::Uuid::from_u128(id), bytes)),
            spoiled in mutated_text(any::<u128>().prop_map(|id| uuid::Uuid::from_u128(id).to_string())),
            value in mutated_text(any::<[u8; 8]>().prop_map(|b| Checksum::of(Algorithm::Crc64nvme, &b).value())),
        ) {
            use crate::domain::TrackId;
            prop_assert_eq!(id::<TrackId>(&uuid.to_string()), Ok(TrackId(uuid)));
            if let Ok(read) = id::<TrackId>(&spoiled) {
                prop_assert_eq!(read.to_string(), spoiled.to_lowercase());
            }
            for algorithm in Algorithm::ALL {
                let sum = Checksum::of(algorithm, &bytes);
                prop_assert_eq!(checksum(algorithm.name(), &sum.value()), Ok(sum));
                if let Ok(sum) = checksum(algorithm.name(), &value) {
                    prop_assert_eq!(sum.value(), value.clone());
                }
            }
        }
    }

    #[test]
    fn a_name_keeps_its_spaces_and_its_length_is_in_characters() {
        assert_eq!(name(" é ".into()), Ok(" é ".into()));
        assert_eq!(name("é".repeat(100)), Ok("é".repeat(100)));
        for bad in ["", "  \u{3000}", "a\0b", "a\nb", "a\u{7f}", &"é".repeat(101)] {
            assert!(name(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dates_have_ten_characters_and_years_from_0001_to_9999() {
        assert!(date("0001-01-01").is_ok() && date("9999-12-31").is_ok());
        for bad in
            ["0000-01-01", "2026-1-1", "2026-02-30", "+2026-1-01", "2026-01-01T", "", "ééééé"]
        {
            assert!(date(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_timestamp_may_lose_its_plus_in_a_query() {
        assert_eq!(timestamp("2026-01-01T00:00:00 00:00"), timestamp("2026-01-01T00:00:00Z"));
        for bad in ["2026-01-01", "0000-12-31T00:00:00Z", "9999-12-31T23:59:59-23:59", "now"] {
            assert!(timestamp(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        use crate::domain::TrackId;
        assert!(id::<TrackId>("0190a6f2-7b3c-7def-8123-456789abcdef").is_ok());
        assert!(id::<TrackId>("0190a6f27b3c7def8123456789abcdef").is_err());
        assert!(id::<TrackId>("0190a6f2-7b3c-7def-8123-456789abcdeg").is_err());
    }
}
