//! The states of an upload, each with its data.

use std::str::FromStr;

use super::facts::{ObjectFacts, Verified};
use crate::domain::inspection::InspectorName;
use crate::domain::reject_reason::RejectReason;

/// Why an upload was removed. Its object was not necessarily verified before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoveReason {
    /// A newer upload of the same subject was verified.
    Superseded,
    /// Its owner deleted it, its attachment or its track.
    Deleted,
    /// The object had no row. The row was created so that the object can be deleted.
    Orphan,
    /// It was not attached within its policy's `unattached_retention`.
    Unattached,
}

impl RemoveReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Superseded, Self::Deleted, Self::Orphan, Self::Unattached];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
            Self::Orphan => "orphan",
            Self::Unattached => "unattached",
        }
    }

    /// The reason as a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Superseded => "A newer upload of the same subject was verified",
            Self::Deleted => "The owner deleted the upload, its attachment or its track",
            Self::Orphan => "The object had no upload",
            Self::Unattached => "The file was not attached in time",
        }
    }
}

impl FromStr for RemoveReason {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(())
    }
}

/// An object that passed the rules and is being inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspecting {
    /// The observed object.
    pub arrived: Verified,
    /// The inspectors that have not accepted it yet. Never empty.
    pub waiting_for: Vec<InspectorName>,
}

/// The state of an upload. Each state has its own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waiting for bytes.
    Pending,
    /// The bytes are stored and passed the rules. Inspectors still have to accept them.
    Inspecting(Inspecting),
    /// The bytes are stored, passed the rules, and every inspector of the policy accepted them.
    Uploaded(Verified),
    /// The deadline passed without bytes.
    Expired,
    /// Bytes arrived and broke a rule. A final state.
    Rejected {
        /// The broken rule.
        reason: RejectReason,
        /// The rejected object.
        facts: ObjectFacts,
        /// The object that was verified before these bytes arrived, if there was one.
        verified: Option<Verified>,
    },
    /// The client cancelled the upload. A final state.
    Cancelled,
    /// The verified object is gone.
    Missing(Verified),
    /// The file is not needed any more. A final state.
    Removed {
        /// The reason.
        reason: RemoveReason,
        /// The verified object, if there was one.
        verified: Option<Verified>,
    },
}

/// The name of a state.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// [`State::Pending`]
    Pending,
    /// [`State::Inspecting`]
    Inspecting,
    /// [`State::Uploaded`]
    Uploaded,
    /// [`State::Expired`]
    Expired,
    /// [`State::Rejected`]
    Rejected,
    /// [`State::Cancelled`]
    Cancelled,
    /// [`State::Missing`]
    Missing,
    /// [`State::Removed`]
    Removed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Inspecting,
        Self::Uploaded,
        Self::Expired,
        Self::Rejected,
        Self::Cancelled,
        Self::Missing,
        Self::Removed,
    ];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inspecting => "inspecting",
            Self::Uploaded => "uploaded",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Missing => "missing",
            Self::Removed => "removed",
        }
    }

    /// Whether the state is final: only an operator's verification can change it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Rejected | Self::Cancelled | Self::Removed)
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(())
    }
}

impl State {
    /// The state's name.
    pub fn status(&self) -> Status {
        match self {
            Self::Pending => Status::Pending,
            Self::Inspecting(_) => Status::Inspecting,
            Self::Uploaded(_) => Status::Uploaded,
            Self::Expired => Status::Expired,
            Self::Rejected { .. } => Status::Rejected,
            Self::Cancelled => Status::Cancelled,
            Self::Missing(_) => Status::Missing,
            Self::Removed { .. } => Status::Removed,
        }
    }

    /// The verified object, if there is or was one.
    pub fn verified(&self) -> Option<&Verified> {
        match self {
            Self::Uploaded(verified) | Self::Missing(verified) => Some(verified),
            Self::Removed { verified, .. } => verified.as_ref(),
            Self::Pending
            | Self::Inspecting(_)
            | Self::Expired
            | Self::Rejected { .. }
            | Self::Cancelled => None,
        }
    }

    /// Like [`Self::verified`], but also returns an object that is still being inspected.
    pub fn arrived(&self) -> Option<&Verified> {
        match self {
            Self::Inspecting(inspecting) => Some(&inspecting.arrived),
            other => other.verified(),
        }
    }

    /// Like [`Self::verified`], but also returns the verified object if it was replaced by other
    /// bytes that were rejected.
    pub fn ever_verified(&self) -> Option<&Verified> {
        match self {
            Self::Rejected { verified, .. } => verified.as_ref(),
            other => other.verified(),
        }
    }

    /// The name of the reason of a rejection or removal.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected { reason, .. } => Some(reason.name()),
            Self::Removed { reason, .. } => Some(reason.name()),
            Self::Pending
            | Self::Inspecting(_)
            | Self::Uploaded(_)
            | Self::Expired
            | Self::Cancelled
            | Self::Missing(_) => None,
        }
    }

    /// The facts about the object: of the rejected object if the upload is rejected, otherwise of
    /// the object that was verified.
    pub fn facts(&self) -> Option<&ObjectFacts> {
        match self {
            Self::Rejected { facts, .. } => Some(facts),
            other => other.arrived().map(|arrived| &arrived.facts),
        }
    }
}
