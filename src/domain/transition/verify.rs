//! An operator's verification: the way back from a wrong rejection or loss, while the object
//! exists.

use super::{Effect, Observation, Step, TransitionError, changed, newer_facts, saved, unchanged};
use crate::domain::clock::Timestamp;
use crate::domain::reject_reason::RejectReason;
use crate::domain::upload::{Deletion, State, Status, Upload, Verified};

/// An operator's verification of an upload.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The object now.
    pub seen: Observation,
    /// Whether other bytes than the verified ones are accepted, if they pass the rules.
    pub accept_changed: bool,
}

/// Applies an operator's verification.
pub(super) fn verify(
    upload: Upload,
    verification: Verification,
    now: Timestamp,
) -> Result<Step, TransitionError> {
    let Verification { seen, accept_changed } = verification;
    let (before, rejected) = match upload.state.clone() {
        State::Uploaded(before)
            if before.facts.etag == seen.facts.etag
                && before.facts.version_id == seen.facts.version_id =>
        {
            return Ok(unchanged(upload));
        }
        State::Uploaded(before) | State::Missing(before) => (Some(before), None),
        State::Rejected { reason, facts, verified } => (verified, Some((reason, facts))),
        State::Pending | State::Expired | State::Cancelled | State::Removed { .. } => {
            return Err(TransitionError::NotVerifiable(upload.status()));
        }
    };
    let reason = rejected.as_ref().map(|(reason, _)| *reason);
    // What was rejected as other bytes stays that, whatever can be compared today.
    let rejected_bytes = reason == Some(RejectReason::Overwritten)
        && rejected.is_some_and(|(_, facts)| facts.etag == seen.facts.etag);
    let verified = match before {
        Some(before) if !rejected_bytes && before.facts.same_bytes(&seen.facts) != Some(false) => {
            Verified { facts: newer_facts(before.facts, seen.facts), ..before }
        }
        before => {
            let was_verified = before.is_some() || reason == Some(RejectReason::Overwritten);
            if was_verified && !accept_changed {
                return Err(TransitionError::Changed);
            }
            seen.verdict.map_err(TransitionError::StillInvalid)?;
            let late =
                before.is_some_and(|before| before.late) || reason == Some(RejectReason::Late);
            Verified { facts: seen.facts, confirmed_by: seen.by, late, at: now }
        }
    };
    let effects = if upload.status() == Status::Uploaded { vec![] } else { vec![Effect::Bind] };
    let upload = Upload { deletion: Deletion::default(), ..upload };
    Ok(changed(upload, State::Uploaded(verified), now, effects))
}

/// Moves a deletion that is due earlier. The object of a row that is not due stays anyway.
pub(super) fn keep_object(upload: Upload, until: Timestamp) -> Step {
    let Deletion { after, done } = upload.deletion;
    if done.is_none() && after.is_some_and(|after| after < until) {
        saved(Upload { deletion: Deletion { after: Some(until), done }, ..upload })
    } else {
        unchanged(upload)
    }
}
