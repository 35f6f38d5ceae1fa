//! The state machine: `(upload, event, now, policy) → (upload, effects)` or a named error.
//!
//! Every pair of a state and an event is defined. Only `app::transitions` saves the result, and
//! only if the row's `version` has not changed since the row was read.
//!
//! What the store shows is in `observed`, the verdicts of inspectors in `inspected`, the
//! verification by an operator in `verify`. The other events are handled here.

mod event;
mod inspected;
mod observed;
mod result;
mod verify;

use self::inspected::apply_verdict;
use self::observed::{absent, observed};
use self::result::{abort, changed, saved, unchanged};
use self::verify::verify;
use super::clock::Timestamp;
use super::object_copy::ObjectCopy;
use super::policy::Policy;
use super::subject::{Slot, Subject};
use super::upload::{Deletion, ObjectFacts, RemoveReason, State, Status, Upload, Verified};

pub use event::{Absence, Event, Observation, Relocation, Verification};
pub use result::{Effect, Step, TransitionError};

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
    // Another request opened a multipart upload first. That one is kept, and the caller aborts its
    // own.
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
    // The transaction that saves the upload sets the sequence number.
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

/// Postpones a planned deletion until at least this time. Changes nothing if no deletion is
/// planned.
fn keep_object(upload: Upload, until: Timestamp) -> Step {
    let Deletion { after, done } = upload.deletion;
    if done.is_none() && after.is_some_and(|after| after < until) {
        saved(Upload { deletion: Deletion { after: Some(until), done }, ..upload })
    } else {
        unchanged(upload)
    }
}

/// Repoints a verified upload to the copy. Changes nothing if the upload no longer has the object
/// that was copied. The copy is then not needed.
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
            // The recorded checksum and media type are kept. They come from the client or from the
            // bytes. The checksum of the copy is used only if none was recorded.
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

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(crate) mod tests;
