//! The account's key, and the Shared Key signature of the service's own requests ("Authorize with
//! Shared Key", REST API reference).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Why an account key is invalid. Never contains the key.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("must be one of the account's keys, in base64")]
pub struct KeyError;

/// A key of a storage account, ready to sign.
#[derive(Clone)]
pub struct AccountKey(Hmac<Sha256>);

impl AccountKey {
    /// Reads a key in base64, as the portal shows it.
    pub fn parse(key: &SecretString) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(key.expose_secret().trim()).map_err(|_| KeyError)?;
        if bytes.is_empty() {
            return Err(KeyError);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| KeyError)
    }

    /// The signature of a text, in base64.
    pub(super) fn sign(&self, text: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey")
    }
}

/// The standard headers that are signed, in this order. The date is sent as `x-ms-date`.
const SIGNED: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The text that is signed. `path` is the encoded path of the URL, `query` has the decoded values.
pub(super) fn string_to_sign(
    method: &str,
    account: &str,
    path: &str,
    query: &[(&str, String)],
    headers: &BTreeMap<String, String>,
) -> String {
    let mut text = format!("{method}\n");
    for name in SIGNED {
        // An empty body is signed without a length.
        let value = headers.get(name).filter(|value| name != "content-length" || *value != "0");
        text.push_str(value.map_or("", String::as_str));
        text.push('\n');
    }
    for (name, value) in headers.range("x-ms-".to_owned()..) {
        if !name.starts_with("x-ms-") {
            break;
        }
        text.extend([name, ":", value.trim(), "\n"]);
    }
    text.extend(["/", account, path]);
    let mut query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    query.sort_unstable();
    for (name, value) in query {
        text.extend(["\n", name, ":", value]);
    }
    text
}
