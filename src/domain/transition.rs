//! The state machine: `(upload, event, now, policy) → (upload, effects)` or a named error.
//!
//! It is total: the table in the tests has every pair of a state and an event. Only
//! `app::transitions` saves the result, guarded by the row's `version`.

use super::clock::Timestamp;
use super::detail::cut;
use super::ids::Owner;
use super::inspection::{Annotations, Inspected, Verdict};
use super::key::ObjectKey;
use super::location::LocationNumber;
use super::object_copy::ObjectCopy;
use super::policy::{Late, Overwrite, Policy};
use super::reject_reason::RejectReason;
use super::rules::Violation;
use super::subject::{Slot, Subject};
use super::upload::{
    ConfirmedBy, Deletion, Inspecting, ObjectFacts, RemoveReason, State, Status, Upload, Verified,
};

/// An event about an upload.
#[derive(Debug, Clone)]
pub enum Event {
    /// The object was observed and validated.
    Observed(Observation),
    /// A request showed that the object does not exist.
    Absent(Absence),
    /// An inspector has a verdict.
    Inspected(Inspected),
    /// The client requests a new URL.
    Renew {
        /// When the new URL expires.
        url_expires_at: Timestamp,
    },
    /// More bytes are expected, so the deadline moves. It never moves back.
    ExtendDeadline {
        /// When the newest URL expires.
        url_expires_at: Timestamp,
    },
    /// The store opened a multipart upload for it.
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
    /// An operator is about to verify it: its object is not deleted before this time.
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
    /// The copy.
    pub facts: ObjectFacts,
}

/// An observation of the object.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The object.
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

/// What to do besides saving the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Give it the next number of its subject's sequence, in the same transaction.
    Attach,
    /// Make it the current upload of its subject, unless a newer one is, in the same transaction.
    Bind,
    /// If it is the current upload of its subject, leave the subject without one, in the same
    /// transaction.
    Unbind,
    /// Count it among its owner's pending uploads like a new one, in the same transaction.
    Reopen,
    /// Abort the store's multipart upload, after the commit.
    AbortMultipart,
    /// Queue an inspection by each inspector that it waits for, in the same transaction. Earlier
    /// ones of the upload are removed.
    QueueInspections,
    /// Remove the inspections that it no longer waits for, in the same transaction.
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

/// Applies an event.
pub fn step(
    upload: Upload,
    event: Event,
    now: Timestamp,
    policy: &Policy,
) -> Result<Step, TransitionError> {
    match event {
        Event::Observed(seen) => Ok(observed(upload, seen, now, policy)),
        Event::Absent(absence) => Ok(absent(upload, absence, now, policy)),
        Event::Inspected(inspected) => Ok(apply_verdict(upload, inspected, now, policy)),
        Event::Renew { url_expires_at } => renew(upload, url_expires_at, now),
        Event::ExtendDeadline { url_expires_at } => Ok(extend_deadline(upload, url_expires_at)),
        Event::MultipartOpened { multipart_id, replaces } => {
            multipart_opened(upload, multipart_id, replaces.as_deref())
        }
        Event::Attach { subject } => attach(upload, subject, now),
        Event::Unattached => Ok(unattached(upload, now)),
        Event::Delete => Ok(delete(upload, now)),
        Event::Supersede => supersede(upload, now, policy),
        Event::ObjectDeleted => Ok(object_deleted(upload, now)),
        Event::Verify(verification) => verify(upload, verification, now, policy),
        Event::KeepObject { until } => Ok(keep_object(upload, until)),
        Event::Moved(relocation) => Ok(moved(upload, relocation, now, policy)),
    }
}

