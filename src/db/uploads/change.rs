//! A change of an upload that a transition decided, and its result.

use crate::domain::history::Cause;
use crate::domain::transition::Effect;
use crate::domain::{ObjectCopy, Policy, Status, Upload};

/// A decided change of an upload, not yet saved.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// The upload after the transition; its `version` is the one that was read.
    pub upload: Upload,
    /// The effects to write with it.
    pub effects: Vec<Effect>,
    /// Its policy.
    pub policy: &'a Policy,
    /// The status that was read.
    pub from: Status,
    /// The reason of the change, for the history.
    pub cause: Cause,
    /// The object that the upload leaves behind at its former location.
    pub left_behind: Option<ObjectCopy>,
}

/// The result of saving a change.
#[derive(Debug, Clone)]
pub enum Saved {
    /// The change is committed, and this is the new state of the upload. If the upload was
    /// verified, but a newer upload of its subject is already the current one, its status here is
    /// `removed`.
    Done(Upload),
    /// Another change was committed first: read the row and decide again.
    Lost,
}
