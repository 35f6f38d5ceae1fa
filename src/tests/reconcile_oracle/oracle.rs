//! The oracle: records which objects the bucket has, and predicts the final state of each upload.
//! It uses the contract's states and deadlines, and none of the code of the planner, the join or
//! the transitions.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rand::RngExt as _;
use rand::rngs::StdRng;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::RejectReason;
use upload_coordinator::domain::run::Run;
use upload_coordinator::domain::upload::{RemoveReason, State};
use upload_coordinator::domain::{Clock as _, Status, Upload};
use upload_coordinator::storage::PutOptions;

use super::fates::{Act, Fate};
use crate::support::world::World;
use crate::support::{PNG, mp3};

pub mod attaching;

/// The expected final state of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Uploaded { late: bool },
    Rejected(&'static str),
    Expired,
    Missing,
    Cancelled,
    Removed(RemoveReason),
}

struct Life {
    upload: Upload,
    fate: Fate,
    seed: u8,
    /// The length of its bytes.
    len: usize,
    /// Whether its object exists in the bucket, as seen from outside of the service.
    stored: bool,
    /// Whether its object was removed from outside.
    lost: bool,
    /// Whether a record attached it after its creation.
    is_claimed: bool,
    end: End,
}

pub struct Oracle<'a> {
    world: &'a World,
    lives: Vec<Option<Life>>,
    pub orphans: BTreeSet<String>,
    pub foreign: BTreeSet<String>,
    /// Verified uploads of one owner whose bytes a tool replaced: more than the damage limit.
    pub retagged: Vec<Upload>,
    /// The length of files that arrive.
    len: usize,
}

impl<'a> Oracle<'a> {
    pub fn new(world: &'a World) -> Self {
        let (orphans, foreign) = (BTreeSet::new(), BTreeSet::new());
        let (lives, retagged, len) = (Vec::new(), Vec::new(), 900);
        Self { world, lives, orphans, foreign, retagged, len }
    }

    /// The service was started with stricter rules. Only files of this length pass them.
    pub fn tighten(&mut self, world: &'a World, len: usize) {
        (self.world, self.len) = (world, len);
    }

    pub async fn act(&mut self, act: Act, rng: &mut StdRng) {
        match act {
            Act::Create(n, fate) => self.create(n, fate).await,
            Act::Put(n) => self.put(n).await,
            Act::PutWrong(n) => {
                self.store(n, PNG.to_vec()).await;
                self.life(n).end = End::Rejected("content-mismatch");
            }
            Act::PutOther(n) => self.overwrite(n).await,
            Act::CopyBack(n) => {
                let life = self.life(n);
                let (key, bytes) = (life.upload.key.to_string(), mp3(life.len, life.seed));
                self.world.write_again(&key, bytes).await;
            }
            Act::Trouble => panic!("the world handles this act"),
            Act::Confirm(n) => {
                let id = self.life(n).upload.id;
                // If the store fails this request, the reconciler must find the bytes later.
                let _ = self.world.app.confirm_upload(&self.world.owner, id).await;
            }
            Act::LoseObject(n) => self.lose(n).await,
            Act::End(n) => self.end(n).await,
            Act::Renew(n) => {
                let id = self.life(n).upload.id;
                let renewed = self.world.app.renew_upload(&self.world.owner, id, None).await;
                self.life(n).upload = renewed.unwrap().upload;
            }
            Act::Attach(n) => self.attach(n).await,
            Act::Orphan => {
                let key = self.stray_key();
                self.world.put_key(&key, mp3(500, 77)).await;
                self.orphans.insert(key);
            }
            Act::Foreign => {
                let tail = ["a note.txt", "0", "7/x", "f~", "zz/deep/er", "Ä"];
                let key = format!("tracks/{}", tail[rng.random_range(0..tail.len())]);
                self.world.put_key(&key, "foreign").await;
                self.foreign.insert(key);
            }
            Act::OrphanMultipart => {
                let key = self.stray_key();
                self.begin_multipart(&key).await;
            }
            Act::MultipartOf(n) => {
                let key = self.life(n).upload.key.to_string();
                self.begin_multipart(&key).await;
            }
        }
    }

    async fn create(&mut self, n: usize, fate: Fate) {
        let attach_to = self.subject_at_creation(n, fate).await;
        let upload = self.world.create(NewUpload { attach_to, ..NewUpload::default() }).await;
        let seed = u8::try_from(n).unwrap();
        let (len, end) = (self.len, End::Expired);
        let (stored, lost, is_claimed) = (false, false, false);
        let life = Life { upload, fate, seed, len, stored, lost, is_claimed, end };
        if self.lives.len() <= n {
            self.lives.resize_with(n + 1, || None);
        }
        self.lives[n] = Some(life);
    }

