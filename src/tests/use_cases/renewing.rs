//! Expired uploads that are renewed, within the quota of their owner.

use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError, Result};
use upload_coordinator::db::DbError;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::upload::Declared;
use upload_coordinator::domain::{Status, Subject, Upload};

use crate::support::world::World;

/// A process with a quota.
async fn bounded(world: &World, quota: &Quota) -> App {
    let app = world.replica().await;
    App { db: app.db.clone().with_quota(quota.clone()), ..app }
}

/// Expired uploads, one for each of these sizes.
async fn expired(world: &World, sizes: &[u64]) -> Vec<Upload> {
    let mut made = Vec::new();
    for size in sizes {
        let declared = Declared { size: Some(*size), ..Declared::default() };
        made.push(world.create(NewUpload { declared, ..NewUpload::default() }).await);
    }
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    for upload in &made {
        assert_eq!(world.get(upload.id).await.status(), Status::Expired);
    }
    made
}

async fn renew(app: &App, world: &World, upload: &Upload) -> Result<Status> {
    let renewed = app.renew_upload(&world.owner, upload.id, None).await?;
    Ok(renewed.upload.status())
}

#[track_caller]
fn is_over(found: &Result<Status>, what: &str) {
    match found {
        Err(AppError::Db(DbError::OverQuota { what: of, .. })) => assert_eq!(*of, what),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_renewed_upload_counts_among_the_pending_ones_like_a_new_one() {
    let world = World::new().await;
    let old = expired(&world, &[10, 10]).await;
    let app = bounded(&world, &Quota { pending_uploads: Some(1), ..Quota::default() }).await;
    let fresh = app.create_upload(&world.owner, NewUpload::default()).await.unwrap().upload;
    is_over(&renew(&app, &world, &old[0]).await, "pending uploads");
    assert_eq!(world.get(old[0].id).await.status(), Status::Expired, "nothing was changed");
    app.delete_upload(&world.owner, fresh.id).await.unwrap();
    is_over(&renew(&app, &world, &old[0]).await, "pending uploads");
    world.pass(TimeDelta::hours(1));
    assert_eq!(renew(&app, &world, &old[0]).await.unwrap(), Status::Pending);
    // An upload that is already pending is counted, and can be renewed.
    assert_eq!(renew(&app, &world, &old[0]).await.unwrap(), Status::Pending);
    is_over(&renew(&app, &world, &old[1]).await, "pending uploads");
    let new = app.create_upload(&world.owner, NewUpload::default()).await;
    assert!(matches!(new, Err(AppError::Db(DbError::OverQuota { .. }))));
}

#[tokio::test]
async fn a_renewed_upload_counts_with_its_bytes() {
    let world = World::new().await;
    let old = expired(&world, &[60, 50, 40]).await;
    let app = bounded(&world, &Quota { pending_bytes: Some(100), ..Quota::default() }).await;
    assert_eq!(renew(&app, &world, &old[0]).await.unwrap(), Status::Pending);
    is_over(&renew(&app, &world, &old[1]).await, "pending bytes");
    assert_eq!(renew(&app, &world, &old[2]).await.unwrap(), Status::Pending);
}

#[tokio::test]
async fn a_renewal_does_not_count_as_a_new_upload_of_the_day() {
    let world = World::new().await;
    let old = expired(&world, &[10]).await;
    let app = bounded(&world, &Quota { uploads_per_day: Some(1), ..Quota::default() }).await;
    assert_eq!(renew(&app, &world, &old[0]).await.unwrap(), Status::Pending);
}

#[tokio::test]
async fn concurrent_renewals_in_two_processes_stay_within_the_quota() {
    let world = World::new().await;
    let quota = Quota { pending_uploads: Some(3), ..Quota::default() };
    let (one, two) = (bounded(&world, &quota).await, bounded(&world, &quota).await);
    let old = expired(&world, &[10; 8]).await;
    let renewals = old.iter().enumerate().map(|(n, upload)| {
        let app = if n % 2 == 0 { &one } else { &two };
        renew(app, &world, upload)
    });
    let found = futures_util::future::join_all(renewals).await;
    assert_eq!(found.iter().filter(|one| one.is_ok()).count(), 3, "{found:?}");
    for refused in found.iter().filter(|one| one.is_err()) {
        is_over(refused, "pending uploads");
    }
}

#[tokio::test]
async fn renewals_of_one_upload_at_once_count_it_once() {
    let world = World::new().await;
    let attach_to = Some(Subject::of_track(world.track().await.id));
    let new = || NewUpload { attach_to: attach_to.clone(), ..NewUpload::default() };
    let old = world.create(new()).await;
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    let quota = Quota { pending_uploads: Some(2), ..Quota::default() };
    let (one, two) = (bounded(&world, &quota).await, bounded(&world, &quota).await);
    // A concurrent creation for the same track: both lock the track first, then the owner.
    let new = new();
    let (first, second, created) = tokio::join!(
        renew(&one, &world, &old),
        renew(&two, &world, &old),
        one.create_upload(&world.owner, new)
    );
    assert_eq!(first.unwrap(), Status::Pending);
    assert_eq!(second.unwrap(), Status::Pending);
    assert_eq!(created.unwrap().upload.status(), Status::Pending);
}
