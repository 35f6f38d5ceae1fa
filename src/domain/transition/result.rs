//! The result of an event: the upload after it, the effects, or why its state refuses the event.

use crate::domain::clock::Timestamp;
use crate::domain::object_copy::ObjectCopy;
use crate::domain::reject_reason::RejectReason;
use crate::domain::upload::{State, Status, Upload};

/// What to do in addition to saving the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Give the upload the next sequence number of its subject, in the same transaction.
    Attach,
    /// Make the upload the current one of its subject, in the same transaction, unless a newer
    /// upload already is.
    Bind,
    /// If the upload is the current one of its subject, leave the subject without a current upload,
    /// in the same transaction.
    Unbind,
    /// Count the upload among its owner's pending uploads, like a new one, in the same transaction.
    Reopen,
    /// Abort the store's multipart upload, after the commit.
    AbortMultipart,
    /// Queue an inspection by each inspector that the upload waits for, in the same transaction.
    /// Earlier inspections of the upload are removed from the queue.
    QueueInspections,
    /// Remove the inspections that the upload no longer waits for, in the same transaction.
    EndInspections,
}

/// The result of an event.
#[derive(Debug, Clone)]
pub struct Step {
    /// The upload after the event.
    pub upload: Upload,
    /// Whether the upload must be saved.
    pub changed: bool,
    /// What else to do.
    pub effects: Vec<Effect>,
    /// The object that the upload leaves behind at its former location, to be recorded in the same
    /// transaction. The record of a copy at the upload's new location is deleted.
    pub left_behind: Option<ObjectCopy>,
}

/// Why a state refuses an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// Only pending and expired uploads get a new URL.
    #[error("an upload that is {} can't get a new URL", .0.name())]
    NotRenewable(Status),
    /// Only pending uploads accept parts.
    #[error("an upload that is {} does not accept parts", .0.name())]
    TakesNoParts(Status),
    /// Only pending and expired uploads accept a file.
    #[error("an upload that is {} does not accept a file", .0.name())]
    TakesNoFile(Status),
    /// Parts are signed only up to the deadline.
    #[error("the deadline of the upload has passed; presign it again")]
    DeadlinePassed,
    /// Only pending and verified uploads are attached.
    #[error("an upload that is {} can't be attached", .0.name())]
    NotAttachable(Status),
    /// An upload belongs to one subject at most.
    #[error("the upload is attached to another subject")]
    AttachedElsewhere,
    /// Only verified uploads are superseded.
    #[error("an upload that is {} can't be superseded", .0.name())]
    NotVerified(Status),
    /// Only uploads that were verified or rejected can be verified again.
    #[error("an upload that is {} can't be verified again", .0.name())]
    NotVerifiable(Status),
    /// The object has other bytes than the verified ones.
    #[error("the object has other bytes than the verified ones; `accept_changed` accepts them")]
    Changed,
    /// The object still breaks a rule.
    #[error("the object breaks a rule: {}", .0.name())]
    StillInvalid(RejectReason),
}

pub(super) fn abort(upload: &Upload) -> Vec<Effect> {
    upload.multipart_id.iter().map(|_| Effect::AbortMultipart).collect()
}

pub(super) fn changed(upload: Upload, state: State, now: Timestamp, effects: Vec<Effect>) -> Step {
    let rejected = matches!(state, State::Rejected { .. });
    let detail = upload.detail.filter(|_| rejected);
    let upload = Upload { detail, ..upload };
    let upload = Upload { state, updated_at: now, ..upload };
    Step { upload, changed: true, effects, left_behind: None }
}

/// A change of internal data. The client sees no change, so `updated_at` does not change.
pub(super) fn saved(upload: Upload) -> Step {
    Step { upload, changed: true, effects: vec![], left_behind: None }
}

pub(super) fn unchanged(upload: Upload) -> Step {
    Step { upload, changed: false, effects: vec![], left_behind: None }
}
