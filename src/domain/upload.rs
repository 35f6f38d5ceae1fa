//! An upload: the declared values, the key of the object, and the state.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::TimeDelta;

use super::checksum::Checksum;
use super::clock::Timestamp;
use super::ids::PolicyName;
use super::ids::{Owner, TrackId, UploadId, UploadTokenId};
use super::inspection::{Annotations, InspectorName};
use super::key::ObjectKey;
use super::location::LocationNumber;
use super::parts::{Division, PartPlan};
use super::reject_reason::RejectReason;
use super::subject::{Slot, Subject};

/// The values that the client declared about the file. All are optional. Declared values are signed
/// into the URL and checked again on arrival.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The file's name for downloads, without a path.
    pub filename: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The checksum of the whole file.
    pub checksum: Option<Checksum>,
    /// The largest size in bytes that the upload's token allows, if it has a limit. The policy's
    /// limit also applies.
    pub max_size: Option<u64>,
}

impl Declared {
    /// Whether nothing was declared.
    pub fn is_empty(&self) -> bool {
        let Self { filename, content_type, size, checksum, max_size: _ } = self;
        filename.is_none() && content_type.is_none() && size.is_none() && checksum.is_none()
    }
}

/// How the bytes are sent to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One presigned PUT.
    Put,
    /// A browser form with a signed POST policy.
    Post,
    /// A multipart upload with presigned parts.
    Multipart,
    /// Through this service.
    Direct,
    /// Through this service, in pieces of any size. Only dialects make such uploads.
    Tus,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 5] = [Self::Put, Self::Post, Self::Multipart, Self::Direct, Self::Tus];

    /// The strategies that a caller can choose.
    pub const CHOICES: [Self; 4] = [Self::Put, Self::Post, Self::Multipart, Self::Direct];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Post => "post",
            Self::Multipart => "multipart",
            Self::Direct => "direct",
            Self::Tus => "tus",
        }
    }
}

impl FromStr for Strategy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or(())
    }
}

/// The source that reported the object first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfirmedBy {
    /// The client's confirmation.
    Confirm,
    /// An event of the bucket.
    Event,
    /// The reconciler.
    Scan,
    /// A direct upload.
    Direct,
}

impl ConfirmedBy {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Confirm, Self::Event, Self::Scan, Self::Direct];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Event => "event",
            Self::Scan => "scan",
            Self::Direct => "direct",
        }
    }
}

impl FromStr for ConfirmedBy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|by| by.name() == name).ok_or(())
    }
}

/// Why an upload was removed. Its object may have been verified or not.
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

/// The facts about an observed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its ETag, without quotes. Not always an MD5.
    pub etag: String,
    /// Its version, in a bucket with versioning.
    pub version_id: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, detected from its first bytes, otherwise as stored.
    pub content_type: Option<String>,
    /// Its checksum, if one was declared or the service computed one.
    pub checksum: Option<Checksum>,
}

impl ObjectFacts {
    /// Whether two observations are of the same bytes; `None` if that is unknown.
    pub fn same_bytes(&self, other: &Self) -> Option<bool> {
        if self.etag == other.etag {
            return Some(true);
        }
        if self.size != other.size {
            return Some(false);
        }
        match (&self.checksum, &other.checksum) {
            (Some(a), Some(b)) if a.algorithm() == b.algorithm() => Some(a == b),
            _ => None,
        }
    }
}

/// A verified object, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The object.
    pub facts: ObjectFacts,
    /// The source that reported it.
    pub confirmed_by: ConfirmedBy,
    /// Whether the upload had expired before.
    pub late: bool,
    /// When it was verified.
    pub at: Timestamp,
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
    /// The bytes are stored and passed the rules.
    Inspecting(Inspecting),
    /// The bytes are stored, passed the rules, and every inspector of the policy accepted them.
    Uploaded(Verified),
    /// The deadline passed without bytes.
    Expired,
    /// Bytes arrived and broke a rule. A final state.
    Rejected {
        /// The rule.
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

    /// The object as last seen, verified or refused.
    pub fn facts(&self) -> Option<&ObjectFacts> {
        match self {
            Self::Rejected { facts, .. } => Some(facts),
            other => other.arrived().map(|arrived| &arrived.facts),
        }
    }
}

/// When an object that is not needed must be deleted, and when it was deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The earliest time of the deletion; `None` if no deletion is due.
    pub after: Option<Timestamp>,
    /// When the store confirmed that the object is deleted.
    pub done: Option<Timestamp>,
}

impl Deletion {
    /// Whether the object should be deleted now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.done.is_none() && self.after.is_some_and(|after| after <= now)
    }
}

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id, which is part of its key.
    pub id: UploadId,
    /// Its owner.
    pub owner: Owner,
    /// The upload token that created it, if there was one. The token's row may have been deleted.
    pub token: Option<UploadTokenId>,
    /// Its policy.
    pub policy: PolicyName,
    /// The location of its object: one of the policy's.
    pub location: LocationNumber,
    /// The subject that it is attached to, if any.
    pub slot: Option<Slot>,
    /// The object's key.
    pub key: ObjectKey,
    /// The declared values.
    pub declared: Declared,
    /// How the bytes are sent.
    pub strategy: Strategy,
    /// Whether the URL is signed with `If-None-Match: *`.
    pub write_once: bool,
    /// The metadata from the client, stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// When the newest URL expires.
    pub url_expires_at: Timestamp,
    /// The store's id of the multipart upload, while one is open.
    pub multipart_id: Option<String>,
    /// The part size of the multipart upload, in bytes. `None` if the client divides the file.
    pub part_size: Option<u64>,
    /// Its state.
    pub state: State,
    /// Why the file was rejected, as a sentence.
    pub detail: Option<String>,
    /// The results of inspectors about the file.
    pub annotations: Annotations,
    /// The deletion of its object.
    pub deletion: Deletion,
    /// Incremented by every write.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Upload {
    /// The state's name.
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// The subject that it is attached to.
    pub fn subject(&self) -> Option<&Subject> {
        self.slot.as_ref().map(|slot| &slot.subject)
    }

    /// The track that it is attached to.
    pub fn track(&self) -> Option<TrackId> {
        self.subject()?.track()
    }

    /// Whether the deletion of its object is damage: the object was verified, and neither its
    /// owner nor a newer upload ended it. Rows that version 0.1 wrote have only the reason.
    pub fn deletion_is_damage(&self) -> bool {
        match &self.state {
            State::Rejected { reason, verified, .. } => {
                verified.is_some() || *reason == RejectReason::Overwritten
            }
            _ => false,
        }
    }

    /// Whether a change to `after` is damage: the owner loses the verified file without asking for
    /// it.
    pub fn is_damaged_by(&self, after: &Self) -> bool {
        let verified = matches!(self.state, State::Uploaded(_) | State::Missing(_));
        match after.state {
            State::Missing(_) | State::Inspecting(_) => self.status() == Status::Uploaded,
            State::Rejected { .. } => verified,
            _ => false,
        }
    }

    /// How the service divides the file into parts. `None` if it is sent whole, or the client
    /// divides it.
    pub fn parts(&self) -> Option<PartPlan> {
        PartPlan::stored(self.declared.size?, self.part_size?)
    }

    /// Who divides the file of a multipart upload. `None` for other strategies.
    pub fn division(&self) -> Option<Division> {
        let planned = || self.parts().map_or(Division::ByClient, Division::Planned);
        (self.strategy == Strategy::Multipart).then(planned)
    }

    /// The deadline: the time until which bytes may arrive.
    pub fn deadline(&self, grace: TimeDelta) -> Timestamp {
        self.url_expires_at + grace
    }
}
