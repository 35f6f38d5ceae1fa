//! Files are inspected before they are served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::inspections::{
    ExamineError, Examiner, File, Inspector, Opinion, Outcome,
};
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::inspection::{
    Annotation, Fallback, Inspected, InspectionStatus, InspectorName, QueuedInspection, Verdict,
};
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::transition::TransitionError;
use upload_coordinator::domain::upload::{Inspecting, State};
use upload_coordinator::domain::{Clock as _, RejectReason, Status, Upload};
use upload_coordinator::workers::inspections::InspectionWorker;

use crate::support::wait::wait_for;
use crate::support::world::World;
use crate::support::{ID3, mp3};

pub(super) type Attempt = Result<Opinion, ExamineError>;

/// An inspector that returns the results that a test sets, and afterwards accepts.
#[derive(Default, Clone)]
pub(super) struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    opinions: Mutex<VecDeque<Attempt>>,
    requests: AtomicUsize,
}

#[async_trait]
impl Examiner for Scripted {
    async fn examine(&self, _app: &App, _file: File<'_>) -> Attempt {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let next = self.0.opinions.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(accept()))
    }
}

impl Scripted {
    pub(super) fn says(&self, opinions: impl IntoIterator<Item = Attempt>) {
        self.0.opinions.lock().unwrap().extend(opinions);
    }

    pub(super) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }
}

pub(super) fn accept() -> Opinion {
    Opinion::Verdict(Verdict::Accept, Annotation::new())
}

pub(super) fn reject() -> Opinion {
    let found = Annotation::from_iter([("signature".to_owned(), "Eicar".into())]);
    Opinion::Verdict(Verdict::Reject("Eicar".to_owned()), found)
}

pub(super) fn failed() -> Attempt {
    Err(ExamineError::Failed("connection refused".to_owned()))
}

pub(super) fn name(name: &str) -> InspectorName {
    InspectorName::new(name)
}

/// A world whose files are inspected by these inspectors.
pub(super) struct Inspection {
    pub(super) world: World,
    pub(super) app: Arc<App>,
    pub(super) script: Scripted,
}

impl Inspection {
    pub(super) async fn new() -> Self {
        Self::with(&["clamav"], |_| {}).await
    }

    pub(super) async fn with(names: &[&str], change: impl Fn(&mut Inspector)) -> Self {
        let inspect: Vec<_> = names.iter().map(|n| name(n)).collect();
        let world = World::with(|policy| policy.inspect.clone_from(&inspect)).await;
        let script = Scripted::default();
        let inspectors = inspect.into_iter().map(|name| {
            let mut inspector = Inspector {
                name: name.clone(),
                examiner: Box::new(script.clone()),
                timeout: Duration::from_secs(10),
                deadline: TimeDelta::minutes(15),
                max_size: 1000,
                concurrency: 4,
                on_error: Fallback::Hold,
                on_unscannable: Fallback::Hold,
            };
            change(&mut inspector);
            (name, Arc::new(inspector))
        });
        let inspectors = inspectors.collect();
        let app = Arc::new(App { inspectors, ..world.replica().await });
        Self { world, app, script }
    }

    pub(super) fn inspector(&self) -> &Inspector {
        self.app.inspectors.values().next().unwrap()
    }

    /// An upload whose bytes have arrived.
    pub(super) async fn arrived(&self, new: NewUpload) -> Upload {
        let upload = self.world.create(new).await;
        self.world.put(&upload, ID3).await;
        let confirmed = self.app.confirm_upload(&self.world.owner, upload.id).await.unwrap();
        assert_eq!(confirmed.status(), Status::Inspecting);
        confirmed
    }

    pub(super) async fn claim(&self) -> Vec<QueuedInspection> {
        self.app.claim_inspections(self.inspector(), 10, false).await.unwrap()
    }

    /// Does all due inspections.
    pub(super) async fn inspect(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for inspector in self.app.inspectors.values() {
            let due = self.app.claim_inspections(inspector, 10, false).await.unwrap();
            for claimed in due {
                outcomes.push(self.app.inspect(inspector, &claimed).await.unwrap());
            }
        }
        outcomes
    }

    pub(super) async fn get(&self, upload: &Upload) -> Upload {
        self.world.get(upload.id).await
    }

