//! Batches of changes on real databases: the number of statements, and the result of each change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;

use super::*;
use crate::db::Db;
use crate::db::testing::on_both;
use crate::db::tracks::TrackFields;
use crate::domain::clock::SystemClock;
use crate::domain::history::Cause;
use crate::domain::ids::{IdSource as _, SystemIds};
use crate::domain::inspection::Annotations;
use crate::domain::policy::tests::tracks;
use crate::domain::transition::tests::{facts, upload_in};
use crate::domain::transition::{Absence, Event, Observation, step};
use crate::domain::upload::ConfirmedBy;
use crate::domain::webhook::Subscriber;
use crate::domain::{Clock as _, Owner, Policy, Status, Subject, TrackId, UploadId};

fn subscribed(db: Db) -> Db {
    db.with_subscribers(vec![Subscriber { name: "backend".to_owned(), events: Vec::new() }])
}

async fn track(db: &Db) -> TrackId {
    let fields = TrackFields { title: "T".into(), artist_name: "A".into(), release_date: None };
    let (id, now) = (TrackId(SystemIds.uuid()), SystemClock.now());
    let track = db.tracks().create(id, &Owner::anonymous(), fields, now, None).await;
    track.unwrap().id
}

async fn pending(db: &Db, track: Option<TrackId>) -> Upload {
    let id = UploadId(SystemIds.uuid());
    let (key, slot) = (tracks().prefix.key(id), None);
    let upload = Upload { id, key, slot, multipart_id: None, ..upload_in(Status::Pending) };
    db.uploads().create(upload, track.map(Subject::of_track)).await.unwrap().unwrap()
}

fn change<'a>(upload: &Upload, event: Event, policy: &'a Policy) -> Change<'a> {
    let from = upload.status();
    let step = step(upload.clone(), event.clone(), SystemClock.now(), policy).unwrap();
    let cause = Cause::of(&event, &step.upload.state);
    let left_behind = step.left_behind;
    Change { upload: step.upload, effects: step.effects, policy, from, cause, left_behind }
}

fn expire<'a>(upload: &Upload, policy: &'a Policy) -> Change<'a> {
    let requested_at = SystemClock.now() + TimeDelta::days(1);
    change(
        upload,
        Event::Absent(Absence {
            requested_at,
            by_head: true,
            last_part_at: None,
            by: ConfirmedBy::Scan,
        }),
        policy,
    )
}

fn arrive<'a>(upload: &Upload, policy: &'a Policy) -> Change<'a> {
    let seen = Observation {
        facts: facts("a"),
        verdict: Ok(()),
        by: ConfirmedBy::Scan,
        annotations: Annotations::new(),
    };
    change(upload, Event::Observed(seen), policy)
}

