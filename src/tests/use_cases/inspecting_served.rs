//! The backfill: it inspects files that are already served, because they were verified before their
//! policy had inspectors.

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::inspections::backfill::{Backfilled, Backfiller};
use upload_coordinator::app::inspections::{ExamineError, Opinion, Outcome};
use upload_coordinator::domain::inspection::{Fallback, InspectionStatus, Verdict};
use upload_coordinator::domain::upload::State;
use upload_coordinator::domain::{RejectReason, Status, Subject, Upload};
use upload_coordinator::reconcile::DamageLimit;
use upload_coordinator::storage::StoreError;

use super::inspecting::{Inspection, failed, name, reject};
use crate::support::{ID3, mp3};

impl Inspection {
    /// An upload that was verified before the policy had inspectors.
    async fn served(&self, new: NewUpload) -> Upload {
        let limit = DamageLimit::default();
        let before = self.world.reconfigured(|policy| policy.inspect.clear(), limit).await;
        let upload = before.create(new).await;
        before.put(&upload, ID3).await;
        let confirmed = before.app.confirm_upload(&before.owner, upload.id).await.unwrap();
        assert_eq!(confirmed.status(), Status::Uploaded);
        confirmed
    }

    async fn backfill(&self, upload: &Upload) -> Option<Backfilled> {
        let inspector = Backfiller::Queued(self.inspector());
        self.app.backfill(inspector, upload.id, false).await.unwrap()
    }
}

#[tokio::test]
async fn a_served_file_that_is_rejected_is_no_longer_current_and_its_object_is_due_for_deletion() {
    let on = Inspection::new().await;
    let track = on.world.track().await;
    let attach_to = Some(Subject::of_track(track.id));
    let upload = on.served(NewUpload { attach_to, ..NewUpload::default() }).await;
    on.script.says([failed(), Ok(reject())]);
    let error = Backfilled::Failed("connection refused".to_owned());
    assert!(matches!(on.backfill(&upload).await, Some(Backfilled::Failed(_))), "{error:?}");
    assert!(on.app.track_file(&on.world.owner, track.id).await.is_ok());
    let rejected = Backfilled::Rejected("Eicar".to_owned());
    assert_eq!(on.backfill(&upload).await, Some(rejected));
    let ended = on.get(&upload).await;
    let State::Rejected { reason, verified: Some(_), .. } = ended.state else {
        panic!("{ended:?}")
    };
    assert_eq!(reason, RejectReason::Inspection);
    assert_eq!(ended.detail.as_deref(), Some("clamav: Eicar"));
    assert!(ended.deletion.after.is_some());
    let (track, _) = on.app.track(&on.world.owner, track.id).await.unwrap();
    assert_eq!(track.current_upload, None);
    let history = on.app.upload_history(&on.world.owner, upload.id).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!((last.to, last.by.as_str()), (Status::Rejected, "inspector:clamav"));
    assert_eq!(on.backfill(&upload).await, None, "it is no longer served");
}

#[tokio::test]
async fn a_file_is_inspected_once_and_again_only_if_the_inspector_had_failed() {
    let on = Inspection::with(&["clamav"], |inspector| inspector.on_error = Fallback::Accept).await;
    let upload = on.served(NewUpload::default()).await;
    assert_eq!(on.backfill(&upload).await, Some(Backfilled::Accepted));
    assert_eq!(on.backfill(&upload).await, None);
    assert_eq!(on.script.requests(), 1);
    // A new file that `on_error` accepted was never examined.
    let unexamined = on.arrived(NewUpload::default()).await;
    on.world.pass(TimeDelta::minutes(16));
    on.script.says([failed(), Ok(reject())]);
    assert_eq!(on.inspect().await, [Outcome::Failed]);
    assert_eq!(on.get(&unexamined).await.status(), Status::Uploaded);
    let rejected = Backfilled::Rejected("Eicar".to_owned());
    assert_eq!(on.backfill(&unexamined).await, Some(rejected));
}

#[tokio::test]
async fn rejections_above_the_damage_limit_are_withheld_and_a_dry_run_changes_nothing() {
    let on = Inspection::new().await;
    let limit = DamageLimit { max: 1, min: 1, ..DamageLimit::default() };
    let strict = on.world.reconfigured(|_| {}, limit).await;
    let [first, second] =
        [on.served(NewUpload::default()).await, on.served(NewUpload::default()).await];
    let backfill = async |upload: &Upload, dry_run| {
        on.script.says([Ok(reject())]);
        let inspector = Backfiller::Queued(on.inspector());
        strict.app.backfill(inspector, upload.id, dry_run).await.unwrap().unwrap()
    };
    let (rejected, withheld) =
        (Backfilled::Rejected("Eicar".to_owned()), Backfilled::Withheld("Eicar".to_owned()));
    assert_eq!(backfill(&first, true).await, withheld);
    assert_eq!(on.get(&first).await, first);
    assert_eq!(backfill(&first, false).await, rejected);
    assert_eq!(backfill(&second, false).await, withheld);
    assert_eq!(on.get(&second).await, second);
    // The limit applies to one hour.
    on.world.pass(TimeDelta::hours(1));
    assert_eq!(backfill(&second, false).await, rejected);
}

