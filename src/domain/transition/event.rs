//! What can happen to an upload: the input of the state machine.

use crate::domain::clock::Timestamp;
use crate::domain::ids::Owner;
use crate::domain::inspection::{Annotations, Inspected};
use crate::domain::key::ObjectKey;
use crate::domain::location::LocationNumber;
use crate::domain::rules::Violation;
use crate::domain::subject::Subject;
use crate::domain::upload::{ConfirmedBy, ObjectFacts};

/// An event about an upload.
#[derive(Debug, Clone)]
pub enum Event {
    /// The object was observed and validated.
    Observed(Observation),
    /// A request showed that the object does not exist.
    Absent(Absence),
    /// An inspector returned a verdict.
    Inspected(Inspected),
    /// The client requests a new URL.
    Renew {
        /// When the new URL expires.
        url_expires_at: Timestamp,
    },
    /// More bytes are expected, so the deadline is extended. It never becomes earlier.
    ExtendDeadline {
        /// When the newest URL expires.
        url_expires_at: Timestamp,
    },
    /// The store opened a multipart upload for the upload.
    MultipartOpened {
        /// The store's id.
        multipart_id: String,
        /// The recorded id that the store no longer knows, if any.
        replaces: Option<String>,
    },
    /// The owner attaches the upload to a subject.
    Attach {
        /// The subject.
        subject: Subject,
    },
    /// The verified upload was not attached in time.
    Unattached,
    /// The owner deletes the upload, its attachment or its track.
    Delete,
    /// A newer upload of the subject was verified.
    Supersede,
    /// The store confirmed that the unwanted object is deleted.
    ObjectDeleted,
    /// An operator verifies the upload again.
    Verify(Verification),
    /// An operator is about to verify the upload, so its object must not be deleted before this
    /// time.
    KeepObject {
        /// The earliest time of the deletion.
        until: Timestamp,
    },
    /// The object was copied to another location, and the copy was compared with it.
    Moved(Relocation),
}

/// A verified copy of the object at another location.
#[derive(Debug, Clone)]
pub struct Relocation {
    /// The location of the object that was copied.
    pub from: LocationNumber,
    /// The ETag of the object that was copied, without quotes.
    pub etag: String,
    /// The location of the copy.
    pub to: LocationNumber,
    /// The key of the copy.
    pub key: ObjectKey,
    /// The facts about the copy.
    pub facts: ObjectFacts,
}

/// An observation of the object.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The facts about the object.
    pub facts: ObjectFacts,
    /// The verdict of the rules on its bytes.
    pub verdict: Result<(), Violation>,
    /// The source of the observation.
    pub by: ConfirmedBy,
    /// The results of the inspectors that are part of the verification.
    pub annotations: Annotations,
}

/// Evidence that the object is absent.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    /// When the request that showed it started.
    pub requested_at: Timestamp,
    /// Whether the request was a HEAD of the key. A listing proves nothing.
    pub by_head: bool,
    /// When the newest part of its open multipart upload was stored, by the store's clock. An
    /// upload does not expire while parts arrive.
    pub last_part_at: Option<Timestamp>,
    /// The source of the evidence.
    pub by: ConfirmedBy,
}

/// An operator's verification of an upload.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The observation of the object as it is now.
    pub seen: Observation,
    /// Whether other bytes than the verified ones are accepted, if they pass the rules.
    pub accept_changed: bool,
    /// The operator.
    pub operator: Owner,
}
