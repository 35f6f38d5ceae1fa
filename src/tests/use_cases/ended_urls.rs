//! Uploads that no client confirms are checked once, after their URL has ended.

use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::Status;
use upload_coordinator::domain::upload::{ConfirmedBy, Strategy};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::memory::Operation;

use crate::support::world::World;
use crate::support::{PNG, mp3};

/// An upload by a single PUT, whose URL is valid for 15 minutes.
fn unconfirmed() -> NewUpload {
    NewUpload {
        strategy: Some(Strategy::Put),
        expires_in: Some(900),
        check_at_url_end: true,
        ..NewUpload::default()
    }
}

async fn due(world: &World) -> u64 {
    world.app.check_ended_urls().await.unwrap()
}

/// Time from the creation to the check.
fn until_check() -> TimeDelta {
    TimeDelta::seconds(906)
}

#[tokio::test]
async fn uploads_are_observed_together_and_once_after_their_url_ended() {
    let mut statements = Vec::new();
    for count in [4, 40] {
        let world = World::new().await;
        let mut uploads = Vec::new();
        for n in 0..count {
            uploads.push(world.create(unconfirmed()).await);
            if n % 2 == 0 {
                world.put(&uploads[n], mp3(9000, 1)).await;
            }
        }
        world.put(&uploads[0], PNG).await;
        world.pass(TimeDelta::seconds(904));
        assert_eq!(due(&world).await, 0, "the URLs have just ended");
        world.pass(TimeDelta::seconds(2));
        let heads = world.store.calls(Operation::Head);
        let before = world.app.db.statements();
        assert_eq!(due(&world).await, count as u64);
        statements.push(world.app.db.statements() - before);
        assert_eq!(world.store.calls(Operation::Head) - heads, count);
        for (n, upload) in uploads.iter().enumerate() {
            let now = world.get(upload.id).await;
            let expected = match n {
                0 => Status::Rejected,
                n if n % 2 == 0 => Status::Uploaded,
                _ => Status::Pending,
            };
            assert_eq!(now.status(), expected, "{n}");
            if let Some(verified) = now.state.verified() {
                assert_eq!(verified.confirmed_by, ConfirmedBy::Scan);
            }
        }
        world.pass(TimeDelta::hours(1));
        assert_eq!(due(&world).await, 0, "each is checked once");
        assert_eq!(world.store.calls(Operation::Head) - heads, count);
    }
    assert_eq!(statements[0], statements[1], "the number of uploads does not matter");
}

#[tokio::test]
async fn an_upload_that_was_confirmed_renewed_or_created_natively_costs_no_head() {
    let world = World::new().await;
    // The native API does not request this check; other dialects of the API do.
    let native = world.create(NewUpload { check_at_url_end: false, ..unconfirmed() }).await;
    let confirmed = world.create(unconfirmed()).await;
    let renewed = world.create(unconfirmed()).await;
    let cancelled = world.create(unconfirmed()).await;
    for upload in [&native, &confirmed, &renewed] {
        world.put(upload, mp3(9000, 1)).await;
    }
    world.app.confirm_upload(&world.owner, confirmed.id).await.unwrap();
    world.app.renew_upload(&world.owner, renewed.id, Some(3600)).await.unwrap();
    world.app.delete_upload(&world.owner, cancelled.id).await.unwrap();
    world.pass(until_check());
    let heads = world.store.calls(Operation::Head);
    assert_eq!(due(&world).await, 3);
    assert_eq!(world.store.calls(Operation::Head), heads);
    // The check follows the end of the renewed URL.
    world.pass(TimeDelta::seconds(3600));
    assert_eq!(due(&world).await, 1);
    assert_eq!(world.get(renewed.id).await.status(), Status::Uploaded);
    assert_eq!(world.get(native.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn a_check_that_failed_or_was_interrupted_is_repeated_by_any_process() {
    let world = World::new().await;
    let upload = world.create(unconfirmed()).await;
    world.put(&upload, mp3(9000, 1)).await;
    world.pass(until_check());
    // A process claims the check and ends.
    let now = world.app.now();
    let lease = now + TimeDelta::minutes(1);
    let claimed = world.app.db.url_end_checks().claim(now, lease, 10).await.unwrap();
    assert_eq!(claimed, [upload.id]);
    assert_eq!(due(&world).await, 0);
    world.pass(TimeDelta::minutes(1));
    world.store.fail_next(Operation::Head, 1, || StoreError::Unavailable("down".into()));
    assert_eq!(due(&world).await, 1);
    assert_eq!(world.get(upload.id).await.status(), Status::Pending);
    world.pass(TimeDelta::minutes(1));
    let other = world.replica().await;
    assert_eq!(other.check_ended_urls().await.unwrap(), 1);
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
    // If the store keeps failing, only runs look for the object.
    let upload = world.create(unconfirmed()).await;
    world.pass(until_check() + TimeDelta::minutes(16));
    world.store.fail_next(Operation::Head, 9, || StoreError::Unavailable("down".into()));
    assert_eq!(due(&world).await, 1);
    world.pass(TimeDelta::minutes(2));
    assert_eq!(due(&world).await, 0);
    assert_eq!(world.get(upload.id).await.status(), Status::Pending);
}
