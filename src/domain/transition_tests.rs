//! Tests of the state machine: a table of all pairs of a state and an event, and random sequences
//! of events.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::attachment::{Binding, Current, bind};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::ids::{Owner, TrackId, UploadId};
use crate::domain::inspection::{Annotation, Annotations, Inspected, InspectorName, Verdict};
use crate::domain::key::ObjectKey;
use crate::domain::location::LocationNumber;
use crate::domain::policy::tests::tracks;
use crate::domain::policy::{Late, Overwrite, PolicyName};
use crate::domain::reject_reason::RejectReason;
use crate::domain::rules::Violation;
use crate::domain::upload::{ConfirmedBy, Declared, Inspecting, Strategy};

/// A timestamp, in minutes after the epoch.
pub(crate) fn at(minutes: i64) -> Timestamp {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
}

pub(crate) fn facts(etag: &str) -> ObjectFacts {
    ObjectFacts { etag: etag.into(), version_id: None, size: 3, content_type: None, checksum: None }
}

/// An upload that was created at minute 0, with a URL that expires at minute 60. In states with a
/// verified object, object `a` was verified at minute 0. In final states, the deletion is due at
/// minute 10.
pub(crate) fn upload_in(status: Status) -> Upload {
    let id = UploadId(Uuid::from_u128(0x0190_a6f2_7b3c_7def_8123_4567_89ab_cdef));
    let policy = tracks();
    let verified =
        Verified { facts: facts("a"), confirmed_by: ConfirmedBy::Scan, late: false, at: at(0) };
    let state = match status {
        Status::Pending => State::Pending,
        Status::Inspecting => {
            State::Inspecting(Inspecting { arrived: verified, waiting_for: vec![clamav()] })
        }
        Status::Uploaded => State::Uploaded(verified),
        Status::Expired => State::Expired,
        Status::Rejected => {
            let reason = RejectReason::ContentMismatch;
            State::Rejected { reason, facts: facts("a"), verified: None }
        }
        Status::Cancelled => State::Cancelled,
        Status::Missing => State::Missing(verified),
        Status::Removed => {
            State::Removed { reason: RemoveReason::Deleted, verified: Some(verified) }
        }
    };
    let after = status.is_final().then(|| at(10));
    Upload {
        id,
        owner: Owner::anonymous(),
        token: None,
        policy: PolicyName::default(),
        slot: Some(Slot { subject: Subject::of_track(TrackId(Uuid::nil())), sequence: 1 }),
        location: LocationNumber(0),
        key: policy.prefix.key(id),
        declared: Declared::default(),
        strategy: Strategy::Put,
        write_once: false,
        metadata: std::collections::BTreeMap::new(),
        url_expires_at: at(60),
        multipart_id: matches!(status, Status::Pending).then(|| "m".to_owned()),
        part_size: None,
        state,
        detail: None,
        annotations: Annotations::new(),
        deletion: Deletion { after, done: None },
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn observation(
    facts: ObjectFacts,
    verdict: Result<(), RejectReason>,
    by: ConfirmedBy,
) -> Observation {
    let verdict = verdict.map_err(Violation::from);
    Observation { facts, verdict, by, annotations: Annotations::new() }
}

fn seen(etag: &str, verdict: Result<(), RejectReason>) -> Event {
    Event::Observed(observation(facts(etag), verdict, ConfirmedBy::Event))
}

fn verify(etag: &str, verdict: Result<(), RejectReason>, accept_changed: bool) -> Event {
    let seen = observation(facts(etag), verdict, ConfirmedBy::Confirm);
    Event::Verify(Verification { seen, accept_changed, operator: Owner::anonymous() })
}

fn head_at(minutes: i64) -> Event {
    Event::Absent(Absence {
        requested_at: at(minutes),
        by_head: true,
        last_part_at: None,
        by: ConfirmedBy::Scan,
    })
}

fn opened(multipart_id: &str, replaces: Option<&str>) -> Event {
    let replaces = replaces.map(str::to_owned);
    Event::MultipartOpened { multipart_id: multipart_id.to_owned(), replaces }
}

fn clamav() -> InspectorName {
    InspectorName::new("clamav")
}

fn inspected(etag: &str, verdict: Verdict) -> Inspected {
    Inspected {
        inspector: clamav(),
        etag: etag.to_owned(),
        version_id: None,
        verdict,
        annotation: Annotation::new(),
        forced_by: None,
        backfill: false,
    }
}

fn accepts(etag: &str) -> Event {
    Event::Inspected(inspected(etag, Verdict::Accept))
}

fn refuses(etag: &str) -> Event {
    Event::Inspected(inspected(etag, Verdict::Reject("a virus".to_owned())))
}

/// The object with this ETag was copied from location `from` to location 2.
fn relocation(from: i32, etag: &str) -> Event {
    Event::Moved(Relocation {
        from: LocationNumber(from),
        etag: etag.to_owned(),
        to: LocationNumber(2),
        key: ObjectKey::stored("moved/f/x"),
        facts: ObjectFacts { version_id: Some("v".to_owned()), ..facts("copy") },
    })
}

/// The policy `tracks` with these inspectors.
fn with_inspectors(names: &[&str]) -> Policy {
    let inspect = names.iter().map(|name| InspectorName::new(*name)).collect();
    Policy { inspect, ..tracks() }
}

/// A state, an event, and the result: `None` if the event is refused, otherwise the next status,
/// whether a write is needed, and the effects.
type Row = (Status, Event, Option<(Status, bool, Vec<Effect>)>);

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each pair of a state and an event")]
fn every_event_in_every_state_has_the_specified_result() {
    use Effect::{AbortMultipart, Bind, EndInspections, Reopen, Unbind};
    use Status::{Cancelled, Expired, Inspecting, Missing, Pending, Rejected, Removed, Uploaded};
    let bad = Err(RejectReason::ContentMismatch);
    let renew = || Event::Renew { url_expires_at: at(200) };
    let extend = || Event::ExtendDeadline { url_expires_at: at(200) };
    let open = || opened("n", Some("m"));
    let keep = || Event::KeepObject { until: at(11) };
    let moved = || relocation(0, "a");
    let to = |status, effects: &[Effect]| Some((status, true, effects.to_vec()));
    let stays = |status| Some((status, false, vec![]));
    let table: Vec<Row> = vec![
        (Pending, seen("a", Ok(())), to(Uploaded, &[Bind])),
        (Pending, seen("a", bad), to(Rejected, &[])),
        (Pending, head_at(75), stays(Pending)),
        (Pending, head_at(76), to(Expired, &[AbortMultipart])),
        (Pending, renew(), to(Pending, &[])),
        (Pending, Event::Delete, to(Cancelled, &[AbortMultipart])),
        (Pending, Event::Supersede, None),
        (Expired, seen("a", Ok(())), to(Uploaded, &[Bind])),
        (Expired, seen("a", bad), to(Rejected, &[])),
        (Expired, head_at(99), stays(Expired)),
        (Expired, renew(), to(Pending, &[Reopen])),
        (Expired, Event::Delete, to(Cancelled, &[])),
        (Expired, Event::Supersede, None),
        (Uploaded, seen("a", Ok(())), stays(Uploaded)),
        (Uploaded, seen("a", bad), stays(Uploaded)),
        (Uploaded, seen("b", Ok(())), to(Uploaded, &[])),
        (Uploaded, seen("b", bad), to(Uploaded, &[])),
        (Uploaded, head_at(0), stays(Uploaded)),
        (Uploaded, head_at(1), to(Missing, &[Unbind])),
        (Uploaded, renew(), None),
        (Uploaded, Event::Delete, to(Removed, &[Unbind])),
        (Uploaded, Event::Supersede, to(Removed, &[])),
        (Missing, seen("a", Ok(())), to(Uploaded, &[Bind])),
        (Missing, seen("b", bad), to(Uploaded, &[Bind])),
        (Missing, head_at(99), stays(Missing)),
        (Missing, renew(), None),
        (Missing, Event::Delete, to(Removed, &[Unbind])),
        (Missing, Event::Supersede, to(Removed, &[])),
        (Rejected, seen("b", Ok(())), stays(Rejected)),
        (Rejected, head_at(99), stays(Rejected)),
        (Rejected, renew(), None),
        (Rejected, Event::Delete, stays(Rejected)),
        (Rejected, Event::Supersede, stays(Rejected)),
        (Cancelled, seen("b", Ok(())), stays(Cancelled)),
        (Cancelled, head_at(99), stays(Cancelled)),
        (Cancelled, renew(), None),
        (Cancelled, Event::Delete, stays(Cancelled)),
        (Cancelled, Event::Supersede, stays(Cancelled)),
        (Removed, seen("b", Ok(())), stays(Removed)),
        (Removed, head_at(99), stays(Removed)),
        (Removed, renew(), None),
        (Removed, Event::Delete, stays(Removed)),
        (Removed, Event::Supersede, stays(Removed)),
        (Inspecting, seen("a", Ok(())), stays(Inspecting)),
        (Inspecting, seen("a", bad), stays(Inspecting)),
        // The policy has no inspectors any more.
        (Inspecting, seen("b", Ok(())), to(Uploaded, &[Bind])),
        (Inspecting, seen("b", bad), to(Rejected, &[EndInspections])),
        (Inspecting, head_at(0), stays(Inspecting)),
        (Inspecting, head_at(1), to(Pending, &[EndInspections])),
        (Inspecting, head_at(76), to(Expired, &[EndInspections])),
        (Inspecting, renew(), None),
        (Inspecting, Event::Delete, to(Removed, &[EndInspections])),
        (Inspecting, Event::Supersede, None),
        (Inspecting, extend(), stays(Inspecting)),
        (Inspecting, open(), None),
        (Inspecting, Event::ObjectDeleted, stays(Inspecting)),
        (Inspecting, verify("a", Ok(()), true), None),
        (Inspecting, keep(), stays(Inspecting)),
        (Inspecting, accepts("a"), to(Uploaded, &[Bind, EndInspections])),
        (Inspecting, refuses("a"), to(Rejected, &[EndInspections])),
        (Inspecting, accepts("b"), stays(Inspecting)),
        (Inspecting, refuses("b"), stays(Inspecting)),
        (Pending, accepts("a"), stays(Pending)),
        (Uploaded, refuses("a"), stays(Uploaded)),
        (Expired, accepts("a"), stays(Expired)),
        (Missing, refuses("a"), stays(Missing)),
        (Rejected, accepts("a"), stays(Rejected)),
        (Cancelled, accepts("a"), stays(Cancelled)),
        (Removed, accepts("a"), stays(Removed)),
        (Pending, extend(), to(Pending, &[])),
        (Expired, extend(), stays(Expired)),
        (Uploaded, extend(), stays(Uploaded)),
        (Missing, extend(), stays(Missing)),
        (Rejected, extend(), stays(Rejected)),
        (Cancelled, extend(), stays(Cancelled)),
        (Removed, extend(), stays(Removed)),
        (Pending, open(), to(Pending, &[])),
        (Expired, open(), None),
        (Uploaded, open(), None),
        (Missing, open(), None),
        (Rejected, open(), None),
        (Cancelled, open(), None),
        (Removed, open(), None),
        (Pending, Event::ObjectDeleted, stays(Pending)),
        (Expired, Event::ObjectDeleted, stays(Expired)),
        (Uploaded, Event::ObjectDeleted, stays(Uploaded)),
        (Missing, Event::ObjectDeleted, stays(Missing)),
        (Rejected, Event::ObjectDeleted, to(Rejected, &[])),
        (Cancelled, Event::ObjectDeleted, to(Cancelled, &[])),
        (Removed, Event::ObjectDeleted, to(Removed, &[])),
        (Pending, verify("a", Ok(()), true), None),
        (Expired, verify("a", Ok(()), true), None),
        (Uploaded, verify("a", bad, false), stays(Uploaded)),
        (Uploaded, verify("b", bad, false), to(Uploaded, &[])),
        (Missing, verify("a", bad, false), to(Uploaded, &[Bind])),
        (Rejected, verify("a", Ok(()), false), to(Uploaded, &[Bind])),
        (Rejected, verify("a", bad, true), None),
        (Cancelled, verify("a", Ok(()), true), None),
        (Removed, verify("a", Ok(()), true), None),
        (Pending, keep(), stays(Pending)),
        (Expired, keep(), stays(Expired)),
        (Uploaded, keep(), stays(Uploaded)),
        (Missing, keep(), stays(Missing)),
        (Rejected, keep(), to(Rejected, &[])),
        (Cancelled, keep(), to(Cancelled, &[])),
        (Removed, keep(), to(Removed, &[])),
        (Uploaded, moved(), to(Uploaded, &[])),
        (Uploaded, relocation(0, "b"), stays(Uploaded)),
        (Uploaded, relocation(1, "a"), stays(Uploaded)),
        (Pending, moved(), stays(Pending)),
        (Inspecting, moved(), stays(Inspecting)),
        (Expired, moved(), stays(Expired)),
        (Missing, moved(), stays(Missing)),
        (Rejected, moved(), stays(Rejected)),
        (Cancelled, moved(), stays(Cancelled)),
        (Removed, moved(), stays(Removed)),
    ];
    for (status, event, expected) in table {
        let got = step(upload_in(status), event.clone(), at(100), &tracks())
            .ok()
            .map(|step| (step.upload.status(), step.changed, step.effects));
        assert_eq!(got, expected, "{status:?} on {event:?}");
    }
}

#[test]
fn a_moved_upload_keeps_its_facts_and_leaves_its_old_object_behind() {
    let mut before = upload_in(Status::Uploaded);
    let State::Uploaded(verified) = &mut before.state else { panic!("uploaded") };
    verified.facts.content_type = Some("audio/mpeg".to_owned());
    let moved = step(before.clone(), relocation(0, "a"), at(100), &tracks()).unwrap();
    let State::Uploaded(verified) = &moved.upload.state else { panic!("uploaded") };
    let Upload { location, key, .. } = &moved.upload;
    assert_eq!((*location, key.as_str()), (LocationNumber(2), "moved/f/x"));
    let facts = &verified.facts;
    assert_eq!((facts.etag.as_str(), facts.version_id.as_deref()), ("copy", Some("v")));
    assert_eq!((facts.content_type.as_deref(), verified.at), (Some("audio/mpeg"), at(0)));
    let left = moved.left_behind.unwrap();
    assert_eq!((left.upload, left.location, left.key), (before.id, before.location, before.key));
    assert_eq!(left.delete_after, at(100) + tracks().move_retention);
    let again = step(moved.upload, relocation(0, "a"), at(101), &tracks()).unwrap();
    assert!(!again.changed && again.left_behind.is_none());
}

#[test]
fn with_inspectors_a_file_is_inspected_before_it_is_bound() {
    use Effect::{Bind, EndInspections, QueueInspections};
    let policy = with_inspectors(&["clamav", "acme"]);
    for status in [Status::Pending, Status::Expired] {
        let arrived = step(upload_in(status), seen("a", Ok(())), at(100), &policy).unwrap();
        assert_eq!(arrived.effects, [QueueInspections], "{status:?}");
        let State::Inspecting(inspecting) = &arrived.upload.state else { panic!("inspecting") };
        assert_eq!(inspecting.waiting_for, policy.inspect);
        assert_eq!(inspecting.arrived.late, status == Status::Expired);

        let again = step(arrived.upload.clone(), seen("a", Ok(())), at(101), &policy).unwrap();
        assert!(!again.changed);
        let first = step(arrived.upload, accepts("a"), at(102), &policy).unwrap();
        assert_eq!(
            (first.upload.status(), &*first.effects),
            (Status::Inspecting, &[EndInspections][..])
        );
        let twice = step(first.upload.clone(), accepts("a"), at(103), &policy).unwrap();
        assert!(!twice.changed, "the second inspector has no verdict yet");

        // Other bytes: the verdict of the first inspector does not apply to them.
        let replaced = step(first.upload.clone(), seen("b", Ok(())), at(103), &policy).unwrap();
        assert_eq!(replaced.effects, [QueueInspections]);
        let State::Inspecting(inspecting) = &replaced.upload.state else { panic!("inspecting") };
        assert_eq!(inspecting.waiting_for, policy.inspect);
        assert!(replaced.upload.annotations.is_empty());
        let about_old = step(replaced.upload, accepts("a"), at(104), &policy).unwrap();
        assert!(!about_old.changed);

        let acme =
            Inspected { inspector: InspectorName::new("acme"), ..inspected("a", Verdict::Accept) };
        let last = step(first.upload, Event::Inspected(acme), at(105), &policy).unwrap();
        assert_eq!(
            (last.upload.status(), &*last.effects),
            (Status::Uploaded, &[Bind, EndInspections][..])
        );
        assert_eq!(last.upload.state.verified().unwrap().at, at(105));
        assert_eq!(last.upload.annotations.len(), 2);
    }
}

#[test]
fn a_verdict_is_about_one_version_of_the_object() {
    let mut upload = upload_in(Status::Inspecting);
    let State::Inspecting(inspecting) = &mut upload.state else { panic!("inspecting") };
    inspecting.arrived.facts.version_id = Some("1".to_owned());
    let about = |version: Option<&str>| {
        let version_id = version.map(str::to_owned);
        let event = Event::Inspected(Inspected { version_id, ..inspected("a", Verdict::Accept) });
        step(upload.clone(), event, at(1), &with_inspectors(&["clamav"])).unwrap().changed
    };
    assert_eq!([None, Some("2"), Some("1")].map(about), [false, false, true]);
}

#[test]
fn a_rejection_by_an_inspector_keeps_its_reason_and_an_operator_can_repeat_the_inspection() {
    let policy = with_inspectors(&["clamav"]);
    let refused = step(upload_in(Status::Inspecting), refuses("a"), at(5), &policy).unwrap().upload;
    let State::Rejected { reason, verified, .. } = &refused.state else { panic!("rejected") };
    assert_eq!((*reason, verified), (RejectReason::Inspection, &None));
    assert_eq!(refused.detail.as_deref(), Some("clamav: a virus"));
    assert_eq!(refused.deletion.after, Some(at(5) + policy.rejected_retention));
    let again = step(refused, verify("a", Ok(()), false), at(6), &policy).unwrap();
    assert_eq!((again.upload.status(), again.upload.detail), (Status::Inspecting, None));
    assert_eq!(again.effects, [Effect::QueueInspections]);
}

#[test]
fn a_rejection_of_a_served_file_by_a_backfill_is_damage() {
    let policy = with_inspectors(&["clamav"]);
    let backfill = |etag, verdict| {
        let event = Event::Inspected(Inspected { backfill: true, ..inspected(etag, verdict) });
        step(upload_in(Status::Uploaded), event, at(5), &policy).unwrap()
    };
    let reject = || Verdict::Reject("a virus".to_owned());
    let refused = backfill("a", reject());
    assert_eq!(
        (refused.upload.status(), &*refused.effects),
        (Status::Rejected, &[Effect::Unbind][..])
    );
    assert!(upload_in(Status::Uploaded).is_damaged_by(&refused.upload));
    assert!(refused.upload.deletion_is_damage());
    assert!(!backfill("b", reject()).changed, "the verdict is about other bytes");
    let accepted = backfill("a", Verdict::Accept).upload;
    assert_eq!((accepted.status(), accepted.annotations.len()), (Status::Uploaded, 1));
}

#[test]
fn a_served_object_that_may_have_other_bytes_is_not_served_before_it_is_inspected() {
    use Effect::{QueueInspections, Unbind};
    let policy = with_inspectors(&["clamav"]);
    let effects = [
        (Status::Uploaded, vec![QueueInspections, Unbind]),
        (Status::Missing, vec![QueueInspections]),
    ];
    for (status, effects) in effects {
        let next = step(upload_in(status), seen("b", Ok(())), at(5), &policy).unwrap();
        assert_eq!((next.upload.status(), next.effects), (Status::Inspecting, effects));
    }
    let taken = step(upload_in(Status::Uploaded), seen("b", Ok(())), at(5), &policy).unwrap();
    assert!(upload_in(Status::Uploaded).is_damaged_by(&taken.upload));
    let back = step(upload_in(Status::Missing), seen("a", Ok(())), at(5), &policy).unwrap();
    assert_eq!(back.upload.status(), Status::Uploaded, "these bytes were inspected before");
}

#[test]
fn only_a_verified_upload_without_a_subject_is_removed_as_unattached() {
    for status in Status::ALL {
        let attached = step(upload_in(status), Event::Unattached, at(100), &tracks()).unwrap();
        assert!(!attached.changed, "{status:?}");
        let upload = Upload { slot: None, ..upload_in(status) };
        let step = step(upload, Event::Unattached, at(100), &tracks()).unwrap();
        assert_eq!(step.changed, status == Status::Uploaded, "{status:?}");
        if step.changed {
            let State::Removed { reason, .. } = step.upload.state else { panic!("removed") };
            assert_eq!(reason, RemoveReason::Unattached);
            assert_eq!(step.upload.deletion, Deletion { after: Some(at(100)), done: None });
        }
    }
}

#[test]
fn pending_and_verified_uploads_are_attached_to_one_subject_at_most() {
    let subject: Subject = "album:42:cover".parse().unwrap();
    let attach = |slot: Option<&Subject>, status| {
        let slot = slot.map(|subject| Slot { subject: subject.clone(), sequence: 1 });
        let upload = Upload { slot, ..upload_in(status) };
        step(upload, Event::Attach { subject: subject.clone() }, at(100), &tracks())
    };
    let other = Subject::of_track(TrackId(Uuid::nil()));
    for status in Status::ALL {
        let effects = match status {
            Status::Pending | Status::Inspecting => vec![Effect::Attach],
            Status::Uploaded => vec![Effect::Attach, Effect::Bind],
            _ => {
                let refused = TransitionError::NotAttachable(status);
                for slot in [None, Some(&subject), Some(&other)] {
                    assert_eq!(attach(slot, status).unwrap_err(), refused);
                }
                continue;
            }
        };
        let attached = attach(None, status).unwrap();
        assert_eq!((attached.upload.status(), attached.changed), (status, true));
        assert_eq!(attached.upload.subject(), Some(&subject));
        assert_eq!(attached.effects, effects);
        assert!(
            !attach(Some(&subject), status).unwrap().changed,
            "a repeated request writes nothing"
        );
        let elsewhere = attach(Some(&other), status).unwrap_err();
        assert_eq!(elsewhere, TransitionError::AttachedElsewhere);
    }
}

#[test]
fn late_bytes_are_marked_as_late_and_rejected_if_the_policy_rejects_them() {
    let late = step(upload_in(Status::Expired), seen("a", Ok(())), at(100), &tracks()).unwrap();
    assert!(late.upload.state.verified().unwrap().late);
    let strict = Policy { late: Late::Reject, ..tracks() };
    let refused = step(upload_in(Status::Expired), seen("a", Ok(())), at(100), &strict).unwrap();
    let State::Rejected { reason, .. } = refused.upload.state else { panic!("rejected") };
    assert_eq!(reason, RejectReason::Late);
    assert_eq!(refused.upload.deletion.after, Some(at(100) + strict.rejected_retention));
}

#[test]
fn other_bytes_are_rejected_as_overwritten_or_verified_again() {
    let bigger = |verdict| {
        let facts = ObjectFacts { size: 4, ..facts("b") };
        Event::Observed(observation(facts, verdict, ConfirmedBy::Scan))
    };
    for status in [Status::Uploaded, Status::Missing] {
        let refused = step(upload_in(status), bigger(Ok(())), at(5), &tracks()).unwrap();
        assert!(matches!(
            refused.upload.state,
            State::Rejected { reason: RejectReason::Overwritten, .. }
        ));
        let accept = Policy { overwrite: Overwrite::Accept, ..tracks() };
        let taken = step(upload_in(status), bigger(Ok(())), at(5), &accept).unwrap();
        assert_eq!(taken.upload.state.facts().unwrap().size, 4);
        let bad = bigger(Err(RejectReason::TooLarge));
        let refused = step(upload_in(status), bad, at(5), &accept).unwrap();
        assert_eq!(refused.upload.status(), Status::Rejected);
    }
}

/// The facts of an object that certainly has other bytes than `facts`, because its size differs.
fn other_facts(etag: &str) -> ObjectFacts {
    ObjectFacts { size: 4, ..facts(etag) }
}

#[test]
fn bytes_that_may_be_the_verified_ones_are_not_rejected_by_a_rule() {
    let sum = |bytes: &[u8]| Some(Checksum::of(Algorithm::Sha256, bytes));
    let verified = |checksum| {
        let mut upload = upload_in(Status::Uploaded);
        let State::Uploaded(verified) = &mut upload.state else { panic!("uploaded") };
        verified.facts.checksum = checksum;
        upload
    };
    let strict = |checksum| {
        let facts = ObjectFacts { checksum, ..facts("b") };
        let verdict = Err(RejectReason::TooLarge);
        Event::Observed(observation(facts, verdict, ConfirmedBy::Scan))
    };
    for (known, found, status) in [
        (sum(b"abc"), sum(b"abc"), Status::Uploaded),
        (sum(b"abc"), None, Status::Uploaded),
        (None, sum(b"abc"), Status::Uploaded),
        (sum(b"abc"), sum(b"xyz"), Status::Rejected),
    ] {
        let next = step(verified(known.clone()), strict(found.clone()), at(5), &tracks()).unwrap();
        assert_eq!(next.upload.status(), status, "{known:?} {found:?}");
        assert_eq!(next.upload.state.facts().unwrap().etag, "b");
    }
}

#[test]
fn a_rejected_upload_keeps_its_verified_facts_and_an_operator_can_restore_it() {
    let overwritten = Event::Observed(observation(other_facts("b"), Ok(()), ConfirmedBy::Scan));
    let before = upload_in(Status::Uploaded);
    let rejected = step(before.clone(), overwritten, at(5), &tracks()).unwrap().upload;
    assert!(rejected.deletion_is_damage() && before.is_damaged_by(&rejected));
    assert_eq!(rejected.state.ever_verified(), before.state.verified());
    let try_again = |event| step(rejected.clone(), event, at(6), &tracks());
    // The rejected bytes are still stored.
    let changed = |accept_changed, verdict| {
        let seen = observation(other_facts("b"), verdict, ConfirmedBy::Confirm);
        Event::Verify(Verification { seen, accept_changed, operator: Owner::anonymous() })
    };
    let refused = try_again(changed(false, Ok(()))).unwrap_err();
    assert_eq!(refused, TransitionError::Changed);
    let bad = RejectReason::ContentMismatch;
    let refused = try_again(changed(true, Err(bad))).unwrap_err();
    assert_eq!(refused, TransitionError::StillInvalid(bad));
    let accepted = try_again(changed(true, Ok(()))).unwrap();
    assert_eq!(accepted.upload.state.verified().unwrap().at, at(6));
    // The verified bytes were restored.
    let restored = try_again(verify("c", Err(bad), false)).unwrap();
    assert_eq!(restored.upload.state.verified().unwrap().at, at(0));
    for step in [accepted, restored] {
        assert_eq!((step.upload.status(), &*step.effects), (Status::Uploaded, &[Effect::Bind][..]));
        assert_eq!(step.upload.deletion, Deletion::default());
    }
}

#[test]
fn an_overwritten_row_of_version_0_1_has_no_verified_facts_and_needs_accept_changed() {
    let mut upload = upload_in(Status::Rejected);
    let reason = RejectReason::Overwritten;
    upload.state = State::Rejected { reason, facts: facts("b"), verified: None };
    assert!(upload.deletion_is_damage());
    let verify = |accept| step(upload.clone(), verify("b", Ok(()), accept), at(6), &tracks());
    assert_eq!(verify(false).unwrap_err(), TransitionError::Changed);
    assert_eq!(verify(true).unwrap().upload.status(), Status::Uploaded);
}

#[test]
fn the_same_bytes_in_another_version_are_recorded_and_nothing_else_changes() {
    let version = |id: &str| Some(id.to_owned());
    let mut upload = upload_in(Status::Uploaded);
    let State::Uploaded(verified) = &mut upload.state else { panic!("uploaded") };
    let checksum = Some(Checksum::of(Algorithm::Sha256, b"abc"));
    verified.facts = ObjectFacts { version_id: version("1"), checksum, ..facts("a") };
    let before = verified.clone();
    let seen = |version_id| {
        let facts = ObjectFacts { version_id, ..facts("a") };
        Event::Observed(observation(facts, Ok(()), ConfirmedBy::Scan))
    };
    let same = step(upload.clone(), seen(version("1")), at(5), &tracks()).unwrap();
    assert!(!same.changed);
    for other in [version("2"), None] {
        let step = step(upload.clone(), seen(other.clone()), at(5), &tracks()).unwrap();
        assert!(step.changed && step.effects.is_empty(), "{step:?}");
        let facts = ObjectFacts { version_id: other, ..before.facts.clone() };
        assert_eq!(step.upload.state, State::Uploaded(Verified { facts, ..before.clone() }));
        assert_eq!(step.upload.deletion, upload.deletion);
    }
}

#[test]
fn a_listing_alone_changes_nothing() {
    for status in Status::ALL {
        let absent = Event::Absent(Absence {
            requested_at: at(999),
            by_head: false,
            last_part_at: None,
            by: ConfirmedBy::Scan,
        });
        assert!(!step(upload_in(status), absent, at(999), &tracks()).unwrap().changed);
    }
}

#[test]
fn an_upload_whose_newest_part_is_younger_than_the_grace_does_not_expire() {
    let absent = |requested, part| {
        let (requested_at, last_part_at) = (at(requested), Some(at(part)));
        let absence = Absence { requested_at, by_head: true, last_part_at, by: ConfirmedBy::Scan };
        step(upload_in(Status::Pending), Event::Absent(absence), at(requested), &tracks()).unwrap()
    };
    assert!(!absent(90, 75).changed, "more parts may follow");
    let given_up = absent(91, 75);
    assert_eq!(given_up.upload.status(), Status::Expired);
    assert_eq!(given_up.effects, [Effect::AbortMultipart]);
}

#[test]
fn bytes_that_come_after_a_deletion_make_the_object_due_at_once() {
    for status in [Status::Rejected, Status::Cancelled, Status::Removed] {
        let mut upload = upload_in(status);
        upload.deletion.done = Some(at(20));
        let again = step(upload, seen("b", Ok(())), at(30), &tracks()).unwrap();
        assert_eq!(again.upload.deletion, Deletion { after: Some(at(30)), done: None });
        assert_eq!(again.upload.status(), status);
    }
}

#[test]
fn a_shorter_renewal_does_not_move_the_deadline_back() {
    let renew = Event::Renew { url_expires_at: at(30) };
    let renewed = step(upload_in(Status::Pending), renew, at(5), &tracks()).unwrap();
    assert_eq!(renewed.upload.url_expires_at, at(60));
}

#[test]
fn a_deadline_is_extended_and_never_moved_back() {
    let extend = |minutes| {
        let event = Event::ExtendDeadline { url_expires_at: at(minutes) };
        step(upload_in(Status::Pending), event, at(5), &tracks()).unwrap()
    };
    let extended = extend(61);
    assert!(extended.changed);
    assert_eq!(extended.upload.url_expires_at, at(61));
    for earlier in [30, 60] {
        let unchanged = extend(earlier);
        assert!(!unchanged.changed);
        assert_eq!(unchanged.upload, upload_in(Status::Pending));
    }
}

#[test]
fn a_multipart_upload_is_recorded_once_and_replaces_only_the_id_that_is_gone() {
    let pending = |multipart_id: Option<&str>| Upload {
        multipart_id: multipart_id.map(str::to_owned),
        ..upload_in(Status::Pending)
    };
    // Columns: the recorded id; the id that is gone; whether the new id is recorded.
    let table = [
        (None, None, true),
        (None, Some("old"), true),
        (Some("old"), Some("old"), true),
        (Some("old"), None, false),
        (Some("other"), Some("old"), false),
    ];
    for (on_record, gone, recorded) in table {
        let step = step(pending(on_record), opened("new", gone), at(5), &tracks()).unwrap();
        assert_eq!(step.changed, recorded, "{on_record:?}, {gone:?}");
        let expected = if recorded { Some("new") } else { on_record };
        assert_eq!(step.upload.multipart_id.as_deref(), expected, "{on_record:?}, {gone:?}");
    }
}

fn any_event() -> impl Strategy_<Value = (i64, Event)> {
    let verdict = prop_oneof![
        3 => Just(Ok(())),
        1 => Just(Err(RejectReason::ContentMismatch)),
    ];
    let etag = prop_oneof![Just("a"), Just("b")];
    let size = 3u64..5;
    let observed = (etag, size, verdict).prop_map(|(etag, size, verdict)| {
        let facts = ObjectFacts { size, ..facts(etag) };
        Event::Observed(observation(facts, verdict, ConfirmedBy::Scan))
    });
    let absent = (0i64..400, any::<bool>(), prop::option::of(0i64..400)).prop_map(
        |(requested, by_head, part)| {
            let last_part_at = part.map(at);
            Event::Absent(Absence {
                requested_at: at(requested),
                by_head,
                last_part_at,
                by: ConfirmedBy::Scan,
            })
        },
    );
    let renew = (0i64..400).prop_map(|end| Event::Renew { url_expires_at: at(end) });
    let extend = (0i64..400).prop_map(|end| Event::ExtendDeadline { url_expires_at: at(end) });
    let opened = prop_oneof![Just(None), Just(Some("m"))].prop_map(|gone| opened("n", gone));
    let verification = (prop_oneof![Just("a"), Just("b")], 3u64..5, any::<bool>()).prop_map(
        |(etag, size, accept_changed)| {
            let facts = ObjectFacts { size, ..facts(etag) };
            let seen = observation(facts, Ok(()), ConfirmedBy::Confirm);
            Event::Verify(Verification { seen, accept_changed, operator: Owner::anonymous() })
        },
    );
    let event = prop_oneof![
        4 => observed,
        4 => absent,
        2 => renew,
        1 => extend,
        1 => opened,
        1 => Just(Event::Delete),
        1 => Just(Event::Unattached),
        1 => Just(Event::Attach { subject: Subject::of_track(TrackId(Uuid::nil())) }),
        1 => Just(Event::Supersede),
        1 => Just(Event::ObjectDeleted),
        1 => verification,
        1 => (0i64..400).prop_map(|until| Event::KeepObject { until: at(until) }),
        3 => (prop_oneof![Just("a"), Just("b")], any::<bool>(), any::<bool>()).prop_map(
            |(etag, good, backfill)| {
                let verdict = if good { Verdict::Accept } else { Verdict::Reject("x".into()) };
                Event::Inspected(Inspected { backfill, ..inspected(etag, verdict) })
            },
        ),
    ];
    (0i64..30, event)
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #[test]
    fn random_histories_keep_every_invariant(
        events in prop::collection::vec(any_event(), 1..40), inspects: bool,
    ) {
        let policy = with_inspectors(if inspects { &["clamav"] } else { &[] });
        let mut upload = upload_in(Status::Pending);
        let (mut now, mut object_seen) = (at(0), false);
        // The objects that an inspector accepted.
        let mut accepted = Vec::new();
        for (minutes, event) in events {
            now += TimeDelta::minutes(minutes);
            let before = upload.clone();
            object_seen |= matches!(event, Event::Observed(_) | Event::Verify(_));
            let by_operator = matches!(event, Event::Verify(_));
            if let Event::Inspected(Inspected { etag, verdict: Verdict::Accept, .. }) = &event {
                accepted.push(etag.clone());
            }
            let Ok(next) = step(upload.clone(), event.clone(), now, &policy) else { continue };
            upload = next.upload;
            let (was, is) = (before.status(), upload.status());

            prop_assert!(!was.is_final() || was == is || by_operator, "{was:?} is final, became {is:?}");
            prop_assert!(is != Status::Uploaded || object_seen);
            if inspects && let State::Uploaded(verified) = &upload.state {
                let served = &verified.facts.etag;
                prop_assert!(accepted.contains(served), "{served} is served without an inspection");
            }
            prop_assert!(next.changed || upload == before, "without a change to save, the upload is the same");
            // The object of a row with a planned deletion is deleted, whatever a listing shows. So
            // only final states may have one.
            prop_assert!(upload.deletion.after.is_none() || is.is_final(), "a deletion is planned in {is:?}");
            if is == Status::Expired && was != Status::Expired {
                let Event::Absent(absence) = &event else { panic!("expired by {event:?}") };
                prop_assert!(absence.by_head && absence.requested_at > before.deadline(policy.grace));
            }
            if let Event::Observed(_) = event {
                let again = step(upload.clone(), event, now, &policy).unwrap();
                prop_assert_eq!(again.upload.state, upload.state.clone());
                prop_assert!(!again.changed, "a repeated observation writes nothing");
            }
            if is.is_final() && is != was {
                prop_assert!(upload.deletion.after.is_some(), "in a final state, the deletion of the object is planned");
            }
        }
    }

    #[test]
    fn the_newest_verified_upload_of_a_subject_becomes_current_in_any_order(
        arrivals in Just((1i64..8).collect::<Vec<_>>()).prop_shuffle(),
        verified in prop::collection::vec(any::<bool>(), 8),
    ) {
        let id = |sequence: i64| UploadId(Uuid::from_u128(sequence.unsigned_abs().into()));
        let mut current: Option<Current> = None;
        let mut superseded = Vec::new();
        for sequence in arrivals.into_iter().filter(|s| verified[usize::try_from(*s).unwrap()]) {
            match bind(current, id(sequence), sequence) {
                Binding::Take { supersedes } => {
                    superseded.extend(supersedes);
                    current = Some(Current { upload: id(sequence), sequence });
                }
                Binding::Yield => superseded.push(id(sequence)),
            }
        }
        let expected: Vec<i64> =
            (1..8).filter(|s| verified[usize::try_from(*s).unwrap()]).collect();
        prop_assert_eq!(current.map(|current| current.sequence), expected.last().copied());
        prop_assert_eq!(superseded.len(), expected.len().saturating_sub(1));
    }
}