    pub(super) async fn queued(&self, upload: &Upload) -> Vec<QueuedInspection> {
        self.app.db.inspections().list_of(upload.id).await.unwrap()
    }

    pub(super) async fn says(&self, upload: &Upload, verdict: Verdict) -> Upload {
        let etag = upload.state.facts().unwrap().etag.clone();
        self.says_of(upload, &etag, verdict).await
    }

    /// A verdict that the inspector sends later.
    pub(super) async fn says_of(&self, upload: &Upload, etag: &str, verdict: Verdict) -> Upload {
        let inspected = Inspected {
            inspector: name("clamav"),
            etag: etag.to_owned(),
            version_id: None,
            verdict,
            annotation: Annotation::new(),
            forced_by: None,
            backfill: true,
        };
        self.app.submit_verdict(upload.id, inspected).await.unwrap()
    }
}

#[tokio::test]
async fn a_file_is_served_and_current_only_after_every_inspector_accepted_it() {
    let on = Inspection::with(&["acme", "clamav"], |_| {}).await;
    let track = on.world.track().await;
    let subject = Some(upload_coordinator::domain::Subject::of_track(track.id));
    let upload = on.arrived(NewUpload { attach_to: subject, ..NewUpload::default() }).await;
    let refused = async || {
        let owner = &on.world.owner;
        let of_upload = on.app.upload_file(owner, upload.id).await;
        assert!(matches!(of_upload, Err(AppError::FileInspecting)));
        let of_track = on.app.track_file(owner, track.id).await;
        assert!(matches!(of_track, Err(AppError::FileInspecting)));
        let (track, _) = on.app.track(owner, track.id).await.unwrap();
        assert_eq!((track.status, track.current_upload), (Some(Status::Inspecting), None));
    };
    refused().await;
    let [first, second] =
        [name("acme"), name("clamav")].map(|name| on.app.inspectors[&name].clone());
    let claimed = on.app.claim_inspections(&first, 10, false).await.unwrap();
    assert_eq!(on.app.inspect(&first, &claimed[0]).await.unwrap(), Outcome::Accepted);
    refused().await;
    assert_eq!(on.queued(&upload).await.len(), 1);
    let claimed = on.app.claim_inspections(&second, 10, false).await.unwrap();
    assert_eq!(on.app.inspect(&second, &claimed[0]).await.unwrap(), Outcome::Accepted);

    let served = on.get(&upload).await;
    assert_eq!(served.status(), Status::Uploaded);
    assert_eq!(served.annotations.len(), 2);
    assert!(on.app.track_file(&on.world.owner, track.id).await.is_ok());
    assert!(on.queued(&upload).await.is_empty());
    let history = on.app.upload_history(&on.world.owner, upload.id).await.unwrap();
    let by: Vec<_> = history.iter().map(|change| (change.to, change.by.as_str())).collect();
    assert_eq!(by, [(Status::Inspecting, "confirm"), (Status::Uploaded, "inspector:clamav")]);
}

#[tokio::test]
async fn a_rejected_file_says_which_inspector_rejected_it_and_why() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    on.script.says([Ok(reject())]);
    assert_eq!(on.inspect().await, [Outcome::Rejected]);
    let rejected = on.get(&upload).await;
    let State::Rejected { reason, verified: None, .. } = rejected.state else { panic!("rejected") };
    assert_eq!(reason, RejectReason::Inspection);
    assert_eq!(rejected.detail.as_deref(), Some("clamav: Eicar"));
    assert_eq!(rejected.annotations[&name("clamav")]["signature"], "Eicar");
    assert!(on.queued(&upload).await.is_empty());
    let file = on.app.upload_file(&on.world.owner, upload.id).await;
    assert!(matches!(file, Err(AppError::NotFound(_))));
    let history = on.app.upload_history(&on.world.owner, upload.id).await.unwrap();
    assert_eq!(history[1].explanation(), "clamav: Eicar");
}

