//! Random worlds with operators: databases are copied and restored, buckets are restored to an
//! older state or removed, markers disappear. The test fails if a run deletes an object or ends an
//! upload although no caller ended this upload.
//!
//! `TEST_LONG=1` runs 2,000 worlds, `TEST_COPY_SEEDS=N` runs N worlds, `TEST_SEED=7` runs only the
//! world with that seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use upload_coordinator::app::bucket_identity::CheckOptions;
use upload_coordinator::domain::marker::BucketIdentity;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::{Status, UploadId};
use upload_coordinator::storage::ObjectStore as _;
use upload_coordinator::storage::memory::Operation;

use super::{attempt, seeds};
use crate::support::mp3;
use crate::support::world::World;

const MARKER: &str = "tracks/.instance";

#[test]
fn copies_restores_and_lost_markers_delete_only_objects_of_uploads_that_callers_ended() {
    let queue = Mutex::new(seeds("TEST_COPY_SEEDS", 200, 2000));
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

/// A service: the original, or a copy of it.
struct Side {
    world: World,
    /// Whether it is in use. The original is out of use while a restored database replaces it.
    is_up: bool,
    /// The uploads that its callers ended.
    ended: BTreeSet<UploadId>,
}

/// The services of one world, and what the test knows about the bucket.
struct Story {
    sides: Vec<Side>,
    /// The index of the service that may delete objects: the original, or the restored database
    /// that replaced it.
    owner: usize,
    /// Uploads with bytes, and their keys.
    stored: BTreeMap<UploadId, String>,
    /// The keys of objects that were removed from outside of the service at some time.
    lost: BTreeSet<String>,
    /// A backup of the bucket.
    backup: Option<Backup>,
    /// An older state of the marker.
    older_marker: Option<Bytes>,
    rng: StdRng,
}

/// The objects of the bucket at an earlier time.
struct Backup {
    objects: Vec<(String, Bytes)>,
    stored: BTreeMap<UploadId, String>,
}

async fn live(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::in_file(|_| {}).await;
    let side = Side { world, is_up: true, ended: BTreeSet::new() };
    let acts = rng.random_range(14..26);
    let mut story = Story {
        sides: vec![side],
        owner: 0,
        stored: BTreeMap::new(),
        lost: BTreeSet::new(),
        backup: None,
        older_marker: None,
        rng,
    };
    for often in [1.0, 0.8, 0.8] {
        story.upload(0, often).await;
    }
    for _ in 0..acts {
        story.act().await;
        story.check().await;
    }
    story.resolve().await;
}

impl Story {
    async fn act(&mut self) {
        let up: Vec<usize> = (0..self.sides.len()).filter(|n| self.sides[*n].is_up).collect();
        let side = up[self.rng.random_range(0..up.len())];
        match self.rng.random_range(0..16) {
            0 | 1 => self.upload(side, 0.8).await,
            2 | 3 => self.end_some(side).await,
            4 | 5 => {
                let minutes = self.rng.random_range(1..8);
                self.pass(minutes).await;
            }
            6 if self.sides.len() < 3 => self.copy().await,
            7 if self.sides.len() < 3 => self.restore().await,
            8 => self.marker_trouble().await,
            9 => self.lose_one().await,
            10 => self.bucket_trouble(side).await,
            11 | 12 => self.set_back_the_bucket().await,
            _ => self.run(side).await,
        }
    }

    /// Creates an upload. It is sent, and then confirmed, each with the probability `often`.
    async fn upload(&mut self, side: usize, often: f64) {
        let world = &self.sides[side].world;
        let upload = world.upload().await;
        let key = upload.key.to_string();
        if self.rng.random_bool(often) {
            world.put(&upload, mp3(900, 1)).await;
            self.stored.insert(upload.id, key);
            if self.rng.random_bool(often) {
                world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
            }
        }
    }

    /// A caller of one service ends an upload that this service knows.
    async fn end_some(&mut self, side: usize) {
        let ids: Vec<UploadId> = self.stored.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.rng.random_range(0..ids.len())];
        let Side { world, ended, .. } = &mut self.sides[side];
        if world.app.delete_upload(&world.owner, id).await.is_ok() {
            ended.insert(id);
        }
    }

    async fn run(&mut self, side: usize) {
        if self.rng.random_bool(0.15) {
            self.sides[side].world.store.lose_next(Operation::Put, 1);
        }
        let mode = if self.rng.random_bool(0.5) { Mode::Audit } else { Mode::Incremental };
        let before = self.keys();
        self.sides[side].world.reconcile(mode).await;
        self.sides[side].world.store.heal();
        self.check_losses(side, &before);
    }

    /// Every object that is gone must have been ended by a caller of the service that may decide.
    fn check_losses(&mut self, side: usize, before: &BTreeSet<String>) {
        let after = self.keys();
        for key in before.difference(&after).filter(|key| *key != MARKER) {
            let id = self.stored.iter().find(|(_, stored)| *stored == key).map(|(id, _)| *id);
            let id = id.unwrap_or_else(|| panic!("{key} was deleted, but no known upload has it"));
            assert_eq!(side, self.owner, "a copy deleted {key}");
            assert!(
                self.sides[side].ended.contains(&id),
                "{key} was deleted, although no caller ended its upload"
            );
            self.stored.remove(&id);
        }
    }

    /// Time passes, and each running service checks its bucket once a minute, as it does on its
    /// own.
    async fn pass(&mut self, minutes: i64) {
        for _ in 0..minutes {
            self.sides[0].world.pass(TimeDelta::minutes(1));
            for side in self.sides.iter().filter(|side| side.is_up) {
                side.world.identity().await;
            }
        }
    }

    /// A copy is used in addition to the other services.
    async fn copy(&mut self) {
        let of = &self.sides[self.owner];
        let side = Side { world: of.world.copy().await, is_up: true, ended: of.ended.clone() };
        self.sides.push(side);
    }

    /// The database is lost, and is replaced by an older state of it.
    async fn restore(&mut self) {
        let of = &self.sides[self.owner];
        let older = Side { world: of.world.copy().await, is_up: true, ended: of.ended.clone() };
        let owner = self.owner;
        let minutes = self.rng.random_range(0..4);
        self.run(owner).await;
        self.pass(minutes).await;
        self.run(owner).await;
        self.sides[owner].is_up = false;
        self.sides.push(older);
        self.owner = self.sides.len() - 1;
    }

    /// The marker disappears, or an older marker returns.
    async fn marker_trouble(&mut self) {
        let store = self.sides[0].world.store.clone();
        let meta = store.head(MARKER).await.unwrap();
        match (meta, self.older_marker.take()) {
            (Some(meta), None) => {
                let text = store.read(MARKER, 0..999, &meta.etag).await.unwrap();
                self.older_marker = Some(text);
                if self.rng.random_bool(0.5) {
                    store.delete(MARKER).await.unwrap();
                }
            }
            (_, Some(older)) => self.sides[0].world.put_key(MARKER, older).await,
            (None, None) => {}
        }
    }

    /// An object is removed from outside of the service.
    async fn lose_one(&mut self) {
        let Some((id, key)) = self.stored.iter().next().map(|(id, key)| (*id, key.clone())) else {
            return;
        };
        self.sides[0].world.store.delete(&key).await.unwrap();
        self.stored.remove(&id);
        self.lost.insert(key);
    }

    /// The bucket is empty while a service runs, and then has its objects again.
    async fn bucket_trouble(&mut self, side: usize) {
        let store = self.sides[0].world.store.clone();
        let objects = self.objects().await;
        for (key, _) in &objects {
            store.delete(key).await.unwrap();
        }
        self.pass(1).await;
        self.run(side).await;
        for (key, bytes) in objects {
            self.sides[0].world.put_key(&key, bytes).await;
        }
    }

    /// The bucket is backed up, or restored from the backup, including the marker.
    async fn set_back_the_bucket(&mut self) {
        let Some(Backup { objects, stored }) = self.backup.take() else {
            let (objects, stored) = (self.objects().await, self.stored.clone());
            self.backup = Some(Backup { objects, stored });
            return;
        };
        let world = &self.sides[0].world;
        for key in world.store.keys() {
            world.store.delete(&key).await.unwrap();
        }
        for (key, bytes) in objects {
            world.put_key(&key, bytes).await;
        }
        let before = std::mem::replace(&mut self.stored, stored);
        let (gone, back): (Vec<_>, Vec<_>) = {
            let gone = before.iter().filter(|(id, _)| !self.stored.contains_key(id));
            let back = self.stored.iter().filter(|(id, _)| !before.contains_key(id));
            (gone.collect(), back.collect())
        };
        self.lost.extend(gone.into_iter().chain(back).map(|(_, key)| key.clone()));
    }

    async fn objects(&self) -> Vec<(String, Bytes)> {
        let (store, mut objects) = (&self.sides[0].world.store, Vec::new());
        for key in store.keys() {
            let meta = store.head(&key).await.unwrap().unwrap();
            objects.push((key.clone(), store.read(&key, 0..9999, &meta.etag).await.unwrap()));
        }
        objects
    }

    fn keys(&self) -> BTreeSet<String> {
        self.sides[0].world.store.keys().into_iter().collect()
    }

    /// In each service, no upload with an existing object was ended, except by its callers.
    async fn check(&self) {
        let keys = self.keys();
        for key in self.stored.values() {
            assert!(keys.contains(key), "the object {key} is missing");
        }
        for side in &self.sides {
            for (id, key) in &self.stored {
                let row = side.world.app.db.uploads().find_any_owner(*id).await.unwrap();
                let Some(row) = row.filter(|_| !side.ended.contains(id)) else { continue };
                let status = row.status();
                let is_open = matches!(status, Status::Pending | Status::Uploaded)
                    // Only an audit sees the object that is back.
                    || matches!(status, Status::Missing | Status::Expired)
                        && self.lost.contains(key);
                assert!(is_open, "{key}: {status:?}");
            }
        }
    }

    /// The operator gives each copy a new identity and reclaims the markers. Then the runs of the
    /// owner succeed, and the runs of the copies delete nothing.
    async fn resolve(&mut self) {
        for (n, side) in self.sides.iter().enumerate() {
            if n != self.owner && side.is_up {
                side.world.app.reissue_instance().await.unwrap();
            }
        }
        let owner = self.owner;
        let original = &self.sides[owner].world;
        if original.store.head(MARKER).await.unwrap().is_none() {
            let adopt = CheckOptions { adopt: true, ..CheckOptions::default() };
            original.app.check_bucket(original.policy(), adopt).await.unwrap();
        }
        original.app.reclaim_markers(None).await.unwrap();
        assert_eq!(original.identity().await, BucketIdentity::Match);
        self.pass(5).await;
        let up: Vec<_> = (0..self.sides.len()).filter(|n| self.sides[*n].is_up).collect();
        // Objects that came back are due for deletion after the first audit that sees them.
        for n in up.iter().chain(&up).copied() {
            let before = self.keys();
            let run = self.sides[n].world.reconcile(Mode::Audit).await;
            self.check_losses(n, &before);
            if n == owner {
                assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
            } else {
                assert_eq!(run.counters.deleted, 0);
            }
        }
        self.check().await;
        self.check_lost().await;
        let ended = &self.sides[owner].ended;
        let left: Vec<_> = self.stored.keys().filter(|id| ended.contains(id)).collect();
        assert!(left.is_empty(), "the ended uploads {left:?} still have objects");
    }

    /// In the end, the rows of the owner show which objects exist and which are lost.
    async fn check_lost(&self) {
        let side = &self.sides[self.owner];
        let known = self.lost.iter().chain(self.stored.values());
        for key in known.collect::<BTreeSet<_>>() {
            let id = side.world.policy().prefix.parse_key(key).unwrap();
            let row = side.world.app.db.uploads().find_any_owner(id).await.unwrap();
            let Some(row) = row.filter(|row| !side.ended.contains(&row.id)) else { continue };
            if self.stored.contains_key(&id) {
                assert_eq!(row.status(), Status::Uploaded, "{key}");
            } else {
                let status = row.status();
                assert!(!matches!(status, Status::Uploaded), "{key}: {status:?}");
            }
        }
    }
}
