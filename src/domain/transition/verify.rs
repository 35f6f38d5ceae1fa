//! An operator's verification of an upload.

use super::event::Verification;
use super::observed::{accept, newer_facts, returned};
use super::result::{Step, TransitionError, unchanged};
use crate::domain::clock::Timestamp;
use crate::domain::policy::Policy;
use crate::domain::reject_reason::RejectReason;
use crate::domain::upload::{Deletion, State, Upload, Verified};

/// Applies an operator's verification.
pub(super) fn verify(
    upload: Upload,
    verification: Verification,
    now: Timestamp,
    policy: &Policy,
) -> Result<Step, TransitionError> {
    let Verification { seen, accept_changed, operator: _ } = verification;
    let (before, rejected) = match upload.state.clone() {
        State::Uploaded(before)
            if before.facts.etag == seen.facts.etag
                && before.facts.version_id == seen.facts.version_id =>
        {
            return Ok(unchanged(upload));
        }
        State::Uploaded(before) | State::Missing(before) => (Some(before), None),
        State::Rejected { reason, facts, verified } => (verified, Some((reason, facts))),
        State::Pending
        | State::Inspecting(_)
        | State::Expired
        | State::Cancelled
        | State::Removed { .. } => {
            return Err(TransitionError::NotVerifiable(upload.status()));
        }
    };
    let reason = rejected.as_ref().map(|(reason, _)| *reason);
    // If the object still has the bytes that were rejected as overwritten, only `accept_changed`
    // accepts them, even if their checksum can be compared today.
    let rejected_bytes = reason == Some(RejectReason::Overwritten)
        && rejected.is_some_and(|(_, facts)| facts.etag == seen.facts.etag);
    let same = before.as_ref().and_then(|before| before.facts.same_bytes(&seen.facts));
    // A file that an inspector rejected is inspected again.
    let was_accepted = same == Some(true) && reason != Some(RejectReason::Inspection);
    let verified = match before {
        Some(before) if !rejected_bytes && same != Some(false) => {
            Verified { facts: newer_facts(before.facts, seen.facts), ..before }
        }
        before => {
            let was_verified = before.is_some() || reason == Some(RejectReason::Overwritten);
            if was_verified && !accept_changed {
                return Err(TransitionError::Changed);
            }
            seen.verdict.map_err(|broken| TransitionError::StillInvalid(broken.reason))?;
            let late =
                before.is_some_and(|before| before.late) || reason == Some(RejectReason::Late);
            Verified { facts: seen.facts, confirmed_by: seen.by, late, at: now }
        }
    };
    let upload = Upload { deletion: Deletion::default(), ..upload };
    if was_accepted && !rejected_bytes {
        return Ok(returned(upload, verified, now));
    }
    Ok(accept(Upload { annotations: seen.annotations, ..upload }, verified, now, policy))
}
