//! Random worlds with inspectors. Objects are replaced, deleted and written back while they are
//! inspected; inspectors fail, defer, and respond late or twice; processes die. After each act, a
//! model that knows which bytes each inspector has accepted checks every upload.
//!
//! `TEST_SEEDS` sets the number of worlds, `TEST_SEED=7` runs only the world with that seed.

mod model;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use upload_coordinator::app::App;
use upload_coordinator::app::inspections::{
    ExamineError, Examiner, File, Inspector, Inspectors, Opinion,
};
use upload_coordinator::domain::inspection::{
    Annotation, Fallback, Inspected, InspectorName, QueuedInspection, Verdict,
};
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::{Clock as _, Status, Upload};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::memory::Operation;

use self::model::Model;
use super::{attempt, seeds};
use crate::support::mp3;
use crate::support::world::World;

#[test]
fn only_bytes_that_every_inspector_accepted_are_served_and_no_verdict_is_lost() {
    let queue = Mutex::new(seeds("TEST_SEEDS", 60, 2000));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = queue.lock().unwrap().pop() else { break };
                    attempt(seed, live(seed));
                }
            });
        }
    });
}

/// What an inspector does at its next attempts; then it has a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Fails,
    Defers,
    CannotRead,
}

/// The bytes of a bad file contain this byte in place of the usual ones.
const BAD: u8 = 66;

/// Reads the whole object, as a scanner does.
struct Scanner {
    model: Arc<Mutex<Model>>,
    moods: Arc<Mutex<VecDeque<Mood>>>,
}

#[async_trait]
impl Examiner for Scanner {
    async fn examine(&self, app: &App, file: File<'_>) -> Result<Opinion, ExamineError> {
        let mood = self.moods.lock().unwrap().pop_front();
        match mood {
            Some(Mood::Fails) => return Err(ExamineError::Failed("connection refused".to_owned())),
            Some(Mood::Defers) => return Ok(Opinion::Deferred),
            Some(Mood::CannotRead) => return Ok(Opinion::Unscannable("encrypted".to_owned())),
            None => {}
        }
        let policy = app.policies.values().next().unwrap();
        let objects = &app.store_of(policy).unwrap().objects;
        let (key, facts) = (file.upload.key.as_str(), file.facts);
        let bytes = objects.read(key, 0..facts.size, &facts.etag).await?;
        let verdict = if bytes.last() == Some(&BAD) {
            Verdict::Reject("bad".to_owned())
        } else {
            Verdict::Accept
        };
        self.model.lock().unwrap().examined(file.inspector, &facts.etag, &verdict);
        Ok(Opinion::Verdict(verdict, Annotation::new()))
    }
}

struct Story {
    world: World,
    app: Arc<App>,
    model: Arc<Mutex<Model>>,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    uploads: Vec<Upload>,
    /// Claims of processes that may be dead, or only slow.
    claims: Vec<(InspectorName, QueuedInspection)>,
    /// Makes the bytes of each file different.
    files: u8,
    rng: StdRng,
}

async fn live(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let names: Vec<InspectorName> = ["acme", "clamav"][..rng.random_range(1..=2)]
        .iter()
        .map(|n| InspectorName::new(*n))
        .collect();
    let fallbacks = [Fallback::Hold, Fallback::Hold, Fallback::Accept, Fallback::Reject];
    let world = World::with(|policy| policy.inspect.clone_from(&names)).await;
    let model = Arc::new(Mutex::new(Model::new(names.clone())));
    let moods = Arc::new(Mutex::new(VecDeque::new()));
    let mut inspectors = Inspectors::new();
    for name in names {
        let inspector = Inspector {
            name: name.clone(),
            examiner: Box::new(Scanner { model: model.clone(), moods: moods.clone() }),
            timeout: Duration::from_secs(10),
            deadline: TimeDelta::minutes(15),
            max_size: 10_000,
            concurrency: 4,
            on_error: fallbacks[rng.random_range(0..4)],
            on_unscannable: fallbacks[rng.random_range(0..4)],
        };
        inspectors.insert(name, Arc::new(inspector));
    }
    let app = Arc::new(App { inspectors, ..world.replica().await });
    let (uploads, claims) = (Vec::new(), Vec::new());
    let mut story = Story { world, app, model, moods, uploads, claims, files: 0, rng };
    for _ in 0..story.rng.random_range(20..35) {
        story.act().await;
        story.check().await;
    }
    story.settle().await;
}