    /// The bytes arrive. They are late if the service has already marked the upload as expired.
    async fn put(&mut self, n: usize) {
        let (status, len) = (self.status(n).await, self.len);
        let life = self.life(n);
        if !matches!(status, Status::Uploaded | Status::Missing) {
            life.len = len;
        }
        let (seed, end) = (life.seed, life.end);
        life.end = match (end, status) {
            (End::Cancelled | End::Removed(_), _) => end,
            (End::Missing, _) | (_, Status::Pending) => End::Uploaded { late: false },
            (_, Status::Expired) => End::Uploaded { late: true },
            other => panic!("bytes arrive in an unexpected state: {other:?}"),
        };
        // Each pair has its own track, and its newer upload always arrives.
        if life.fate == Fate::IsReplaced {
            life.end = End::Removed(RemoveReason::Superseded);
        }
        let len = self.life(n).len;
        self.store(n, mp3(len, seed)).await;
    }

    async fn overwrite(&mut self, n: usize) {
        match self.status(n).await {
            Status::Uploaded => self.life(n).end = End::Rejected("overwritten"),
            // The service did not see the first bytes, so the second ones belong to the upload.
            Status::Pending => {}
            other => panic!("overwrites the object of a {other:?} upload"),
        }
        let life = self.life(n);
        life.len += 1;
        let bytes = mp3(life.len, life.seed);
        self.store(n, bytes).await;
    }

    async fn lose(&mut self, n: usize) {
        let seen = match self.status(n).await {
            Status::Uploaded => End::Missing,
            Status::Pending => End::Expired,
            other => panic!("removes the object of a {other:?} upload"),
        };
        let life = self.life(n);
        (life.end, life.stored, life.lost) = (seen, false, true);
        let key = life.upload.key.to_string();
        if !self.world.store.versions(&key).is_empty() {
            self.world.store.hide(&key);
        }
        // A planned failure may affect this request, although the test sends it.
        while self.world.keys().await.contains(&key) {
            let _ = self.world.objects.delete(&key).await;
        }
    }

    async fn end(&mut self, n: usize) {
        let id = self.life(n).upload.id;
        let end = match self.status(n).await {
            Status::Pending | Status::Expired => End::Cancelled,
            Status::Uploaded | Status::Missing => End::Removed(RemoveReason::Deleted),
            other => panic!("ends a {other:?} upload"),
        };
        self.world.app.delete_upload(&self.world.owner, id).await.unwrap();
        self.life(n).end = end;
    }

    async fn store(&mut self, n: usize, bytes: Vec<u8>) {
        let upload = self.life(n).upload.clone();
        self.world.put(&upload, bytes).await;
        self.life(n).stored = true;
    }

    /// A tool writes the same bytes again. In a bucket with versioning this is a new version, and
    /// for some objects the older versions are removed.
    pub async fn store_again(&mut self, rng: &mut StdRng) {
        for life in self.lives.iter().flatten() {
            if !life.stored || self.world.get(life.upload.id).await.status() != Status::Uploaded {
                continue;
            }
            let key = life.upload.key.as_str();
            let seen = self.world.objects.head(key).await.unwrap().unwrap();
            let bytes = self.world.objects.read(key, 0..9999, &seen.etag).await.unwrap();
            self.world.put_key(key, bytes).await;
            let older = self.world.store.versions(key);
            if rng.random_bool(0.5) {
                for version in &older[..older.len().saturating_sub(1)] {
                    self.world.store.remove_version(key, version);
                }
            }
        }
    }

    /// In a bucket with versioning, the recorded version is the current one, and a deleted object
    /// has no versions left.
    fn check_versions(&self, row: &Upload) {
        let versions = self.world.store.versions(row.key.as_str());
        match &row.state {
            State::Uploaded(verified) if !versions.is_empty() => {
                assert_eq!(verified.facts.version_id.as_ref(), versions.last(), "{row:?}");
            }
            _ if row.deletion.done.is_some() => assert!(versions.is_empty(), "{row:?}"),
            _ => {}
        }
    }

    async fn begin_multipart(&self, key: &str) {
        let options = PutOptions::default();
        self.world.objects.create_multipart(key, &options).await.unwrap();
    }

    fn stray_key(&self) -> String {
        let id = upload_coordinator::domain::UploadId(self.world.app.ids.uuid());
        self.world.app.policies.values().next().unwrap().prefix.key(id).to_string()
    }

    fn life(&mut self, n: usize) -> &mut Life {
        self.lives[n].as_mut().unwrap()
    }

    async fn status(&mut self, n: usize) -> Status {
        let id = self.life(n).upload.id;
        self.world.get(id).await.status()
    }