#[tokio::test]
async fn a_file_without_a_verdict_is_served_as_before() {
    let on = Inspection::new().await;
    let upload = on.served(NewUpload::default()).await;
    let replaced = || Err(ExamineError::Store(StoreError::PreconditionFailed));
    on.script.says([Ok(Opinion::Unscannable("encrypted".to_owned())), replaced()]);
    for why in ["unscannable: encrypted", "the object is gone or was replaced; reconcile first"] {
        assert_eq!(on.backfill(&upload).await, Some(Backfilled::Unresolved(why.to_owned())));
        assert_eq!(on.get(&upload).await, upload);
    }
    let rejects =
        Inspection::with(&["clamav"], |inspector| inspector.on_unscannable = Fallback::Reject);
    let on = rejects.await;
    let upload = on.served(NewUpload::default()).await;
    on.script.says([Ok(Opinion::Unscannable("encrypted".to_owned()))]);
    let rejected = Backfilled::Rejected("encrypted".to_owned());
    assert_eq!(on.backfill(&upload).await, Some(rejected));
}

#[tokio::test]
async fn a_deferred_verdict_about_a_served_file_counts_until_its_deadline() {
    let on = Inspection::new().await;
    let mut served = Vec::new();
    for _ in 0..4 {
        served.push(on.served(NewUpload::default()).await);
        on.script.says([Ok(Opinion::Deferred)]);
        assert_eq!(on.backfill(&served[served.len() - 1]).await, Some(Backfilled::Deferred));
    }
    let [bad, good, late, overwritten] = served.try_into().unwrap();
    let bad_verdict = || Verdict::Reject("Not a song".to_owned());
    assert_eq!(on.says_of(&bad, "other", bad_verdict()).await, bad, "about other bytes");
    assert_eq!(on.says(&bad, bad_verdict()).await.status(), Status::Rejected);
    assert_eq!(on.says(&bad, Verdict::Accept).await.status(), Status::Rejected);
    let accepted = on.says(&good, Verdict::Accept).await;
    assert!(accepted.annotations.contains_key(&name("clamav")));
    assert_eq!(on.says(&good, bad_verdict()).await.status(), Status::Uploaded, "the first counts");
    assert!(on.queued(&good).await.is_empty());
    // A deferred inspection ends without a verdict at its deadline, or if the bytes were replaced.
    on.world.put(&overwritten, mp3(900, 1)).await;
    let replaced = on.app.confirm_upload(&on.world.owner, overwritten.id).await.unwrap();
    assert_eq!(replaced.status(), Status::Rejected, "overwritten");
    on.world.pass(TimeDelta::minutes(16));
    assert_eq!(on.inspect().await, [Outcome::Outdated; 2]);
    assert!(on.queued(&late).await.is_empty());
    assert_eq!(on.says(&late, bad_verdict()).await.status(), Status::Uploaded, "too late");
    assert_eq!(on.get(&late).await, late);
    // The next backfill sends it again.
    on.script.says([Ok(reject())]);
    let rejected = Backfilled::Rejected("Eicar".to_owned());
    assert_eq!(on.backfill(&late).await, Some(rejected));
    assert!(matches!(
        on.app.upload_file(&on.world.owner, late.id).await,
        Err(AppError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_backfill_never_replaces_the_inspection_that_a_new_file_waits_for() {
    let on = Inspection::new().await;
    let waiting = on.arrived(NewUpload::default()).await;
    let served = on.served(NewUpload::default()).await;
    let queue = on.app.db.inspections();
    let [row] = on.queued(&waiting).await.try_into().unwrap();
    let mut late = row.clone();
    (late.status, late.etag) = (InspectionStatus::Backfill, "other".to_owned());
    let until = on.app.now() + TimeDelta::minutes(15);
    queue.await_backfill(late, until).await.unwrap();
    assert_eq!(on.queued(&waiting).await, std::slice::from_ref(&row));
    // In the other order, the inspection of the new file replaces that of the backfill.
    let [mut of_served] = [row];
    of_served.upload = served.id;
    of_served.status = InspectionStatus::Backfill;
    queue.await_backfill(of_served.clone(), until).await.unwrap();
    let State::Uploaded(verified) = served.state.clone() else { panic!("{served:?}") };
    let state = State::Inspecting(upload_coordinator::domain::upload::Inspecting {
        arrived: verified,
        waiting_for: vec![name("clamav")],
    });
    queue.add(&[Upload { state, ..served.clone() }]).await.unwrap();
    assert_eq!(on.queued(&served).await[0].status, InspectionStatus::Queued);
}
