//! The verdicts of inspectors.

use super::observed::reject;
use super::result::{Effect, Step, changed, unchanged};
use crate::domain::clock::Timestamp;
use crate::domain::inspection::{Inspected, Verdict};
use crate::domain::policy::Policy;
use crate::domain::reject_reason::RejectReason;
use crate::domain::rules::Violation;
use crate::domain::upload::{Inspecting, ObjectFacts, State, Upload, Verified};

/// Applies the verdict of an inspector. It has an effect only if it is about the current bytes.
pub(super) fn apply_verdict(
    upload: Upload,
    inspected: Inspected,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    match upload.state.clone() {
        State::Inspecting(before)
            if is_about(&inspected, &before.arrived.facts)
                && before.waiting_for.contains(&inspected.inspector) =>
        {
            inspected_first(upload, before, inspected, now, policy)
        }
        State::Uploaded(before) if inspected.backfill && is_about(&inspected, &before.facts) => {
            let upload = annotated(upload, &inspected);
            match inspected.verdict {
                Verdict::Accept => changed(upload, State::Uploaded(before), now, vec![]),
                Verdict::Reject(_) => {
                    reject(upload, refusal(&inspected), before.facts, now, policy)
                }
            }
        }
        _ => unchanged(upload),
    }
}

pub(super) fn inspected_first(
    upload: Upload,
    before: Inspecting,
    inspected: Inspected,
    now: Timestamp,
    policy: &Policy,
) -> Step {
    let upload = annotated(upload, &inspected);
    let Inspecting { arrived, mut waiting_for } = before;
    if let Verdict::Reject(_) = inspected.verdict {
        return reject(upload, refusal(&inspected), arrived.facts, now, policy);
    }
    waiting_for.retain(|name| *name != inspected.inspector);
    if waiting_for.is_empty() {
        let verified = Verified { at: now, ..arrived };
        let effects = vec![Effect::Bind, Effect::EndInspections];
        changed(upload, State::Uploaded(verified), now, effects)
    } else {
        let state = State::Inspecting(Inspecting { arrived, waiting_for });
        changed(upload, state, now, vec![Effect::EndInspections])
    }
}

/// Whether a verdict is about this object.
pub(super) fn is_about(inspected: &Inspected, facts: &ObjectFacts) -> bool {
    inspected.etag == facts.etag && inspected.version_id == facts.version_id
}

/// The upload with the results of an inspector.
pub(super) fn annotated(mut upload: Upload, inspected: &Inspected) -> Upload {
    upload.annotations.insert(inspected.inspector.clone(), inspected.annotation.clone());
    upload
}

pub(super) fn refusal(inspected: &Inspected) -> Violation {
    let reason = RejectReason::Inspection;
    let message = inspected.detail().unwrap_or_else(|| inspected.inspector.to_string());
    Violation { reason, message }
}