impl Story {
    async fn act(&mut self) {
        match self.rng.random_range(0..20) {
            0..=2 => {
                let upload = self.world.upload().await;
                self.uploads.push(upload);
                self.store(self.uploads.len() - 1).await;
            }
            3 => self.rewrite().await,
            4 => self.lose().await,
            5 | 6 => self.confirm().await,
            7..=9 => self.inspect().await,
            10 => self.die().await,
            11 => self.revive().await,
            12 => self.send_verdict().await,
            13 => self.end().await,
            14 => self.change_moods(),
            15 => self.backfill().await,
            16 => {
                let operation = [Operation::Head, Operation::Read][self.rng.random_range(0..2)];
                let fail = || StoreError::Unavailable("503 SlowDown".into());
                self.world.store.fail_next(operation, self.rng.random_range(1..3), fail);
            }
            17 => self.download().await,
            18 => {
                let mode = if self.rng.random_bool(0.5) { Mode::Audit } else { Mode::Incremental };
                self.world.reconcile(mode).await;
            }
            _ => {
                let seconds = [1, 2, 30, 600, 4000][self.rng.random_range(0..5)];
                self.world.pass(TimeDelta::seconds(seconds));
            }
        }
    }

    fn any(&mut self) -> Option<Upload> {
        (!self.uploads.is_empty())
            .then(|| self.uploads[self.rng.random_range(0..self.uploads.len())].clone())
    }

    /// Stores other bytes at an upload's key.
    async fn store(&mut self, n: usize) {
        let upload = self.uploads[n].clone();
        self.files += 1;
        let mut bytes = mp3(900, self.files);
        *bytes.last_mut().unwrap() = if self.rng.random_bool(0.3) { BAD } else { 1 };
        let bad = bytes.last() == Some(&BAD);
        self.world.store.heal();
        self.world.put(&upload, bytes).await;
        let meta = self.world.objects.head(upload.key.as_str()).await.unwrap().unwrap();
        self.model.lock().unwrap().stored(upload.key.as_str(), Some((meta.etag, bad)));
    }

    async fn rewrite(&mut self) {
        if !self.uploads.is_empty() {
            let n = self.rng.random_range(0..self.uploads.len());
            self.store(n).await;
        }
    }

    async fn lose(&mut self) {
        let Some(upload) = self.any() else { return };
        // Evidence of absence must be later than the verification.
        self.world.pass(TimeDelta::seconds(1));
        self.world.store.heal();
        self.world.objects.delete(upload.key.as_str()).await.unwrap();
        self.model.lock().unwrap().stored(upload.key.as_str(), None);
    }

    async fn confirm(&mut self) {
        if let Some(upload) = self.any() {
            // The store may fail, and an ended upload can't be confirmed.
            let _ = self.app.confirm_upload(&self.world.owner, upload.id).await;
        }
    }

    /// All due inspections, some of which are interrupted at a random moment.
    async fn inspect(&mut self) {
        for inspector in self.app.inspectors.clone().values() {
            for claimed in self.app.claim_inspections(inspector, 10, false).await.unwrap() {
                let polls = self.rng.random_bool(0.2).then(|| self.rng.random_range(0..40));
                if polls.is_some() {
                    self.model.lock().unwrap().loses(&inspector.name, &claimed.etag);
                }
                tokio::select! {
                    biased;
                    // The store may fail.
                    _ = self.app.inspect(inspector, &claimed) => {}
                    () = after(polls) => {}
                }
            }
        }
    }

    /// A process claims inspections and does not do them.
    async fn die(&mut self) {
        for inspector in self.app.inspectors.clone().values() {
            let claimed = self.app.claim_inspections(inspector, 2, false).await.unwrap();
            for row in claimed {
                self.model.lock().unwrap().loses(&inspector.name, &row.etag);
                self.claims.push((inspector.name.clone(), row));
            }
        }
    }

    /// A process that seemed to be dead does what it had claimed.
    async fn revive(&mut self) {
        if let Some((name, claimed)) = self.claims.pop() {
            let inspector = self.app.inspectors[&name].clone();
            self.model.lock().unwrap().loses(&name, &claimed.etag);
            let _ = self.app.inspect(&inspector, &claimed).await;
        }
    }

    /// A verdict that an inspector sends later, about the current bytes or earlier ones.
    async fn send_verdict(&mut self) {
        let Some(upload) = self.any() else { return };
        let key = upload.key.as_str();
        let ever = self.model.lock().unwrap().ever(key);
        let (etag, bad) = ever[self.rng.random_range(0..ever.len())].clone();
        let names: Vec<_> = self.app.inspectors.keys().cloned().collect();
        let inspector = names[self.rng.random_range(0..names.len())].clone();
        let verdict = if bad { Verdict::Reject("bad".to_owned()) } else { Verdict::Accept };
        self.model.lock().unwrap().says(&inspector, &etag, &verdict);
        let inspected = Inspected {
            inspector,
            etag,
            version_id: None,
            verdict,
            annotation: Annotation::new(),
            forced_by: None,
            backfill: false,
        };
        for _ in 0..self.rng.random_range(1..3) {
            self.app.submit_verdict(upload.id, inspected.clone()).await.unwrap();
        }
    }

