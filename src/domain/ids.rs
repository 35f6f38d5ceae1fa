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
    /// A new UUID, version 7: it ascends with time, and its last hex digit is random.
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
