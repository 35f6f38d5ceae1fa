//! The action that a row and a listed object with the same key need.
//!
//! The decisions have no side effects: the reconciler joins the two sides by key and does what is
//! decided here. A listing is only a hint; before an action changes a row, a HEAD of its key
//! confirms it.

use super::clock::Timestamp;
use super::ids::UploadId;
use super::key::Prefix;
use super::policy::Policy;
use super::upload::{Deletion, Status, Upload};

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was stored, by the store's clock.
    pub last_modified: Option<Timestamp>,
}

/// The columns of a row that a decision needs. An audit reads only these columns of most rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSummary {
    /// The key of its object.
    pub key: String,
    /// Its state.
    pub status: Status,
    /// The ETag on record.
    pub etag: Option<String>,
    /// Whether its bytes arrived late.
    pub late: bool,
    /// When its newest URL expires, if it is pending.
    pub url_expires_at: Option<Timestamp>,
    /// When its object was verified, if the upload is inspecting or uploaded, and the row has the
    /// version id of the object.
    pub version_recorded_at: Option<Timestamp>,
    /// The deletion of an unwanted object.
    pub deletion: Deletion,
}

impl From<&Upload> for UploadSummary {
    fn from(upload: &Upload) -> Self {
        let pending = upload.status() == Status::Pending;
        let live = matches!(upload.status(), Status::Inspecting | Status::Uploaded);
        let verified = upload.state.arrived().filter(|_| live);
        let versioned = verified.filter(|verified| verified.facts.version_id.is_some());
        Self {
            key: upload.key.as_str().to_owned(),
            status: upload.status(),
            etag: upload.state.facts().map(|facts| facts.etag.clone()),
            late: upload.state.arrived().is_some_and(|arrived| arrived.late),
            url_expires_at: pending.then_some(upload.url_expires_at),
            version_recorded_at: versioned.map(|verified| verified.at),
            deletion: upload.deletion,
        }
    }
}

/// The action that the reconciler takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Send a HEAD, validate the object, and apply the observation.
    Verify,
    /// Send a HEAD. If there is no object, record that it is absent.
    ProveAbsent,
    /// Delete the object: the row is final, and the deletion is due.
    Delete,
    /// Record that bytes arrived for a row in a final state that plans no deletion or whose object
    /// was deleted. The new object is then due for deletion.
    MarkDue,
    /// The key is one of this service, and has no row at this location. Look for the row at the
    /// other locations, and report the object.
    Rowless(UploadId),
    /// The object is a tail. Delete it if its upload has ended: the writer saved the tail too late,
    /// or failed before it could record the tail.
    Tail(UploadId),
    /// Report an object whose key does not parse.
    Foreign,
}

/// Decides on a row without an object. `requested_at` is the time when the request that did not
/// show the object started.
pub fn decide_row(
    row: &UploadSummary,
    requested_at: Timestamp,
    now: Timestamp,
    policy: &Policy,
) -> Action {
    match row.status {
        Status::Pending
            if row.url_expires_at.is_some_and(|at| requested_at > at + policy.grace) =>
        {
            Action::ProveAbsent
        }
        Status::Inspecting | Status::Uploaded => Action::ProveAbsent,
        status if status.is_final() && row.deletion.is_due(now) => Action::Delete,
        _ => Action::Nothing,
    }
}

/// Decides on an object that has a row.
pub fn decide_both(
    row: &UploadSummary,
    object: &Listed,
    now: Timestamp,
    policy: &Policy,
) -> Action {
    match row.status {
        Status::Pending | Status::Expired | Status::Missing => Action::Verify,
        Status::Inspecting | Status::Uploaded => {
            let same = row.etag.as_deref() == Some(&object.etag);
            if same && !has_new_version(row, object, policy) {
                Action::Nothing
            } else {
                Action::Verify
            }
        }
        Status::Rejected | Status::Cancelled | Status::Removed => {
            if row.deletion.is_due(now) {
                Action::Delete
            } else if row.deletion.after.is_none() || row.deletion.done.is_some() {
                Action::MarkDue
            } else {
                Action::Nothing
            }
        }
    }
}

