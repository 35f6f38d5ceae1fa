//! Many concurrent requests that change one row: all succeed, in one process and in several.

use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use upload_coordinator::app::App;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::upload::{Declared, Strategy};

use crate::support::world::World;

/// The largest number of statements of 16 concurrent renewals.
const MOST_STATEMENTS: u64 = 80;

/// Runs `request` 16 times concurrently in each process, and expects that all succeed.
async fn all_at_once<T>(processes: &[&App], request: impl AsyncFn(&App) -> Result<T, String>) {
    let requests = processes.iter().flat_map(|app| (0..16).map(|_| request(app)));
    for done in join_all(requests).await {
        done.unwrap();
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

#[tokio::test]
async fn concurrent_renewals_of_one_upload_all_succeed() {
    let world = World::new().await;
    let other = world.replica().await;
    let upload = world.upload().await;
    let renew = async |app: &App| {
        app.renew_upload(&world.owner, upload.id, None).await.map(drop).map_err(text)
    };
    let before = world.app.db.statements();
    all_at_once(&[&world.app], renew).await;
    // Within a process, requests that change the same row wait for each other, so each of them
    // reads and writes about twice. Otherwise most writes would fail several times.
    let statements = world.app.db.statements() - before;
    assert!(statements <= MOST_STATEMENTS, "{statements}");
    all_at_once(&[&world.app, &other], renew).await;
}

#[tokio::test]
async fn concurrent_part_signings_of_one_upload_all_succeed() {
    let world = World::new().await;
    let other = world.replica().await;
    let declared = Declared { size: Some(40 << 20), ..Declared::default() };
    let strategy = Some(Strategy::Multipart);
    let upload = world.create(NewUpload { declared, strategy, ..NewUpload::default() }).await;
    let seconds = AtomicI64::new(3600);
    let sign = async |app: &App| {
        // Each request extends the deadline by another minute, so that each one writes.
        let expires_in = seconds.fetch_add(60, Ordering::Relaxed);
        let signed = app.sign_parts(&world.owner, upload.id, &[1, 2], Some(expires_in)).await;
        signed.map(|parts| assert_eq!(parts.len(), 2)).map_err(text)
    };
    all_at_once(&[&world.app, &world.app], sign).await;
    all_at_once(&[&world.app, &other], sign).await;
}

#[tokio::test]
async fn concurrent_changes_of_one_track_all_succeed() {
    let world = World::new().await;
    let other = world.replica().await;
    let track = world.track().await;
    let change = async |app: &App| {
        let changed = app.update_track(&world.owner, track.id, |fields| fields).await;
        changed.map(drop).map_err(text)
    };
    all_at_once(&[&world.app], change).await;
    all_at_once(&[&world.app, &other], change).await;
}
