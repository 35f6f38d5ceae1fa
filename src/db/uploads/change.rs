//! A change of an upload that a transition decided, and what became of it.

use crate::domain::history::Cause;
use crate::domain::transition::Effect;
use crate::domain::{Policy, Status, Upload};

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
    /// Why it changes, for its history.
    pub cause: Cause,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Saved {
    /// The change is committed, and this is the upload now. A verified upload that a newer one
    /// had superseded is `removed` here.
    Done(Upload),
    /// Another writer was first: read the row and decide again.
    Lost,
}
