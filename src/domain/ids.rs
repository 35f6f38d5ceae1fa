//! Identifiers as types of their own, and where new ones come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
id_type!(
    /// Names an [`UploadToken`](super::upload_token::UploadToken).
    UploadTokenId
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

/// Version 7 UUIDs from the system's clock and randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
        Uuid::now_v7()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Variant;

    use super::*;

    #[test]
    fn new_ids_are_of_version_7_and_differ() {
        let ids: HashSet<_> = std::iter::repeat_with(|| SystemIds.uuid()).take(100_000).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| id.get_variant() == Variant::RFC4122));
    }
}