/// Whether the same bytes may have been stored again, as another version, after they were verified.
/// The recorded version may then be removed at any time. A listing shows no versions, and its times
/// come from the store's clock. A store's clock that is ahead by less than the grace must not cause
/// a HEAD for each object in each audit.
fn has_new_version(row: &UploadSummary, object: &Listed, policy: &Policy) -> bool {
    let Some((recorded, stored)) = row.version_recorded_at.zip(object.last_modified) else {
        return false;
    };
    stored > recorded + policy.grace
}

/// Decides on an object without a row. Rows are committed before the first byte is sent, so only
/// a young object may belong to a row that was not yet read. `requested_at` is when the comparison
/// started: its pages of rows may be that old. `prefix` is the prefix of the location.
pub fn decide_object(
    object: &Listed,
    requested_at: Timestamp,
    prefix: &Prefix,
    policy: &Policy,
) -> Action {
    let old = object.last_modified.is_none_or(|at| at + policy.grace < requested_at);
    match (prefix.parse_key(&object.key), prefix.parse_tail(&object.key)) {
        (Some(id), _) if old => Action::Rowless(id),
        (None, Some(id)) if old => Action::Tail(id),
        (Some(_), _) | (None, Some(_)) => Action::Nothing,
        (None, None) if object.key == prefix.marker() => Action::Nothing,
        (None, None) => Action::Foreign,
    }
}

