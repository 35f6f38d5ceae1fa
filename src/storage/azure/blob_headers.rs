//! What is stored with a blob, as headers: metadata and [`ObjectSettings`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::utf8_percent_encode;

use super::endpoint::QUERY;
use crate::domain::object_settings::{ObjectSettings, Sse};
use crate::storage::signer::SignError;

const META: &str = "x-ms-meta-";

/// The value, if it can be sent in a header.
pub(super) fn checked(name: &str, value: &str) -> Result<String, SignError> {
    let good = value.trim() == value && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if good { Ok(value.to_owned()) } else { Err(SignError::Header(name.to_owned())) }
}

/// The headers of user-defined metadata.
pub(super) fn metadata(
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, SignError> {
    let pairs = metadata.iter();
    pairs
        .map(|(name, value)| Ok((format!("{META}{}", encode(name)), checked(name, value)?)))
        .collect()
}

/// The metadata in the headers of a response.
pub(super) fn read_metadata(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(META)?, value)));
    pairs.map(|(name, value)| (decode(name), value.clone())).collect()
}

/// Encodes a name of metadata. Azure allows only C# identifiers, which have no hyphen and no digit
/// at the start. Other characters, and `z` itself, become `z` and two hex digits. `_` is allowed
/// but encoded too: Azure does not sort it by its byte among the signed headers.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len() + 8);
    for (nth, byte) in name.bytes().enumerate() {
        if matches!(byte, b'a'..=b'y') || (nth > 0 && byte.is_ascii_digit()) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "z{byte:02x}");
        }
    }
    encoded
}

/// The name before [`encode`]. A name that another program wrote is returned as it is.
fn decode(name: &str) -> String {
    let mut pieces = name.split('z');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let Some((code, after)) = piece.split_at_checked(2) else { return name.to_owned() };
        let Ok(byte) = u8::from_str_radix(code, 16) else { return name.to_owned() };
        bytes.push(byte);
        bytes.extend_from_slice(after.as_bytes());
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// The headers of a policy's settings.
pub(super) fn settings(object: &ObjectSettings) -> Result<Vec<(String, String)>, SignError> {
    let ObjectSettings { sse, kms_key_id, storage_class, cache_control, tags } = object;
    if sse.is_some_and(Sse::has_key) || kms_key_id.is_some() {
        return Err(SignError::Unsupported("an encryption with a key of a key management service"));
    }
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| -> Result<(), SignError> {
        headers.push((name.to_owned(), checked(name, value)?));
        Ok(())
    };
    if let Some(cache_control) = cache_control {
        add("x-ms-blob-cache-control", cache_control)?;
    }
    if let Some(class) = storage_class {
        add("x-ms-access-tier", &tier(class))?;
    }
    if !tags.is_empty() {
        let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        let pairs = tags.iter().map(|(name, value)| [encode(name), encode(value)].join("="));
        add("x-ms-tags", &pairs.collect::<Vec<_>>().join("&"))?;
    }
    Ok(headers)
}

/// The configuration has capital letters: `COOL` is Azure's `Cool`.
fn tier(class: &str) -> String {
    let (first, others) = class.split_at_checked(1).unwrap_or((class, ""));
    format!("{}{}", first.to_ascii_uppercase(), others.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metadata_become_identifiers_and_come_back() {
        for (name, encoded) in
            [("artist", "artist"), ("album-id", "albumz2did"), ("a_z", "az5fz7a"), ("1st", "z31st")]
        {
            assert_eq!((encode(name), decode(encoded)), (encoded.to_owned(), name.to_owned()));
        }
        for foreign in ["hdi_isfolder", "azyy", "azf", "xzff", "azé"] {
            assert_eq!(decode(foreign), foreign);
        }
    }

    #[test]
    fn settings_become_azures_headers() {
        let object = ObjectSettings {
            sse: Some(Sse::Aes256),
            kms_key_id: None,
            storage_class: Some("COOL".into()),
            cache_control: Some("private".into()),
            tags: [("team".to_owned(), "a b".to_owned())].into(),
        };
        let expected = [
            ("x-ms-blob-cache-control", "private"),
            ("x-ms-access-tier", "Cool"),
            ("x-ms-tags", "team=a%20b"),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(settings(&object).unwrap(), expected);
        let kms = ObjectSettings { sse: Some(Sse::Kms), ..object };
        assert!(matches!(settings(&kms), Err(SignError::Unsupported(_))));
    }
}