    async fn end(&mut self) {
        if let Some(upload) = self.any().filter(|_| self.rng.random_bool(0.3)) {
            self.world.app.delete_upload(&self.world.owner, upload.id).await.unwrap();
        }
    }

    fn change_moods(&mut self) {
        let all = [Mood::Fails, Mood::Fails, Mood::Defers, Mood::CannotRead];
        for _ in 0..self.rng.random_range(1..5) {
            self.moods.lock().unwrap().push_back(all[self.rng.random_range(0..all.len())]);
        }
    }

    async fn backfill(&mut self) {
        use upload_coordinator::app::inspections::backfill::Backfiller;
        let Some(upload) = self.any() else { return };
        for inspector in self.app.inspectors.clone().values() {
            let dry = self.rng.random_bool(0.2);
            if let (true, Some(verified)) = (dry, self.world.get(upload.id).await.state.verified())
            {
                self.model.lock().unwrap().loses(&inspector.name, &verified.facts.etag);
            }
            self.app.backfill(Backfiller::Queued(inspector), upload.id, dry).await.unwrap();
        }
    }

    /// A download is signed only for bytes that are stored now and were accepted.
    async fn download(&mut self) {
        let Some(upload) = self.any() else { return };
        if self.app.upload_file(&self.world.owner, upload.id).await.is_ok() {
            let row = self.world.get(upload.id).await;
            let etag = row.state.verified().unwrap().facts.etag.clone();
            let stored = self.model.lock().unwrap().current(upload.key.as_str());
            // Later no URL can replace the object, so the service does not check it any more.
            if self.world.clock.now() < row.url_expires_at {
                assert_eq!(stored.map(|(etag, _)| etag), Some(etag), "{row:?}");
            }
        }
    }

    async fn check(&self) {
        for upload in &self.uploads {
            let (row, queued) = self.read(upload).await;
            self.model.lock().unwrap().check(&row, &queued);
        }
    }

    /// An upload and its queue at one time. An interrupted inspection may still commit, so both are
    /// read again if the upload changes between the reads.
    async fn read(&self, upload: &Upload) -> (Upload, Vec<QueuedInspection>) {
        loop {
            let row = self.world.get(upload.id).await;
            let queued = self.app.db.inspections().list_of(upload.id).await.unwrap();
            if self.world.get(upload.id).await.version == row.version {
                return (row, queued);
            }
        }
    }

    /// Everything works again, and every upload reaches the end that the model predicts.
    async fn settle(&mut self) {
        self.world.store.heal();
        self.moods.lock().unwrap().clear();
        for _ in 0..4 {
            self.world.pass(TimeDelta::hours(2));
            let run = self.world.reconcile_with(|_| {}, Mode::Audit).await;
            assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
            self.inspect_all().await;
            self.check().await;
            // An operator decides about what an inspector can't examine.
            for upload in &self.uploads {
                let (row, queued) = self.read(upload).await;
                if row.status() == Status::Inspecting {
                    self.decide(&row, &queued).await;
                }
            }
        }
        for upload in &self.uploads {
            let (row, queued) = self.read(upload).await;
            assert!(queued.is_empty(), "{queued:?} of {row:?}");
            self.model.lock().unwrap().check_end(&row);
        }
    }

    async fn inspect_all(&self) {
        for inspector in self.app.inspectors.values() {
            for claimed in self.app.claim_inspections(inspector, 100, false).await.unwrap() {
                self.app.inspect(inspector, &claimed).await.unwrap();
            }
        }
    }

    async fn decide(&self, row: &Upload, queued: &[QueuedInspection]) {
        for held in queued {
            let current = self.model.lock().unwrap().current(row.key.as_str());
            let (etag, bad) = current.unwrap();
            assert_eq!(etag, held.etag, "the object of {row:?}");
            let verdict = if bad { Verdict::Reject("bad".to_owned()) } else { Verdict::Accept };
            self.model.lock().unwrap().says(&held.inspector, &etag, &verdict);
            let inspected = Inspected {
                inspector: held.inspector.clone(),
                etag,
                version_id: None,
                verdict,
                annotation: Annotation::new(),
                forced_by: None,
                backfill: false,
            };
            self.app.submit_verdict(row.id, inspected).await.unwrap();
        }
    }
}

/// Ends after this number of polls, or never.
async fn after(polls: Option<u32>) {
    let Some(polls) = polls else { return std::future::pending().await };
    for _ in 0..polls {
        tokio::task::yield_now().await;
    }
}
