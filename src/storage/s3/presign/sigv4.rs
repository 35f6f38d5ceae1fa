//! AWS Signature Version 4 for queries and for form uploads: only the computation.
//!
//! The rules are those of "Authenticating Requests: Using Query Parameters" in the S3 API
//! reference. The key of a day and a region is derived once ([`DayKey`]). After that, each URL
//! costs one hash and one MAC.

use std::fmt;

use chrono::NaiveDate;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest as _, Sha256};

use super::target::QUERY;
use crate::domain::clock::Timestamp;

type HmacSha256 = Hmac<Sha256>;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The key for the requests of one day in one region, and the texts that are the same in all of
/// them.
#[derive(Clone)]
pub(super) struct DayKey {
    mac: HmacSha256,
    /// `20261123/us-east-1/s3/aws4_request`
    scope: String,
    /// `AKID/{scope}`
    pub(super) credential: String,
    credential_encoded: String,
    pub(super) token: Option<String>,
    token_encoded: Option<String>,
}

impl fmt::Debug for DayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DayKey").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl DayKey {
    pub(super) fn derive(
        access_key_id: &str,
        secret: &str,
        token: Option<&str>,
        region: &str,
        day: NaiveDate,
    ) -> Self {
        let day = day.format("%Y%m%d").to_string();
        let mut key = sign(&keyed(format!("AWS4{secret}").as_bytes()), day.as_bytes());
        for step in [region, "s3", "aws4_request"] {
            key = sign(&keyed(&key), step.as_bytes());
        }
        let scope = format!("{day}/{region}/s3/aws4_request");
        let credential = format!("{access_key_id}/{scope}");
        let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        Self {
            mac: keyed(&key),
            credential_encoded: encode(&credential),
            token_encoded: token.map(encode),
            token: token.map(str::to_owned),
            scope,
            credential,
        }
    }

    /// The signature of a text, in hex. For a form, the text is the policy in base64.
    pub(super) fn signature(&self, text: &str) -> String {
        hex::encode(sign(&self.mac, text.as_bytes()))
    }
}

/// A request to sign.
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    /// Percent-encoded.
    pub(super) path: &'a str,
    /// Names in lower case, ascending and unique, including `host`; values as [`header_value`]
    /// returns them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// Ascending by name. Every name must sort after `X-Amz-`, as names in lower case do.
    pub(super) query: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    /// The whole query, including the signature. `seconds` is the lifetime of the URL.
    pub(super) fn presign(&self, key: &DayKey, at: Timestamp, seconds: i64) -> String {
        let stamp = time_stamp(at);
        let mut query = self.query_to_sign(key, &stamp, seconds);
        let mut canonical = String::with_capacity(query.len() + 512);
        for part in [self.method, self.path, &query] {
            canonical.push_str(part);
            canonical.push('\n');
        }
        for (name, value) in self.headers {
            for part in [name, ":", value, "\n"] {
                canonical.push_str(part);
            }
        }
        canonical.push('\n');
        self.push_names(&mut canonical, ";");
        canonical.push_str("\nUNSIGNED-PAYLOAD");

        let mut to_sign = String::with_capacity(192);
        for part in [ALGORITHM, "\n", &stamp, "\n", &key.scope, "\n"] {
            to_sign.push_str(part);
        }
        push_hex(&mut to_sign, &Sha256::digest(canonical.as_bytes()));
        query.push_str("&X-Amz-Signature=");
        push_hex(&mut query, &sign(&key.mac, to_sign.as_bytes()));
        query
    }

    /// The query is sent exactly as it was signed: the parameters are in the order of the
    /// signature.
    fn query_to_sign(&self, key: &DayKey, stamp: &str, seconds: i64) -> String {
        let token = key.token_encoded.as_deref();
        let mut query = String::with_capacity(512 + token.map_or(0, str::len));
        for part in [
            "X-Amz-Algorithm=",
            ALGORITHM,
            "&X-Amz-Credential=",
            &key.credential_encoded,
            "&X-Amz-Date=",
            stamp,
            "&X-Amz-Expires=",
            &seconds.to_string(),
        ] {
            query.push_str(part);
        }
        if let Some(token) = token {
            query.push_str("&X-Amz-Security-Token=");
            query.push_str(token);
        }
        query.push_str("&X-Amz-SignedHeaders=");
        self.push_names(&mut query, "%3B");
        for (name, value) in self.query {
            query.push('&');
            query.push_str(name);
            query.push('=');
            query.extend(utf8_percent_encode(value, QUERY));
        }
        query
    }

    fn push_names(&self, text: &mut String, separator: &str) {
        for (n, (name, _)) in self.headers.iter().enumerate() {
            if n > 0 {
                text.push_str(separator);
            }
            text.push_str(name);
        }
    }
}

/// The value of a header as it is signed: without spaces at its ends, and with single spaces
/// inside. Returns `None` if not every client would send the value unchanged: control characters,
/// and anything but ASCII.
pub(super) fn header_value(value: &str) -> Option<String> {
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return None;
    }
    let mut clean = String::with_capacity(value.len());
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(word);
    }
    Some(clean)
}

/// `20261123T004133Z`
pub(super) fn time_stamp(at: Timestamp) -> String {
    at.format("%Y%m%dT%H%M%SZ").to_string()
}

/// Prepares a key as HMAC does (RFC 2104): a key that is longer than a block is replaced by its
/// hash, and then zeros fill the block. Done here, because creating a MAC from exactly one block
/// cannot fail.
fn keyed(key: &[u8]) -> HmacSha256 {
    let mut block = [0; 64];
    if key.len() <= block.len() {
        block[..key.len()].copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    HmacSha256::new(&block.into())
}

fn sign(mac: &HmacSha256, text: &[u8]) -> [u8; 32] {
    mac.clone().chain_update(text).finalize().into_bytes().into()
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the S3 API reference, "Authenticating Requests: Using Query Parameters".
    #[test]
    fn the_published_example_has_the_published_signature() {
        let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        let key = DayKey::derive(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            "us-east-1",
            at.date_naive(),
        );
        let request = Request {
            method: "GET",
            path: "/test.txt",
            headers: &[("host", "examplebucket.s3.amazonaws.com")],
            query: &[],
        };
        let query = request.presign(&key, at, 86400);
        let (_, signature) = query.split_once("X-Amz-Signature=").unwrap();
        assert_eq!(signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
        assert!(query.contains("X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"));
    }

    #[test]
    fn a_header_value_loses_its_outer_and_repeated_spaces() {
        assert_eq!(header_value("  a   b c ").as_deref(), Some("a b c"));
        assert_eq!(header_value(""), Some(String::new()));
        for bad in ["a\r\nb", "a\tb", "ü", "\u{7f}"] {
            assert_eq!(header_value(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_output_of_a_key_has_no_secret() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
        let key = DayKey::derive("AKID", "hidden-secret", Some("hidden-token"), "us-east-1", day);
        assert!(!format!("{key:?}").contains("hidden"));
    }
}
