//! The rules for metadata that stores keep with an object.

use std::collections::BTreeMap;

use super::limits::MAX_METADATA_LEN;
use super::policy::FieldErrors;

/// Checks names and values, which become headers.
pub fn check_metadata(metadata: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    let total: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MAX_METADATA_LEN {
        errors.add("metadata", format!("Must be at most {MAX_METADATA_LEN} bytes in all"));
    }
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if metadata.keys().any(|name| name.is_empty() || !name.bytes().all(token)) {
        errors.add("metadata", "Names may hold only a-z 0-9 - and _");
    }
    let plain =
        |value: &str| value.trim() == value && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !metadata.values().all(|value| plain(value)) {
        errors.add("metadata", "Values may hold only printable ASCII, without space at the ends");
    }
}
