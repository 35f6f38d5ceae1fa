//! An upload: the declared values, the key of the object, and the state.

mod declared;
mod facts;
mod state;

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::clock::Timestamp;
use super::ids::{Owner, PolicyName, TrackId, UploadId, UploadTokenId};
use super::inspection::Annotations;
use super::key::ObjectKey;
use super::location::LocationNumber;
use super::parts::{Division, PartPlan};
use super::reject_reason::RejectReason;
use super::subject::{Slot, Subject};

pub use declared::{Declared, Strategy};
pub use facts::{ConfirmedBy, ObjectFacts, Verified};
pub use state::{Inspecting, RemoveReason, State, Status};

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
    /// The location of its object, which is one of its policy's locations.
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
    /// What the inspectors reported about the file.
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
