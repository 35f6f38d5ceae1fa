//! Uploads that ended while their URL is still valid: a signed URL can't be revoked, so bytes may
//! arrive.

use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::db::DbError;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::upload::{Declared, Strategy};
use upload_coordinator::domain::{Status, Upload};

use crate::support::world::World;
use crate::support::{PNG, mp3};

async fn with_quota(world: &World, quota: Quota) -> App {
    let app = world.replica().await;
    App { db: app.db.clone().with_quota(quota), ..app }
}

fn for_a_day() -> NewUpload {
    NewUpload { expires_in: Some(24 * 3600), ..NewUpload::default() }
}

#[tokio::test]
async fn uploads_that_are_cancelled_and_sent_again_and_again_stay_within_the_quota() {
    let world = World::new().await;
    let max_sizes = [("tracks".to_owned(), 30 << 20)].into();
    let quota = Quota { pending_bytes: Some(100 << 20), max_sizes, ..Quota::default() };
    let app = with_quota(&world, quota).await;
    let attack = async || -> Result<(), AppError> {
        let upload = app.create_upload(&world.owner, for_a_day()).await?.upload;
        app.delete_upload(&world.owner, upload.id).await?;
        world.put(&upload, mp3(1 << 20, 1)).await;
        Ok(())
    };
    for _ in 0..3 {
        attack().await.unwrap();
    }
    let refused = attack().await;
    assert!(
        matches!(refused, Err(AppError::Db(DbError::OverQuota { what: "pending bytes", .. }))),
        "{refused:?}"
    );
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.keys().await, ["tracks/.instance"]);
    assert!(attack().await.is_err(), "the URLs are valid, although a run deleted the objects");
    world.pass(TimeDelta::hours(24));
    attack().await.unwrap();
}

#[tokio::test]
async fn only_a_url_for_the_whole_file_keeps_a_cancelled_upload_in_the_quota() {
    let world = World::new().await;
    let quota = Quota { pending_uploads: Some(1), ..Quota::default() };
    let app = with_quota(&world, quota).await;
    for (strategy, counts) in [(Strategy::Multipart, false), (Strategy::Post, true)] {
        let declared = Declared { size: Some(20 << 20), ..Declared::default() };
        let new = NewUpload { declared, strategy: Some(strategy), ..NewUpload::default() };
        let upload = app.create_upload(&world.owner, new.clone()).await.unwrap().upload;
        app.delete_upload(&world.owner, upload.id).await.unwrap();
        let again = app.create_upload(&world.owner, new).await;
        assert_eq!(again.is_err(), counts, "{strategy:?}");
        if let Ok(again) = again {
            app.delete_upload(&world.owner, again.upload.id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_incremental_run_deletes_bytes_that_arrive_after_the_object_was_deleted() {
    let world = World::with(|policy| policy.rejected_retention = TimeDelta::zero()).await;
    let cancelled = world.create(for_a_day()).await;
    let (removed, rejected) = (world.create(for_a_day()).await, world.create(for_a_day()).await);
    world.put(&removed, mp3(900, 1)).await;
    world.put(&rejected, PNG.to_vec()).await;
    for upload in [&removed, &rejected] {
        world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    }
    for upload in [&cancelled, &removed] {
        world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    }
    let ended = [cancelled, removed, rejected];
    let states = [Status::Cancelled, Status::Removed, Status::Rejected];
    world.reconcile(Mode::Incremental).await;
    let arrive = async |ended: &[Upload]| {
        for upload in ended {
            world.put(upload, mp3(900, 2)).await;
        }
    };
    for _ in 0..2 {
        world.pass(TimeDelta::hours(11));
        arrive(&ended).await;
        let run = world.reconcile(Mode::Incremental).await;
        assert_eq!(run.counters.deleted, 3, "{run:?}");
        assert_eq!(world.keys().await, ["tracks/.instance"]);
    }
    for (upload, state) in ended.iter().zip(states) {
        assert_eq!(world.get(upload.id).await.status(), state);
    }
    // After the slowest PUT by these URLs has ended, no bytes can arrive: the uploads are not open
    // any more.
    world.pass(TimeDelta::days(2));
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.head_requests, 0);
}

#[tokio::test]
async fn a_row_is_not_pruned_while_its_url_is_valid() {
    let world = World::new().await;
    let upload = world.create(for_a_day()).await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.reconcile(Mode::Incremental).await;
    let prune = async || {
        let before = world.app.now() - TimeDelta::minutes(1);
        world.app.db.retention().prune_ended_uploads(before, 10).await.unwrap()
    };
    world.pass(TimeDelta::hours(2));
    assert_eq!(prune().await, 0);
    world.pass(TimeDelta::hours(24));
    assert_eq!(prune().await, 1);
}
