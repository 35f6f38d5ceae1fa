//! Identifiers as types of their own, and where new ones come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::SHARD_COUNT;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id_type!(
    /// Names a [`super::Track`].
    TrackId
);
id_type!(
    /// Names a [`super::Upload`], and the object that it is to become.
    UploadId
);
id_type!(
    /// Names one reconciliation run.
    RunId
);

/// The name of a policy, as in the configuration: `[policies.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicyName(String);

impl PolicyName {
    /// A name as configured or as a row has it.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PolicyName {
    fn default() -> Self {
        Self::new("tracks")
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a row belongs to: every query takes one, so that no caller sees another's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// The owner of everything while authentication is off.
    pub fn anonymous() -> Self {
        Self("default".to_owned())
    }

    /// An owner by its stored name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The stored name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where new identifiers come from.
pub trait IdSource: Send + Sync {
    /// A new UUID, version 7: it ascends with time.
    fn uuid(&self) -> Uuid;
}

/// Version 7 UUIDs from the system's clock and randomness. Their last hex digit, the shard of an
/// upload's key, goes round with time.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
        in_turn(Uuid::now_v7())
    }
}

/// For so many milliseconds new uploads go to one shard; then the next has its turn.
const TURN: u64 = 16;

/// The id with the digit whose turn it is at its time. After a quarter of a second all shards have
/// had theirs. With a random digit, uploads that are created together would stand in 16 places of
/// every index by key, and a commit would write as many pages of each.
fn in_turn(id: Uuid) -> Uuid {
    let mut bytes = id.into_bytes();
    // It begins with 48 bits of milliseconds: RFC 9562, section 5.7.
    let millis = bytes[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    let [.., digit] = (millis / TURN % u64::from(SHARD_COUNT)).to_be_bytes();
    bytes[15] = bytes[15] & 0xf0 | digit;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use uuid::{Timestamp, Variant};

    use super::*;
    use crate::domain::Shard;

    fn at(millis: u64) -> Uuid {
        let nanos = u32::try_from(millis % 1000 * 1_000_000).unwrap();
        in_turn(Uuid::new_v7(Timestamp::from_unix_time(millis / 1000, nanos, 0, 0)))
    }

    proptest! {
        #[test]
        fn all_shards_have_their_turn_one_after_the_other(start in 0..1_u64 << 47) {
            let ids: Vec<_> = (start..start + TURN * 16).map(at).collect();
            let shards: Vec<_> = ids.iter().map(|id| Shard::of(UploadId(*id))).collect();
            prop_assert_eq!(shards.iter().collect::<HashSet<_>>().len(), 16);
            let changes = shards.windows(2).filter(|pair| pair[0] != pair[1]).count();
            prop_assert!(changes <= 16, "{changes} changes");
        }

        #[test]
        fn nothing_but_the_last_digit_is_changed(bits: u128) {
            let id = in_turn(Uuid::from_u128(bits));
            prop_assert_eq!(id.as_u128() >> 4, bits >> 4);
        }
    }

    #[test]
    fn new_ids_are_of_version_7_and_differ() {
        let ids: HashSet<_> = std::iter::repeat_with(|| SystemIds.uuid()).take(100_000).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| id.get_variant() == Variant::RFC4122));
    }
}
