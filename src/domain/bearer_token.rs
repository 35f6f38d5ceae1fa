//! Tokens with a secret: `<prefix><id>_<secret>`. The id is the key of the token's row. Only the
//! SHA-256 of the secret is stored. A slow hash is not needed, because the secret has 256 random
//! bits.
//! [`api_key`](super::api_key) and [`upload_token`](super::upload_token) each have their own
//! prefix.

use std::fmt;

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// The secret's length in bytes.
pub const SECRET_LEN: usize = 32;

/// The SHA-256 of a token's secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret in hex.
    fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Parses the output of [`Self::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }

    /// The hash in hex, as it is stored.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// A token as a caller presents it.
#[derive(Debug, Clone)]
pub struct PresentedToken {
    /// The id of its row.
    pub id: Uuid,
    /// The hash of its secret.
    pub hash: SecretHash,
}

impl PresentedToken {
    /// Parses a token; `None` if the text does not have the form of a token with this prefix.
    pub fn parse(prefix: &str, text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(prefix)?.split_once('_')?;
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let shaped = id.len() == 32 && secret.len() == 2 * SECRET_LEN;
        if !shaped || !id.bytes().chain(secret.bytes()).all(lower) {
            return None;
        }
        Some(Self { id: Uuid::try_parse(id).ok()?, hash: SecretHash::of(secret) })
    }
}

/// The text of a new token, to be shown once, and the hash of its secret.
pub fn write(prefix: &str, id: Uuid, secret: &[u8; SECRET_LEN]) -> (SecretString, SecretHash) {
    let secret = hex::encode(secret);
    (format!("{prefix}{}_{secret}", id.as_simple()).into(), SecretHash::of(&secret))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::mutate::changed;

    const PREFIX: &str = "uck_";

    fn token_text((id, secret): (u128, [u8; SECRET_LEN])) -> String {
        write(PREFIX, Uuid::from_u128(id), &secret).0.expose_secret().to_owned()
    }

    proptest! {
        #[test]
        fn every_token_parses(id: u128, secret: [u8; SECRET_LEN]) {
            let presented = PresentedToken::parse(PREFIX, &token_text((id, secret))).unwrap();
            prop_assert_eq!(presented.id, Uuid::from_u128(id));
            prop_assert!(presented.hash.matches(&write(PREFIX, presented.id, &secret).1));
        }

        #[test]
        fn a_changed_token_is_invalid_or_another_token(
            (first, spoiled) in changed(any::<(u128, [u8; SECRET_LEN])>().prop_map(token_text)),
        ) {
            let first = PresentedToken::parse(PREFIX, &first).unwrap();
            if let Some(other) = PresentedToken::parse(PREFIX, &String::from_utf8_lossy(&spoiled)) {
                prop_assert!(other.id != first.id || !other.hash.matches(&first.hash));
            }
        }

        #[test]
        fn a_token_has_only_one_spelling(
            text in "uck_[0-9a-f]{31,33}_[0-9a-fA]{63,65}|\\PC{0,120}",
        ) {
            if let Some(presented) = PresentedToken::parse(PREFIX, &text) {
                let start = format!("{PREFIX}{}_", presented.id.as_simple());
                prop_assert!(text.starts_with(&start));
                prop_assert_eq!(text.len(), PREFIX.len() + 32 + 1 + 2 * SECRET_LEN);
            }
        }
    }

    #[test]
    fn a_token_parses_and_anything_else_does_not() {
        let id = Uuid::from_u128(0x0190_a6f2_7b3c_7def_8123_4567_89ab_cdef);
        let (text, hash) = write(PREFIX, id, &[7; SECRET_LEN]);
        let text = text.expose_secret();
        let presented = PresentedToken::parse(PREFIX, text).unwrap();
        assert_eq!(presented.id, id);
        let stored = SecretHash::from_hex(&hash.to_hex()).unwrap();
        assert!(stored.matches(&presented.hash));
        assert!(!write(PREFIX, id, &[8; SECRET_LEN]).1.matches(&stored));
        for bad in [
            "",
            "uck_",
            "uck__",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace("uck_", "key_"),
            &text.replacen('7', "é", 1),
            &format!("{text} "),
        ] {
            assert!(PresentedToken::parse(PREFIX, bad).is_none(), "{bad}");
        }
    }
}
