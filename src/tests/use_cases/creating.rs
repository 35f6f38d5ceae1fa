//! Concurrent creations share commits, and each has its own result.

use futures_util::future::join_all;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::db::DbError;
use upload_coordinator::domain::{Owner, Subject, Upload, UploadId};

use crate::support::world::World;

/// A new upload that is not committed yet.
fn fresh(world: &World, like: &Upload) -> Upload {
    let id = UploadId(world.app.ids.uuid());
    let key = world.app.policies.values().next().unwrap().prefix.key(id);
    Upload { id, key, slot: None, ..like.clone() }
}

#[tokio::test]
async fn concurrent_uploads_of_a_track_get_sequence_numbers_without_a_gap() {
    let world = World::new().await;
    let tracks = [world.track().await.id, world.track().await.id];
    let stranger = Owner::named("stranger");
    let created = join_all((0..90).map(|n| {
        let attach_to = [Some(tracks[0]), None, Some(tracks[1])][n % 3].map(Subject::of_track);
        let owner = if n % 9 == 8 { &stranger } else { &world.owner };
        world.app.create_upload(owner, NewUpload { attach_to, ..NewUpload::default() })
    }))
    .await;
    for (n, created) in created.iter().enumerate() {
        assert_eq!(
            created.is_err(),
            n % 9 == 8,
            "the track of another owner does not exist: {created:?}"
        );
    }
    for (track, count) in [(tracks[0], 30), (tracks[1], 20)] {
        let mut slots: Vec<_> = created
            .iter()
            .flatten()
            .filter_map(|created| Some((created.upload.slot.as_ref()?, created.upload.id)))
            .filter(|(slot, _)| slot.subject.track() == Some(track))
            .map(|(slot, id)| (slot.sequence, id))
            .collect();
        slots.sort();
        assert!(slots.iter().map(|(sequence, _)| *sequence).eq(1..=count), "{slots:?}");
        let newest = world.app.db.tracks().find(&world.owner, track).await.unwrap().unwrap();
        assert_eq!(newest.latest_upload, slots.last().map(|(_, id)| *id));
    }
    for created in created.iter().flatten() {
        assert_eq!(world.get(created.upload.id).await.slot, created.upload.slot);
    }
}

#[tokio::test]
async fn one_bad_row_does_not_affect_the_others() {
    let world = World::new().await;
    let taken = world.upload().await;
    let mut rows: Vec<_> = (0..40).map(|_| fresh(&world, &taken)).collect();
    rows[17].id = taken.id;
    let db = &world.app.db;
    let done = join_all(rows.iter().map(|row| db.uploads().create(row.clone(), None))).await;
    for (n, done) in done.iter().enumerate() {
        assert_eq!(done.is_err(), n == 17, "{n}: {done:?}");
    }
    for (n, row) in rows.iter().enumerate().filter(|(n, _)| *n != 17) {
        assert_eq!(world.get(row.id).await.key, row.key, "{n} is committed");
    }
    assert_eq!(world.get(taken.id).await.key, taken.key, "the existing row is unchanged");
}

/// The test has one thread, so no commit starts before all creations are submitted.
#[tokio::test]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let world = World::new().await;
    let like = world.upload().await;
    let rows: Vec<_> = (0..2100).map(|_| fresh(&world, &like)).collect();
    let db = &world.app.db;
    let done = join_all(rows.iter().map(|row| db.uploads().create(row.clone(), None))).await;
    let refused = done.iter().filter(|done| matches!(done, Err(DbError::Busy))).count();
    assert_eq!((done.iter().filter(|done| done.is_ok()).count(), refused), (2048, 52));
    for (row, done) in rows.iter().zip(&done) {
        let there = db.uploads().find(&world.owner, row.id).await.unwrap().is_some();
        assert_eq!(there, done.is_ok());
    }
    assert!(
        db.uploads().create(fresh(&world, &like), None).await.is_ok(),
        "later creations succeed"
    );
}
