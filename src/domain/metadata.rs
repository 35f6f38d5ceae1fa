//! The rules for the metadata that clients add to an upload, and that the store keeps with the
//! object.

use std::collections::BTreeMap;

use super::limits::MAX_METADATA_LEN;
use super::policy::FieldErrors;

/// Validates names and values, which become headers.
pub fn check_metadata(metadata: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    let total: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MAX_METADATA_LEN {
        errors.add("metadata", format!("Must be at most {MAX_METADATA_LEN} bytes in total"));
    }
    if !metadata.keys().all(|name| is_name(name)) {
        errors.add("metadata", "Names may contain only a-z 0-9 - and _");
    }
    if !metadata.values().all(|value| is_value(value)) {
        errors
            .add("metadata", "Values may contain only printable ASCII, without spaces at the ends");
    }
}

/// Whether a store can keep a pair with this name.
pub fn is_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !name.is_empty() && name.bytes().all(token)
}

/// Whether a store can keep a pair with this value.
pub fn is_value(value: &str) -> bool {
    value.trim() == value && value.bytes().all(|b| (0x20..0x7f).contains(&b))
}
