//! Identifiers as separate types, and the source of new ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid, Variant, Version};

/// The number of bytes of the timestamp at the start of a UUID of version 7.
const TIME_LEN: usize = 6;

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
    /// The id of a [`super::Track`].
    TrackId
);
id_type!(
    /// The id of a [`super::Upload`]. It is also part of the object's key.
    UploadId
);
id_type!(
    /// The id of a reconciliation run.
    RunId
);
id_type!(
    /// The id of an [`UploadToken`](super::upload_token::UploadToken).
    UploadTokenId
);

/// The name of a policy, as in the configuration: `[policies.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicyName(String);

impl PolicyName {
    /// A name from the configuration or from a row.
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

/// The owner of a row. Every query takes one, so that no caller sees the rows of another owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// The owner of everything while authentication is off.
    pub fn anonymous() -> Self {
        Self("default".to_owned())
    }

    /// An owner by its name in the database.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The source of new ids.
pub trait IdSource: Send + Sync {
    /// A new UUID of version 7. Ids ascend with time.
    fn uuid(&self) -> Uuid;
}

/// Version 7 UUIDs from the system's clock and randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
        Uuid::now_v7()
    }
}

impl UploadId {
    /// Derives the id of the upload at a position of a batch from the id of the batch, a UUID of
    /// version 7. A repeated request gets the same ids. They ascend with the position, begin with
    /// the time of the batch, and end with a hash.
    pub fn in_batch(batch: Uuid, position: u8) -> Self {
        let (time, _) = batch.as_bytes().split_at(TIME_LEN);
        let hash = Sha256::new().chain_update(batch).chain_update([position]).finalize();
        let mut bytes = [0; 16];
        bytes[..TIME_LEN].copy_from_slice(time);
        bytes[TIME_LEN + 1] = position;
        bytes[TIME_LEN + 2..].copy_from_slice(&hash[..16 - TIME_LEN - 2]);
        let mut id = Builder::from_bytes(bytes);
        id.set_version(Version::SortRand).set_variant(Variant::RFC4122);
        Self(id.into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn new_ids_are_of_version_7_and_differ() {
        let ids: HashSet<_> = std::iter::repeat_with(|| SystemIds.uuid()).take(100_000).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| id.get_variant() == Variant::RFC4122));
    }

    proptest! {
        #[test]
        fn the_ids_of_a_batch_ascend_have_its_time_and_belong_to_it_alone(
            millis in 0u64..(1 << 48), random: [u8; 10], other: [u8; 10],
        ) {
            let batch = |random| Builder::from_unix_timestamp_millis(millis, random).into_uuid();
            let (batch, other) = (batch(&random), batch(&other));
            let ids: Vec<UploadId> = (0..=u8::MAX).map(|n| UploadId::in_batch(batch, n)).collect();
            prop_assert!(ids.is_sorted());
            for id in &ids {
                prop_assert_eq!(id.0.get_version_num(), 7);
                prop_assert_eq!(id.0.get_variant(), Variant::RFC4122);
                prop_assert_eq!(&id.0.as_bytes()[..TIME_LEN], &batch.as_bytes()[..TIME_LEN]);
            }
            let all: HashSet<UploadId> = ids.iter().copied().collect();
            prop_assert_eq!(all.len(), ids.len());
            let of_other = (0..=u8::MAX).map(|n| UploadId::in_batch(other, n));
            prop_assert!(batch == other || of_other.into_iter().all(|id| !all.contains(&id)));
            prop_assert_eq!(UploadId::in_batch(batch, 7), ids[7], "the same again");
        }
    }
}
