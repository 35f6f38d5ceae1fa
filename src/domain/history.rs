//! The history of an upload: each change of its status, with who made it and why.

use std::fmt;

use super::clock::Timestamp;
use super::detail::cut;
use super::ids::Owner;
use super::inspection::InspectorName;
use super::reject_reason::RejectReason;
use super::transition::Event;
use super::upload::{ConfirmedBy, RemoveReason, State, Status};

/// Who caused a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The owner, by a request.
    Client,
    /// An observation of the object.
    Observer(ConfirmedBy),
    /// An inspector, by its verdict.
    Inspector(InspectorName),
    /// An operator.
    Operator(Owner),
    /// The removal of uploads that were not attached in time.
    Retention,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Observer(by) => f.write_str(by.name()),
            Self::Inspector(name) => write!(f, "inspector:{name}"),
            Self::Operator(owner) => write!(f, "admin:{}", owner.as_str()),
            Self::Retention => f.write_str("retention"),
        }
    }
}

/// Why an upload changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Who caused it.
    pub by: Actor,
    /// A sentence with more detail than the states and the reason, if there is one.
    pub detail: Option<String>,
}

impl Cause {
    /// The cause of a change: `event` changed the state of the upload to `after`.
    pub fn of(event: &Event, after: &State) -> Self {
        let by = match event {
            Event::Observed(seen) => Actor::Observer(seen.by),
            Event::Absent(absence) => Actor::Observer(absence.by),
            Event::Verify(verification) => Actor::Operator(verification.operator.clone()),
            Event::Inspected(inspected) => Actor::Inspector(inspected.inspector.clone()),
            Event::Unattached => Actor::Retention,
            Event::Renew { .. }
            | Event::ExtendDeadline { .. }
            | Event::MultipartOpened { .. }
            | Event::Attach { .. }
            | Event::Delete
            | Event::Supersede
            // These change no status.
            | Event::ObjectDeleted
            | Event::KeepObject { .. }
            | Event::Moved(_) => Actor::Client,
        };
        let detail = match (event, after) {
            // The broken rule explains the rejection only if it is the reason. Changed bytes are
            // rejected as `overwritten`, even if they also break a rule.
            (Event::Observed(seen), State::Rejected { reason, .. }) => {
                let broken = seen.verdict.as_ref().err();
                broken
                    .filter(|broken| broken.reason == *reason)
                    .map(|broken| broken.message.clone())
            }
            (Event::Inspected(inspected), _) => inspected.detail(),
            _ => None,
        };
        Self { by, detail: detail.map(cut) }
    }
}

/// A change of an upload's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// When it was committed.
    pub at: Timestamp,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Who caused it: the text of an [`Actor`].
    pub by: String,
    /// The reason of a rejection or removal.
    pub reason: Option<String>,
    /// The recorded sentence, if there is one.
    pub detail: Option<String>,
}

impl StatusChange {
    /// Why the status changed, in plain words: the recorded sentence, or else a sentence for the
    /// reason, or else one for the two states.
    pub fn explanation(&self) -> &str {
        let Self { at: _, from, to, by, reason, detail } = self;
        let of_states = match (from, to) {
            (Status::Expired, Status::Pending) => "The client requested a new URL",
            (Status::Inspecting, Status::Pending) => "The file is no longer in the store",
            (_, Status::Pending) => "The upload waits for the file",
            (_, Status::Inspecting) => "The file passed the rules of the policy and is inspected",
            (Status::Inspecting, Status::Uploaded) => "Every inspector accepts the file",
            (_, Status::Uploaded) if by.starts_with("admin:") => {
                "An operator had the file verified again"
            }
            (Status::Missing, Status::Uploaded) => "The verified file is in the store again",
            (Status::Expired, Status::Uploaded) => {
                "The file arrived after the deadline and passed the rules of the policy"
            }
            (_, Status::Uploaded) => "The file arrived and passed the rules of the policy",
            (_, Status::Expired) => "The deadline passed, and the store does not have the file",
            (_, Status::Cancelled) => "The client cancelled the upload",
            (_, Status::Missing) => "The store no longer has the verified file",
            (_, Status::Rejected) => "The file breaks a rule of the policy",
            (_, Status::Removed) => "The file is no longer needed",
        };
        let of_reason = reason.as_deref().and_then(|name| match to {
            Status::Rejected => name.parse().ok().map(RejectReason::explanation),
            Status::Removed => name.parse().ok().map(RemoveReason::explanation),
            _ => None,
        });
        detail.as_deref().or(of_reason).unwrap_or(of_states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::detail::MAX_DETAIL;
    use crate::domain::inspection::Annotations;
    use crate::domain::rules::Violation;
    use crate::domain::transition::Observation;
    use crate::domain::transition::tests::{at, facts};

    fn cause_of(message: &str, reason: RejectReason) -> Cause {
        let broken = Violation { reason: RejectReason::TooLarge, message: message.to_owned() };
        let verdict = Err(broken);
        let (facts_a, annotations) = (facts("a"), Annotations::new());
        let by = ConfirmedBy::Event;
        let event = Event::Observed(Observation { facts: facts_a, verdict, by, annotations });
        Cause::of(&event, &State::Rejected { reason, facts: facts("a"), verified: None })
    }

    #[test]
    fn a_cause_names_the_actor_and_the_broken_rule() {
        let cause = cause_of("File is too large", RejectReason::TooLarge);
        assert_eq!(cause.by, Actor::Observer(ConfirmedBy::Event));
        assert_eq!(cause.detail.as_deref(), Some("File is too large"));
        let overwritten = cause_of("File is too large", RejectReason::Overwritten);
        assert_eq!(overwritten.detail, None, "not the reason of the rejection");
        let deleted = Cause::of(&Event::Delete, &State::Cancelled);
        assert_eq!(deleted, Cause { by: Actor::Client, detail: None });
        let removed = State::Removed { reason: RemoveReason::Unattached, verified: None };
        assert_eq!(Cause::of(&Event::Unattached, &removed).by.to_string(), "retention");
        assert_eq!(Actor::Operator(Owner::named("ann")).to_string(), "admin:ann");
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let detail = cause_of(&"ä€".repeat(300), RejectReason::TooLarge).detail.unwrap();
        assert!((MAX_DETAIL - 4..=MAX_DETAIL).contains(&detail.len()), "{}", detail.len());
    }

    #[test]
    fn every_change_has_an_explanation_and_the_recorded_one_comes_first() {
        let change = |from, to| StatusChange {
            at: at(0),
            from,
            to,
            by: "scan".to_owned(),
            reason: None,
            detail: None,
        };
        for from in Status::ALL {
            for to in Status::ALL {
                assert!(!change(from, to).explanation().is_empty());
            }
        }
        let late = StatusChange {
            reason: Some("late".to_owned()),
            ..change(Status::Expired, Status::Rejected)
        };
        assert_eq!(late.explanation(), RejectReason::Late.explanation());
        let recorded = StatusChange { detail: Some("because".to_owned()), ..late };
        assert_eq!(recorded.explanation(), "because");
    }
}