/// Whether an open multipart upload is abandoned: no pending row has its id, and no part arrived
/// for longer than the grace. `newest` is when it was opened or its newest part arrived; if the
/// store reports neither, it is not abandoned.
pub fn is_abandoned(
    row: Option<&Upload>,
    multipart_id: &str,
    newest: Option<Timestamp>,
    now: Timestamp,
    policy: &Policy,
) -> bool {
    let awaited = row.is_some_and(|row| {
        row.status() == Status::Pending && row.multipart_id.as_deref() == Some(multipart_id)
    });
    !awaited && newest.is_some_and(|at| at + policy.grace < now)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::policy::tests::tracks;
    use crate::domain::transition::tests::{at, facts, upload_in};

    fn listed(etag: &str) -> Listed {
        let key = upload_in(Status::Pending).key.as_str().to_owned();
        Listed { key, etag: etag.into(), size: 3, last_modified: Some(at(0)) }
    }

    fn policy_tail(id: UploadId) -> Listed {
        Listed { key: tracks().prefix.key(id).tail(3).unwrap(), ..listed("a") }
    }

    #[test]
    fn each_state_has_one_action_with_and_without_its_object_before_and_after_the_deadline() {
        use Action::{Delete, Nothing, ProveAbsent, Verify};
        let policy = tracks();
        let known = facts("a").etag;
        // Columns: status; no object before and after the deadline; the known object; another
        // object. Rows in a final state have a deletion that is due at minute 10.
        let table = [
            (Status::Pending, Nothing, ProveAbsent, Verify, Verify),
            (Status::Inspecting, ProveAbsent, ProveAbsent, Nothing, Verify),
            (Status::Uploaded, ProveAbsent, ProveAbsent, Nothing, Verify),
            (Status::Expired, Nothing, Nothing, Verify, Verify),
            (Status::Missing, Nothing, Nothing, Verify, Verify),
            (Status::Rejected, Nothing, Delete, Nothing, Nothing),
            (Status::Cancelled, Nothing, Delete, Nothing, Nothing),
            (Status::Removed, Nothing, Delete, Nothing, Nothing),
        ];
        for (status, early, after, same, other) in table {
            let row = upload_in(status);
            let late = row.deadline(policy.grace) + TimeDelta::seconds(1);
            let row = UploadSummary::from(&row);
            assert_eq!(decide_row(&row, at(1), at(1), &policy), early, "{status:?} early");
            assert_eq!(decide_row(&row, late, late, &policy), after, "{status:?} late");
            assert_eq!(decide_both(&row, &listed(&known), at(1), &policy), same, "{status:?} same");
            assert_eq!(decide_both(&row, &listed("zz"), at(1), &policy), other, "{status:?} other");
        }
    }

    #[test]
    fn the_object_of_a_final_row_is_deleted_when_due_and_later_bytes_are_marked_due() {
        let mut row = UploadSummary::from(&upload_in(Status::Rejected));
        assert_eq!(decide_both(&row, &listed("a"), at(10), &tracks()), Action::Delete);
        row.deletion = Deletion { after: Some(at(10)), done: Some(at(11)) };
        assert_eq!(decide_both(&row, &listed("a"), at(12), &tracks()), Action::MarkDue);
        assert_eq!(decide_row(&row, at(12), at(12), &tracks()), Action::Nothing);
    }

    #[test]
    fn the_same_bytes_are_verified_once_more_if_they_may_be_a_new_version() {
        let (policy, known) = (tracks(), facts("a").etag);
        let mut row = UploadSummary::from(&upload_in(Status::Uploaded));
        let stored = |minute| Listed { last_modified: Some(at(minute)), ..listed(&known) };
        row.version_recorded_at = None;
        assert_eq!(decide_both(&row, &stored(90), at(99), &policy), Action::Nothing);
        row.version_recorded_at = Some(at(2));
        // The grace is a quarter of an hour.
        assert_eq!(decide_both(&row, &stored(17), at(99), &policy), Action::Nothing);
        assert_eq!(decide_both(&row, &stored(18), at(99), &policy), Action::Verify);
        let unknown = Listed { last_modified: None, ..listed(&known) };
        assert_eq!(decide_both(&row, &unknown, at(99), &policy), Action::Nothing);
    }

    #[test]
    fn evidence_from_before_the_deadline_never_expires_an_upload() {
        let row = upload_in(Status::Pending);
        let deadline = row.deadline(tracks().grace);
        assert_eq!(
            decide_row(
                &UploadSummary::from(&row),
                deadline,
                deadline + TimeDelta::days(9),
                &tracks()
            ),
            Action::Nothing
        );
    }

    #[test]
    fn an_object_without_a_row_is_an_orphan_once_it_is_older_than_the_grace() {
        let decide = |object: &Listed, requested_at| {
            decide_object(object, requested_at, &tracks().prefix, &tracks())
        };
        let object = listed("a");
        let id = upload_in(Status::Pending).id;
        assert_eq!(decide(&object, at(15)), Action::Nothing);
        assert_eq!(decide(&object, at(16)), Action::Rowless(id));
        let tail = policy_tail(id);
        assert_eq!(decide(&tail, at(15)), Action::Nothing);
        assert_eq!(decide(&tail, at(16)), Action::Tail(id));
        let foreign = Listed { key: "tracks/readme.txt".into(), ..object.clone() };
        assert_eq!(decide(&foreign, at(16)), Action::Foreign);
        let marker = Listed { key: "tracks/.instance".into(), ..object };
        assert_eq!(decide(&marker, at(16)), Action::Nothing);
    }

    #[test]
    fn a_multipart_upload_without_a_pending_row_and_without_new_parts_is_abandoned() {
        let policy = tracks();
        for status in Status::ALL {
            let row = Upload { multipart_id: Some("m".into()), ..upload_in(status) };
            let awaited = status == Status::Pending;
            let is = |id, newest, now| is_abandoned(Some(&row), id, newest, now, &policy);
            assert_eq!(is("m", Some(at(0)), at(16)), !awaited, "{status:?}");
            assert!(is("another", Some(at(0)), at(16)), "{status:?}");
            assert!(!is("another", Some(at(0)), at(15)), "{status:?} within the grace");
            assert!(!is("another", None, at(16)), "{status:?} of unknown age");
        }
        assert!(is_abandoned(None, "m", Some(at(0)), at(16), &policy));
    }
}