#[tokio::test]
async fn an_inspector_that_fails_is_called_again_with_growing_pauses() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    on.script.says((0..8).map(|_| failed()));
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(on.inspect().await, [Outcome::Failed]);
        on.world.pass(TimeDelta::milliseconds(pause * 1000 - 1));
        assert!(on.inspect().await.is_empty(), "not before {pause} s");
        on.world.pass(TimeDelta::milliseconds(1));
    }
    // With `on_error = hold`, the deadline changes nothing.
    on.world.pass(TimeDelta::hours(3));
    assert_eq!(on.inspect().await, [Outcome::Failed]);
    assert_eq!(on.queued(&upload).await[0].error.as_deref(), Some("connection refused"));
    on.world.pass(TimeDelta::seconds(30));
    assert_eq!(on.inspect().await, [Outcome::Accepted]);
    assert_eq!(on.get(&upload).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn after_the_deadline_on_error_decides_and_the_error_is_recorded() {
    for (fallback, status) in
        [(Fallback::Accept, Status::Uploaded), (Fallback::Reject, Status::Rejected)]
    {
        let on = Inspection::with(&["clamav"], |inspector| inspector.on_error = fallback).await;
        let upload = on.arrived(NewUpload::default()).await;
        on.script.says([failed(), failed()]);
        assert_eq!(on.inspect().await, [Outcome::Failed]);
        assert_eq!(on.get(&upload).await.status(), Status::Inspecting);
        on.world.pass(TimeDelta::minutes(16));
        assert_eq!(on.inspect().await, [Outcome::Failed]);
        let decided = on.get(&upload).await;
        assert_eq!(decided.status(), status);
        assert_eq!(decided.annotations[&name("clamav")]["error"], "connection refused");
        let history = on.app.upload_history(&on.world.owner, upload.id).await.unwrap();
        let detail = history[1].detail.as_deref().unwrap();
        assert!(
            detail.starts_with("clamav: ") && detail.ends_with("connection refused"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_examined_is_held_until_an_operator_decides() {
    let on = Inspection::with(&["clamav"], |inspector| inspector.max_size = 1).await;
    let upload = on.arrived(NewUpload::default()).await;
    assert_eq!(on.inspect().await, [Outcome::Unscannable]);
    on.world.pass(TimeDelta::days(30));
    assert!(on.inspect().await.is_empty());
    assert_eq!((on.script.requests(), on.get(&upload).await.status()), (0, Status::Inspecting));
    assert_eq!(on.queued(&upload).await[0].status, InspectionStatus::Held);
    assert_eq!(on.says(&upload, Verdict::Accept).await.status(), Status::Uploaded);
    assert!(on.queued(&upload).await.is_empty());
}

#[tokio::test]
async fn on_unscannable_decides_about_a_file_that_cannot_be_examined() {
    for (fallback, status) in
        [(Fallback::Accept, Status::Uploaded), (Fallback::Reject, Status::Rejected)]
    {
        let on =
            Inspection::with(&["clamav"], |inspector| inspector.on_unscannable = fallback).await;
        let upload = on.arrived(NewUpload::default()).await;
        on.script.says([Ok(Opinion::Unscannable("encrypted".to_owned()))]);
        assert_eq!(on.inspect().await, [Outcome::Unscannable]);
        let decided = on.get(&upload).await;
        assert_eq!(decided.status(), status);
        assert_eq!(decided.annotations[&name("clamav")]["unscannable"], "encrypted");
    }
}

#[tokio::test]
async fn replaced_bytes_are_inspected_anew_and_verdicts_about_the_first_bytes_are_ignored() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    let first = upload.state.facts().unwrap().etag.clone();
    let claimed = on.claim().await;
    on.world.put(&upload, mp3(900, 1)).await;
    let seen = on.app.confirm_upload(&on.world.owner, upload.id).await.unwrap();
    assert_eq!(seen.status(), Status::Inspecting);
    assert_eq!(on.app.inspect(on.inspector(), &claimed[0]).await.unwrap(), Outcome::Outdated);
    assert_eq!(on.script.requests(), 0);
    let late = on.says_of(&upload, &first, Verdict::Accept).await;
    assert_eq!(late.status(), Status::Inspecting);
    assert_eq!(on.queued(&upload).await.len(), 1, "the new bytes still wait");
    assert_eq!(on.inspect().await, [Outcome::Accepted]);
    let served = on.get(&upload).await;
    assert_ne!(served.state.verified().unwrap().facts.etag, first);
}

#[tokio::test]
async fn an_object_that_is_replaced_during_its_inspection_is_inspected_anew() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    let claimed = on.claim().await;
    on.world.put(&upload, mp3(900, 1)).await;
    // The store refuses to read the object with the old ETag.
    let gone = upload_coordinator::storage::StoreError::PreconditionFailed;
    on.script.says([Err(ExamineError::Store(gone))]);
    assert_eq!(on.app.inspect(on.inspector(), &claimed[0]).await.unwrap(), Outcome::Outdated);
    let queued = on.queued(&upload).await;
    assert_eq!(queued[0].etag, on.get(&upload).await.state.facts().unwrap().etag);
    assert_eq!(on.inspect().await, [Outcome::Accepted]);
}

#[tokio::test]
async fn an_upload_whose_object_vanishes_is_pending_again_and_then_expires() {
    let on = Inspection::new().await;
    let (early, late) =
        (on.arrived(NewUpload::default()).await, on.arrived(NewUpload::default()).await);
    on.world.pass(TimeDelta::seconds(1));
    on.world.objects.delete(early.key.as_str()).await.unwrap();
    on.world.reconcile(Mode::Incremental).await;
    assert_eq!(on.get(&early).await.status(), Status::Pending);
    assert!(on.queued(&early).await.is_empty());
    on.world.pass_the_deadline();
    on.world.objects.delete(late.key.as_str()).await.unwrap();
    on.world.reconcile(Mode::Incremental).await;
    for upload in [early, late] {
        assert_eq!(on.get(&upload).await.status(), Status::Expired);
        assert!(on.queued(&upload).await.is_empty());
    }
}

#[tokio::test]
async fn runs_notice_that_a_file_was_replaced_during_its_inspection() {
    for mode in [Mode::Incremental, Mode::Audit] {
        let on = Inspection::new().await;
        let upload = on.arrived(NewUpload::default()).await;
        on.world.put(&upload, mp3(900, 1)).await;
        on.world.reconcile(mode).await;
        let seen = on.get(&upload).await;
        let State::Inspecting(Inspecting { arrived, .. }) = seen.state else { panic!("{seen:?}") };
        assert_eq!(on.queued(&upload).await[0].etag, arrived.facts.etag);
        assert_ne!(Some(&arrived.facts.etag), upload.state.facts().map(|facts| &facts.etag));
    }
}

#[tokio::test]
async fn a_process_that_dies_delays_its_inspections_by_the_lease_and_loses_none() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    let dead = on.claim().await;
    assert_eq!(dead[0].attempts, 1);
    on.world.pass(TimeDelta::seconds(24));
    assert!(on.claim().await.is_empty());
    on.world.pass(TimeDelta::seconds(2));
    let successor = on.claim().await;
    assert_eq!(successor[0].attempts, 2);
    // The process was only slow: its failure does not end the claim of the next process.
    on.script.says([failed(), Ok(accept())]);
    assert_eq!(on.app.inspect(on.inspector(), &dead[0]).await.unwrap(), Outcome::Failed);
    on.world.pass(TimeDelta::seconds(2));
    assert!(on.claim().await.is_empty(), "the next process has the claim");
    assert_eq!(on.app.inspect(on.inspector(), &successor[0]).await.unwrap(), Outcome::Accepted);
    // A verdict that arrives twice changes nothing.
    assert_eq!(on.app.inspect(on.inspector(), &dead[0]).await.unwrap(), Outcome::Outdated);
    assert_eq!(on.get(&upload).await.status(), Status::Uploaded);
    assert_eq!(on.script.requests(), 2);
}

#[tokio::test]
async fn two_processes_never_claim_the_same_inspection() {
    let on = Inspection::new().await;
    for _ in 0..20 {
        on.arrived(NewUpload::default()).await;
    }
    let other = App { inspectors: on.app.inspectors.clone(), ..on.world.replica().await };
    let inspector = on.inspector();
    let claims = (0..10).map(|n| {
        let app: &App = if n % 2 == 0 { &on.app } else { &other };
        app.claim_inspections(inspector, 3, false)
    });
    let claimed = futures_util::future::join_all(claims).await;
    let mut ids: Vec<_> = claimed.into_iter().flatten().flatten().map(|row| row.upload.0).collect();
    for row in on.claim().await {
        ids.push(row.upload.0);
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((count, ids.len()), (20, 20));
}

#[tokio::test]
async fn a_deferred_verdict_is_awaited_until_the_deadline() {
    let on = Inspection::with(&["clamav"], |inspector| inspector.on_error = Fallback::Reject).await;
    let [in_time, never] =
        [on.arrived(NewUpload::default()).await, on.arrived(NewUpload::default()).await];
    on.script.says([Ok(Opinion::Deferred), Ok(Opinion::Deferred)]);
    assert_eq!(on.inspect().await, [Outcome::Deferred; 2]);
    on.world.pass(TimeDelta::minutes(14));
    assert!(on.inspect().await.is_empty());
    assert_eq!(on.says_of(&in_time, "other", Verdict::Accept).await.status(), Status::Inspecting);
    assert_eq!(on.says(&in_time, Verdict::Accept).await.status(), Status::Uploaded);
    let again = on.says(&in_time, Verdict::Reject("late".to_owned())).await;
    assert_eq!(again.status(), Status::Uploaded, "the first verdict counts");
    on.world.pass(TimeDelta::minutes(2));
    assert_eq!(on.inspect().await, [Outcome::Failed]);
    assert_eq!(on.get(&never).await.status(), Status::Rejected);
    assert_eq!(on.script.requests(), 2, "on_error decides without another attempt");
}

#[tokio::test]
async fn a_verdict_of_an_unknown_inspector_is_refused() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    let inspected = Inspected {
        inspector: name("nobody"),
        etag: "x".to_owned(),
        version_id: None,
        verdict: Verdict::Accept,
        annotation: Annotation::new(),
        forced_by: None,
        backfill: false,
    };
    let refused = on.app.submit_verdict(upload.id, inspected).await;
    assert!(matches!(refused, Err(AppError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_being_inspected_can_be_deleted_and_attached_but_not_presigned() {
    let on = Inspection::new().await;
    let upload = on.arrived(NewUpload::default()).await;
    let owner = &on.world.owner;
    let renewed = on.app.renew_upload(owner, upload.id, None).await;
    let refused = TransitionError::NotRenewable(Status::Inspecting);
    assert!(matches!(renewed, Err(AppError::State(error)) if error == refused));
    let subject = "album:1:cover".parse().unwrap();
    on.app.attach(owner, &subject, upload.id).await.unwrap();
    assert!(matches!(on.app.attachment_file(owner, &subject).await, Err(AppError::FileInspecting)));
    assert_eq!(on.inspect().await, [Outcome::Accepted]);
    assert!(on.app.attachment_file(owner, &subject).await.is_ok());

    let unwanted = on.arrived(NewUpload::default()).await;
    on.app.delete_upload(owner, unwanted.id).await.unwrap();
    let removed = on.get(&unwanted).await;
    assert_eq!(removed.status(), Status::Removed);
    assert!(removed.deletion.is_due(on.world.clock.now()));
    assert!(on.queued(&unwanted).await.is_empty());
}

#[tokio::test]
async fn the_worker_inspects_a_new_file_at_once_and_a_waiting_client_gets_the_result() {
    let on = Inspection::new().await;
    let running = InspectionWorker::start(&on.app);
    let upload = on.world.create(NewUpload::default()).await;
    on.world.put(&upload, ID3).await;
    let wait = on.app.wait_for_upload(&on.world.owner, upload.id, Duration::from_secs(30));
    let (waited, confirmed) = tokio::join!(wait, on.app.confirm_upload(&on.world.owner, upload.id));
    assert_eq!(confirmed.unwrap().status(), Status::Inspecting);
    assert_eq!(waited.unwrap().status(), Status::Uploaded);
    // Rows of other processes are found by polling.
    let other = on.world.create(NewUpload::default()).await;
    on.world.put(&other, ID3).await;
    on.world.app.confirm_upload(&on.world.owner, other.id).await.unwrap();
    wait_for("the inspection", async || {
        (on.get(&other).await.status() == Status::Uploaded).then_some(())
    })
    .await;
    running.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_confirmation_needs_fewer_statements_without_inspectors() {
    let count = async |inspect: bool| {
        let names: &[&str] = if inspect { &["clamav"] } else { &[] };
        let inspect: Vec<_> = names.iter().map(|n| name(n)).collect();
        let world = World::with(|policy| policy.inspect.clone_from(&inspect)).await;
        let upload = world.upload().await;
        world.put(&upload, ID3).await;
        let before = world.app.db.statements();
        world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
        world.app.db.statements() - before
    };
    let (without, with) = (count(false).await, count(true).await);
    println!("a confirmation takes {without} statements, with an inspector {with}");
    assert!(without < with, "{without} {with}");
}