/// The number of statements that expire `count` uploads. Every second upload belongs to a track.
async fn statements_for(db: &Db, count: usize) -> usize {
    let mut uploads = Vec::new();
    for n in 0..count {
        let track = if n % 2 == 0 { None } else { Some(track(db).await) };
        uploads.push(pending(db, track).await);
    }
    let mut counted = db.clone();
    let statements = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&statements);
    counted.engine.write.set_metric_callback(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let policy = tracks();
    let changes = uploads.iter().map(|upload| expire(upload, &policy)).collect();
    let saved = counted.uploads().save(changes, SystemClock.now()).await.unwrap();
    for (saved, before) in saved.into_iter().zip(&uploads) {
        let Saved::Done(saved) = saved else { panic!("the change of {} was lost", before.id) };
        let row = db.uploads().find_any_owner(before.id).await.unwrap().unwrap();
        assert_eq!((row.status(), row.version), (Status::Expired, before.version + 1));
        assert_eq!((saved.id, saved.version), (before.id, row.version));
        if let Some(track) = before.track() {
            let track = db.tracks().find(&before.owner, track).await.unwrap().unwrap();
            assert_eq!(track.status, Some(Status::Expired));
        }
    }
    statements.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_batch_of_a_hundred_expirations_takes_eight_statements() {
    on_both(async |db: Db| {
        let db = subscribed(db);
        // Three statements lock tracks, attachments and uploads, three write them, one adds the
        // deliveries, and one adds the history.
        assert_eq!(statements_for(&db, 100).await, 8);
        assert_eq!(statements_for(&db, 2).await, 8);
        let deliveries = db.webhooks().list(None, None, 1000).await.unwrap().items;
        assert_eq!(deliveries.len(), 102);
        assert!(deliveries.iter().all(|delivery| delivery.event == "upload.expired"));
    })
    .await;
}

#[tokio::test]
async fn a_change_that_writes_one_row_and_its_history_is_one_statement_on_postgres() {
    on_both(async |db: Db| {
        let (policy, now) = (tracks(), SystemClock.now());
        let upload = Upload { multipart_id: None, ..pending(&db, None).await };
        let before = db.statements();
        let saved = db.uploads().save(vec![arrive(&upload, &policy)], now).await.unwrap();
        let made = db.statements() - before;
        // On SQLite, three statements lock the row, write it, and add its history.
        assert_eq!(made, if db.engine.is_postgres() { 1 } else { 3 });
        assert!(matches!(saved[..], [Saved::Done(_)]), "{saved:?}");
        let late = db.uploads().save(vec![expire(&upload, &policy)], now).await.unwrap();
        assert!(matches!(late[..], [Saved::Lost]), "{late:?}");
        let row = db.uploads().find_any_owner(upload.id).await.unwrap().unwrap();
        assert_eq!((row.status(), row.version), (Status::Uploaded, upload.version + 1));
        let history = db.uploads().history(upload.id).await.unwrap();
        let [change] = &history[..] else { panic!("{history:?}") };
        assert_eq!((change.from, change.to), (Status::Pending, Status::Uploaded));
        assert_eq!((change.at, change.by.as_str()), (row.updated_at, "scan"));
        assert_eq!((&change.reason, &change.detail), (&None, &None));
    })
    .await;
}

#[tokio::test]
async fn two_uploads_of_a_track_in_one_batch_end_as_in_two_batches() {
    on_both(async |db: Db| {
        let (db, policy, now) = (subscribed(db), tracks(), SystemClock.now());
        let of = track(&db).await;
        let (old, new) = (pending(&db, Some(of)).await, pending(&db, Some(of)).await);
        // The newer one comes first.
        let changes = vec![arrive(&new, &policy), arrive(&old, &policy)];
        let saved = db.uploads().save(changes, now).await.unwrap();
        let versions = saved.iter().map(|saved| match saved {
            Saved::Done(upload) => (upload.id, upload.status(), upload.version - 1),
            Saved::Lost => panic!("there is no other writer"),
        });
        let verified = |upload: &Upload| (upload.id, Status::Uploaded, upload.version);
        assert_eq!(versions.collect::<Vec<_>>(), [verified(&new), verified(&old)]);
        let row = async |id| db.uploads().find_any_owner(id).await.unwrap().unwrap();
        assert_eq!(row(new.id).await.status(), Status::Uploaded);
        let old = row(old.id).await;
        assert_eq!((old.status(), old.version), (Status::Removed, 3));
        assert!(old.deletion.after.is_some());
        let history = db.uploads().history(old.id).await.unwrap();
        let steps: Vec<_> = history.iter().map(|change| (change.from, change.to)).collect();
        let expected = [(Status::Pending, Status::Uploaded), (Status::Uploaded, Status::Removed)];
        assert_eq!(steps, expected, "both changes are in the history");
        assert_eq!(history[1].explanation(), format!("Replaced by the upload {}", new.id));
        let track = db.tracks().find(&new.owner, of).await.unwrap().unwrap();
        assert_eq!(track.current_upload, Some(new.id));
        assert_eq!(track.status, Some(Status::Uploaded));
        let deliveries = db.webhooks().list(None, None, 10).await.unwrap().items;
        let mut events: Vec<_> =
            deliveries.into_iter().map(|delivery| (delivery.upload, delivery.event)).collect();
        events.sort();
        let event = |id, event: &str| (id, event.to_owned());
        assert_eq!(
            events,
            [
                event(old.id, "upload.removed"),
                event(old.id, "upload.uploaded"),
                event(new.id, "upload.uploaded"),
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_lost_race_changes_neither_its_row_nor_its_track_and_the_other_changes_are_saved() {
    on_both(async |db: Db| {
        let (db, policy, now) = (subscribed(db), tracks(), SystemClock.now());
        let of = track(&db).await;
        let (raced, other) = (pending(&db, Some(of)).await, pending(&db, None).await);
        let late = vec![expire(&raced, &policy), expire(&other, &policy)];
        db.uploads().save(vec![arrive(&raced, &policy)], now).await.unwrap();
        let saved = db.uploads().save(late, now).await.unwrap();
        assert!(matches!(saved[..], [Saved::Lost, Saved::Done(_)]), "{saved:?}");
        let row = async |id| db.uploads().find_any_owner(id).await.unwrap().unwrap().status();
        assert_eq!(row(raced.id).await, Status::Uploaded);
        assert_eq!(row(other.id).await, Status::Expired);
        let track = db.tracks().find(&raced.owner, of).await.unwrap().unwrap();
        assert_eq!(track.current_upload, Some(raced.id));
        assert_eq!(track.status, Some(Status::Uploaded));
    })
    .await;
}