    /// The rows of all uploads, as they are now.
    pub async fn rows(&self) -> Vec<Upload> {
        let mut rows = Vec::new();
        for life in self.lives.iter().flatten() {
            rows.push(self.world.get(life.upload.id).await);
        }
        rows
    }

    /// Conditions that must always be true.
    pub async fn check_safety(&mut self) {
        let keys: BTreeSet<_> = self.world.keys().await.into_iter().collect();
        let now = self.world.clock.now();
        for life in self.lives.iter_mut().flatten() {
            let row = self.world.get(life.upload.id).await;
            let has = keys.contains(row.key.as_str());
            let status = row.status();
            if status.is_final() {
                // The object may have been deleted, but it never appears without a PUT.
                assert!(life.stored || !has);
                life.stored = has;
            } else {
                assert_eq!(
                    has, life.stored,
                    "{status:?}: the service changed the object of {}",
                    row.id
                );
            }
            check_history(self.world, &row).await;
            if status == Status::Expired {
                assert!(now > row.url_expires_at + TimeDelta::minutes(15), "expired too early");
            }
            if status == Status::Missing {
                // The bytes may have returned since. The next audit finds them.
                assert!(life.lost, "the object of {} was never removed", row.id);
            }
        }
        assert!(self.orphans.is_subset(&keys) && self.foreign.is_subset(&keys));
        self.check_retagged(&keys).await;
    }

    /// The replaced uploads are more than the damage limit, so they stay verified and stored.
    async fn check_retagged(&self, keys: &BTreeSet<String>) {
        for upload in &self.retagged {
            let row = self.world.app.db.uploads().find_any_owner(upload.id).await;
            assert_eq!(row.unwrap().unwrap().status(), Status::Uploaded);
            assert!(keys.contains(upload.key.as_str()));
        }
    }

    /// Conditions that must be true at the end: states, objects, and the findings of the last
    /// audit.
    pub async fn check_end(&mut self, last: &Run) {
        let mut keys: BTreeSet<_> = self.orphans.union(&self.foreign).cloned().collect();
        keys.insert("tracks/.instance".to_owned());
        keys.extend(self.retagged.iter().map(|upload| upload.key.to_string()));
        let mut findings = BTreeSet::new();
        for (n, life) in self.lives.iter().enumerate() {
            let Some(life) = life else { continue };
            let row = self.world.get(life.upload.id).await;
            let end = self.end_of_life(n).unwrap_or(life.end);
            assert_eq!(end_of(&row), end, "upload {n}: {row:?}");
            self.check_versions(&row);
            let key = row.key.to_string();
            match end {
                End::Uploaded { late } => {
                    keys.insert(key.clone());
                    findings.extend(late.then_some(("late", key)));
                }
                End::Missing => findings.extend([("missing", key)]),
                End::Rejected(_) | End::Expired | End::Cancelled | End::Removed(_) => {}
            }
        }
        findings.extend(self.orphans.iter().map(|key| ("orphan", key.clone())));
        findings.extend(self.foreign.iter().map(|key| ("foreign", key.clone())));
        let stored: BTreeSet<_> = self.world.keys().await.into_iter().collect();
        assert_eq!(
            stored, keys,
            "exactly the objects of verified uploads, the orphans and the foreign objects remain"
        );
        let found: Vec<_> = self.world.findings(last).await;
        assert_eq!(found.len(), findings.len(), "each finding is listed once: {found:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), findings);
        let policy = self.world.app.policies.values().next().unwrap();
        if self.world.app.store_of(policy).unwrap().capabilities.list_multiparts {
            let (open, _) = self.world.objects.list_multiparts("tracks/", None).await.unwrap();
            assert!(open.is_empty(), "multipart uploads are still open: {open:?}");
        }
    }
}

/// The history begins with the creation, has no gap, and ends with the row's status.
async fn check_history(world: &World, row: &Upload) {
    let history = world.app.upload_history(&world.owner, row.id).await.unwrap();
    let mut status = Status::Pending;
    for change in &history {
        assert_eq!(change.from, status, "{history:?}");
        assert_ne!(change.to, status, "{history:?}");
        assert!(!change.explanation().is_empty());
        status = change.to;
    }
    assert_eq!(status, row.status(), "{history:?}");
}

fn end_of(row: &Upload) -> End {
    match &row.state {
        State::Uploaded(verified) => End::Uploaded { late: verified.late },
        State::Rejected { reason: RejectReason::Overwritten, .. } => End::Rejected("overwritten"),
        State::Rejected { reason, .. } => End::Rejected(reason.name()),
        State::Expired => End::Expired,
        State::Missing(_) => End::Missing,
        State::Cancelled => End::Cancelled,
        State::Removed { reason, .. } => End::Removed(*reason),
        State::Pending | State::Inspecting(_) => panic!("still open: {row:?}"),
    }
}
