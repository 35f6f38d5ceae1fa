//! What the store shows: the object was observed, or it is absent.

use super::event::{Absence, Observation};
use super::result::{Effect, Step, abort, changed, unchanged};
use crate::domain::clock::Timestamp;
use crate::domain::detail::cut;
use crate::domain::inspection::Annotations;
use crate::domain::policy::{Late, Overwrite, Policy};
use crate::domain::reject_reason::RejectReason;
use crate::domain::rules::Violation;
use crate::domain::upload::{Deletion, Inspecting, ObjectFacts, State, Status, Upload, Verified};

pub(super) fn observed(upload: Upload, seen: Observation, now: Timestamp, policy: &Policy) -> Step {
    match upload.state.clone() {
        State::Pending => arrived(upload, seen, false, now, policy),
        State::Expired => arrived(upload, seen, true, now, policy),
        State::Inspecting(Inspecting { arrived: before, .. }) => {
            let same = before.facts.etag == seen.facts.etag
                && before.facts.version_id == seen.facts.version_id;
            // Verdicts about other bytes do not count: the inspection starts again.
            if same { unchanged(upload) } else { arrived(upload, seen, before.late, now, policy) }
        }
        State::Uploaded(before) => {
            if before.facts.etag != seen.facts.etag {
                seen_again(upload, before, seen, now, policy)
            } else if before.facts.version_id == seen.facts.version_id {
                unchanged(upload)
            } else {
                // The same bytes were stored again, in a bucket that keeps versions.
                let facts = ObjectFacts { version_id: seen.facts.version_id, ..before.facts };
                changed(upload, State::Uploaded(Verified { facts, ..before }), now, vec![])
            }
        }
        State::Missing(before) => seen_again(upload, before, seen, now, policy),
        // Bytes that arrived after the object was deleted, or that were not expected. A deletion
        // that is already planned keeps its time.
        State::Rejected { .. } | State::Cancelled | State::Removed { .. } => {
            if upload.deletion.after.is_some() && upload.deletion.done.is_none() {
                unchanged(upload)
            } else {
                let deletion = Deletion { after: Some(now), done: None };
                let state = upload.state.clone();
                changed(Upload { deletion, ..upload }, state, now, vec![])
            }
        }
    }
}

/// The first observation of a pending or expired upload, or of other bytes while the first ones are
/// being inspected.
pub(super) fn arrived(
    upload: Upload,
    seen: Observation,
    late: bool,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    let verdict = match seen.verdict {
        Ok(()) if late && policy.late == Late::Reject => Err(RejectReason::Late.into()),
        verdict => verdict,
    };
    let upload = Upload { annotations: seen.annotations, ..upload };
    match verdict {
        Ok(()) => {
            let verified = Verified { facts: seen.facts, confirmed_by: seen.by, late, at: now };
            let upload = Upload { multipart_id: None, ..upload };
            accept(upload, verified, now, policy)
        }
        Err(broken) => reject(upload, broken, seen.facts, now, policy),
    }
}

/// Accepts bytes that pass the rules and were not served before. If the policy has inspectors, the
/// bytes are inspected before they are served.
pub(super) fn accept(upload: Upload, verified: Verified, now: Timestamp, policy: &Policy) -> Step {
    let was_served = upload.status() == Status::Uploaded;
    if policy.inspect.is_empty() {
        let effects = if was_served { vec![] } else { vec![Effect::Bind] };
        return changed(upload, State::Uploaded(verified), now, effects);
    }
    let mut effects = vec![Effect::QueueInspections];
    if was_served {
        effects.push(Effect::Unbind);
    }
    let arrived = Verified { at: now, ..verified };
    let state = State::Inspecting(Inspecting { arrived, waiting_for: policy.inspect.clone() });
    changed(upload, state, now, effects)
}

/// A later observation of a verified upload. The rules apply only to bytes that differ from the
/// verified ones. They never reject bytes that may be the same.
pub(super) fn seen_again(
    upload: Upload,
    before: Verified,
    seen: Observation,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    let same = before.facts.same_bytes(&seen.facts);
    let verdict = match same {
        Some(true) | None => Ok(()),
        Some(false) if policy.overwrite == Overwrite::Accept => seen.verdict,
        Some(false) => Err(RejectReason::Overwritten.into()),
    };
    match verdict {
        Ok(()) if same == Some(true) => {
            let verified = Verified { facts: newer_facts(before.facts, seen.facts), ..before };
            returned(upload, verified, now)
        }
        Ok(()) => {
            let verified = Verified { facts: newer_facts(before.facts, seen.facts), ..before };
            accept(upload, verified, now, policy)
        }
        Err(broken) => reject(upload, broken, seen.facts, now, policy),
    }
}

/// The verified bytes are in the store: they were found again, or stored again.
pub(super) fn returned(upload: Upload, verified: Verified, now: Timestamp) -> Step {
    let effects = if upload.status() == Status::Uploaded { vec![] } else { vec![Effect::Bind] };
    changed(upload, State::Uploaded(verified), now, effects)
}

/// The facts about a verified object that is observed again. The recorded checksum is kept only if
/// the bytes are the same.
pub(super) fn newer_facts(before: ObjectFacts, seen: ObjectFacts) -> ObjectFacts {
    let same = before.same_bytes(&seen) == Some(true);
    let recorded = if same { before.checksum } else { None };
    ObjectFacts { checksum: seen.checksum.or(recorded), ..seen }
}

pub(super) fn reject(
    upload: Upload,
    broken: Violation,
    facts: ObjectFacts,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    let effects = match upload.status() {
        Status::Uploaded => vec![Effect::Unbind],
        Status::Inspecting => vec![Effect::EndInspections],
        _ => vec![],
    };
    let deletion = Deletion { after: Some(now + policy.rejected_retention), done: None };
    let verified = upload.state.verified().cloned();
    let Violation { reason, message } = broken;
    let detail = Some(cut(message));
    let upload = Upload { multipart_id: None, detail, deletion, ..upload };
    changed(upload, State::Rejected { reason, facts, verified }, now, effects)
}

pub(super) fn absent(upload: Upload, absence: Absence, now: Timestamp, policy: &Policy) -> Step {
    if !absence.by_head {
        return unchanged(upload);
    }
    match upload.state.clone() {
        State::Pending
            if absence.requested_at > upload.deadline(policy.grace)
                && absence
                    .last_part_at
                    .is_none_or(|at| absence.requested_at > at + policy.grace) =>
        {
            let effects = abort(&upload);
            changed(Upload { multipart_id: None, ..upload }, State::Expired, now, effects)
        }
        // As without inspectors: bytes that disappear before they are verified count as never
        // arrived.
        State::Inspecting(inspecting) if absence.requested_at > inspecting.arrived.at => {
            let expired = absence.requested_at > upload.deadline(policy.grace);
            let state = if expired { State::Expired } else { State::Pending };
            let upload = Upload { annotations: Annotations::new(), ..upload };
            changed(upload, state, now, vec![Effect::EndInspections])
        }
        // Evidence from before the verification does not apply to the verified bytes.
        State::Uploaded(verified) if absence.requested_at > verified.at => {
            changed(upload, State::Missing(verified), now, vec![Effect::Unbind])
        }
        _ => unchanged(upload),
    }
}