fn observed(upload: Upload, seen: Observation, now: Timestamp, policy: &Policy) -> Step {
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
fn arrived(upload: Upload, seen: Observation, late: bool, now: Timestamp, policy: &Policy) -> Step {
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

/// Bytes that pass the rules and were not served before: they are inspected first, if the policy
/// has inspectors.
fn accept(upload: Upload, verified: Verified, now: Timestamp, policy: &Policy) -> Step {
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

/// Applies the verdict of an inspector. It has an effect only if it is about the current bytes.
fn apply_verdict(upload: Upload, inspected: Inspected, now: Timestamp, policy: &Policy) -> Step {
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

fn inspected_first(
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
fn is_about(inspected: &Inspected, facts: &ObjectFacts) -> bool {
    inspected.etag == facts.etag && inspected.version_id == facts.version_id
}

/// The upload with the results of an inspector.
fn annotated(mut upload: Upload, inspected: &Inspected) -> Upload {
    upload.annotations.insert(inspected.inspector.clone(), inspected.annotation.clone());
    upload
}

fn refusal(inspected: &Inspected) -> Violation {
    let reason = RejectReason::Inspection;
    let message = inspected.detail().unwrap_or_else(|| inspected.inspector.to_string());
    Violation { reason, message }
}

/// A later observation of a verified upload. The rules apply only to other bytes. They never reject
/// an upload whose bytes may be the verified ones.
fn seen_again(
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

/// Verified bytes that are in the store, still or again.
fn returned(upload: Upload, verified: Verified, now: Timestamp) -> Step {
    let effects = if upload.status() == Status::Uploaded { vec![] } else { vec![Effect::Bind] };
    changed(upload, State::Uploaded(verified), now, effects)
}

/// The facts about a verified object that is observed again. The recorded checksum is kept only if
/// the bytes are the same.
fn newer_facts(before: ObjectFacts, seen: ObjectFacts) -> ObjectFacts {
    let same = before.same_bytes(&seen) == Some(true);
    let recorded = if same { before.checksum } else { None };
    ObjectFacts { checksum: seen.checksum.or(recorded), ..seen }
}

fn reject(
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

fn absent(upload: Upload, absence: Absence, now: Timestamp, policy: &Policy) -> Step {
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
        // The same as without an inspection: the bytes did not stay, so they count as never
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

fn renew(
    upload: Upload,
    url_expires_at: Timestamp,
    now: Timestamp,
) -> Result<Step, TransitionError> {
    match upload.status() {
        Status::Pending | Status::Expired => {
            // An earlier URL may be valid for longer than the new one: the later expiry counts.
            let url_expires_at = url_expires_at.max(upload.url_expires_at);
            let reopens = upload.status() == Status::Expired;
            let effects = if reopens { vec![Effect::Reopen] } else { vec![] };
            Ok(changed(Upload { url_expires_at, ..upload }, State::Pending, now, effects))
        }
        status => Err(TransitionError::NotRenewable(status)),
    }
}

fn extend_deadline(upload: Upload, url_expires_at: Timestamp) -> Step {
    if upload.status() == Status::Pending && url_expires_at > upload.url_expires_at {
        saved(Upload { url_expires_at, ..upload })
    } else {
        unchanged(upload)
    }
}

fn multipart_opened(
    upload: Upload,
    multipart_id: String,
    replaces: Option<&str>,
) -> Result<Step, TransitionError> {
    if upload.status() != Status::Pending {
        return Err(TransitionError::TakesNoParts(upload.status()));
    }
    // Another request opened one first. That one stays, and the caller aborts its own.
    if upload.multipart_id.is_some() && upload.multipart_id.as_deref() != replaces {
        return Ok(unchanged(upload));
    }
    Ok(saved(Upload { multipart_id: Some(multipart_id), ..upload }))
}

fn attach(upload: Upload, subject: Subject, now: Timestamp) -> Result<Step, TransitionError> {
    let effects = match upload.status() {
        Status::Pending | Status::Inspecting => vec![Effect::Attach],
        Status::Uploaded => vec![Effect::Attach, Effect::Bind],
        status => return Err(TransitionError::NotAttachable(status)),
    };
    match &upload.slot {
        Some(slot) if slot.subject == subject => return Ok(unchanged(upload)),
        Some(_) => return Err(TransitionError::AttachedElsewhere),
        None => {}
    }
    let state = upload.state.clone();
    // The transaction that saves it sets the number.
    let slot = Some(Slot { subject, sequence: 0 });
    Ok(changed(Upload { slot, ..upload }, state, now, effects))
}

fn unattached(upload: Upload, now: Timestamp) -> Step {
    match upload.state.clone() {
        State::Uploaded(verified) if upload.slot.is_none() => {
            let state =
                State::Removed { reason: RemoveReason::Unattached, verified: Some(verified) };
            let deletion = Deletion { after: Some(now), done: None };
            changed(Upload { deletion, ..upload }, state, now, vec![])
        }
        _ => unchanged(upload),
    }
}

fn delete(upload: Upload, now: Timestamp) -> Step {
    let deletion = Deletion { after: Some(now), done: None };
    match upload.state.clone() {
        State::Pending | State::Expired => {
            let effects = abort(&upload);
            let upload = Upload { multipart_id: None, deletion, ..upload };
            changed(upload, State::Cancelled, now, effects)
        }
        State::Inspecting(_) => {
            let state = State::Removed { reason: RemoveReason::Deleted, verified: None };
            changed(Upload { deletion, ..upload }, state, now, vec![Effect::EndInspections])
        }
        State::Uploaded(verified) | State::Missing(verified) => {
            let state = State::Removed { reason: RemoveReason::Deleted, verified: Some(verified) };
            changed(Upload { deletion, ..upload }, state, now, vec![Effect::Unbind])
        }
        State::Rejected { .. } | State::Cancelled | State::Removed { .. } => unchanged(upload),
    }
}

fn supersede(upload: Upload, now: Timestamp, policy: &Policy) -> Result<Step, TransitionError> {
    match upload.state.clone() {
        State::Uploaded(verified) | State::Missing(verified) => {
            let deletion = Deletion { after: Some(now + policy.replaced_retention), done: None };
            let state =
                State::Removed { reason: RemoveReason::Superseded, verified: Some(verified) };
            Ok(changed(Upload { deletion, ..upload }, state, now, vec![]))
        }
        State::Rejected { .. } | State::Cancelled | State::Removed { .. } => Ok(unchanged(upload)),
        State::Pending | State::Inspecting(_) | State::Expired => {
            Err(TransitionError::NotVerified(upload.status()))
        }
    }
}

fn object_deleted(upload: Upload, now: Timestamp) -> Step {
    if upload.status().is_final() && upload.deletion.is_due(now) {
        let deletion = Deletion { done: Some(now), ..upload.deletion };
        let state = upload.state.clone();
        changed(Upload { deletion, ..upload }, state, now, vec![])
    } else {
        unchanged(upload)
    }
}

/// An operator's verification of an upload.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The object now.
    pub seen: Observation,
    /// Whether other bytes than the verified ones are accepted, if they pass the rules.
    pub accept_changed: bool,
    /// The operator.
    pub operator: Owner,
}

/// Applies an operator's verification.
fn verify(
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
    // An upload that was rejected because of other bytes stays rejected, even if the bytes can be
    // compared today.
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

/// Postpones a deletion that is due earlier. If no deletion is due, the object stays anyway.
fn keep_object(upload: Upload, until: Timestamp) -> Step {
    let Deletion { after, done } = upload.deletion;
    if done.is_none() && after.is_some_and(|after| after < until) {
        saved(Upload { deletion: Deletion { after: Some(until), done }, ..upload })
    } else {
        unchanged(upload)
    }
}

/// Repoints a verified upload to the copy. If it is not the upload of that object any more, the copy
/// is not needed.
fn moved(upload: Upload, relocation: Relocation, now: Timestamp, policy: &Policy) -> Step {
    let Relocation { from, etag, to, key, facts } = relocation;
    match upload.state.clone() {
        State::Uploaded(verified) if upload.location == from && verified.facts.etag == etag => {
            let left_behind = ObjectCopy {
                upload: upload.id,
                policy: upload.policy.clone(),
                location: upload.location,
                key: upload.key.clone(),
                delete_after: now + policy.move_retention,
            };
            // The client's checksum and media type are better than those of the copy.
            let facts = ObjectFacts {
                checksum: verified.facts.checksum.clone().or(facts.checksum),
                content_type: verified.facts.content_type.clone(),
                ..facts
            };
            let state = State::Uploaded(Verified { facts, ..verified });
            // The client's URLs are those of the former location: none writes the new object.
            let ended = now - policy.replacement_window();
            let url_expires_at = upload.url_expires_at.min(ended);
            let upload = Upload { location: to, key, url_expires_at, ..upload };
            Step { left_behind: Some(left_behind), ..changed(upload, state, now, vec![]) }
        }
        _ => unchanged(upload),
    }
}

fn abort(upload: &Upload) -> Vec<Effect> {
    upload.multipart_id.iter().map(|_| Effect::AbortMultipart).collect()
}

fn changed(upload: Upload, state: State, now: Timestamp, effects: Vec<Effect>) -> Step {
    let rejected = matches!(state, State::Rejected { .. });
    let detail = upload.detail.filter(|_| rejected);
    let upload = Upload { detail, ..upload };
    let upload = Upload { state, updated_at: now, ..upload };
    Step { upload, changed: true, effects, left_behind: None }
}

/// A change of internal data. The client sees no change, so `updated_at` does not change.
fn saved(upload: Upload) -> Step {
    Step { upload, changed: true, effects: vec![], left_behind: None }
}

fn unchanged(upload: Upload) -> Step {
    Step { upload, changed: false, effects: vec![], left_behind: None }
}

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(crate) mod tests;
