//! Upload tokens: what they allow, how they end, and how they are counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::idempotency::IdempotencyKey;
use upload_coordinator::app::retention::{Pruned, Retention};
use upload_coordinator::app::upload_batches::BatchItem;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::auth::upload_tokens::{IssuedToken, NewUploadToken};
use upload_coordinator::db::DbError;
use upload_coordinator::db::uploads::UploadFilter;
use upload_coordinator::domain::upload::Declared;
use upload_coordinator::domain::upload_token::TokenError;
use upload_coordinator::domain::{PolicyName, Principal, Status, Subject, Upload, UploadToken};

use crate::support::mp3;
use crate::support::wait::wait_for_at_most;
use crate::support::world::World;

/// Processes on one database.
const REPLICAS: usize = 3;

async fn issue(world: &World, new: NewUploadToken) -> IssuedToken {
    let policy = PolicyName::default();
    world.app.create_upload_token(&world.owner, None, &policy, new).await.unwrap()
}

async fn identify(app: &App, issued: &IssuedToken) -> Result<Arc<UploadToken>, DbError> {
    app.token_verifier.identify(issued.text.expose_secret()).await
}

/// Creates an upload, as a request with the token would.
async fn create(app: &App, issued: &IssuedToken, new: NewUpload) -> Result<Upload, AppError> {
    let token = identify(app, issued).await?;
    Ok(app.create_upload(&*token, new).await?.upload)
}

fn token_error(error: &AppError) -> &TokenError {
    match error {
        AppError::Token(error) | AppError::Db(DbError::Token(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn track_file() -> NewUpload {
    let declared = Declared { filename: Some("a.mp3".into()), ..Declared::default() };
    NewUpload { declared, ..NewUpload::default() }
}

async fn count(world: &World, issued: &IssuedToken) -> u64 {
    world.app.db.upload_tokens().find(issued.token.id).await.unwrap().unwrap().uploads
}

#[tokio::test]
async fn a_token_allows_exactly_its_number_of_uploads_over_three_replicas() {
    const ALLOWED: u64 = 10;
    let world = World::new().await;
    let issued =
        issue(&world, NewUploadToken { max_uploads: Some(ALLOWED), ..Default::default() }).await;
    let unlimited = issue(&world, NewUploadToken::default()).await;
    let replicas = join_all((0..REPLICAS).map(|_| world.replica())).await;
    // The other token's uploads share commits with these.
    let creations = (0..64).map(|n| create(&replicas[n % REPLICAS], &issued, track_file()));
    let others = (0..32).map(|n| create(&replicas[n % REPLICAS], &unlimited, track_file()));
    let (outcomes, others) = tokio::join!(join_all(creations), join_all(others));
    let created: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(created.len() as u64, ALLOWED);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(*token_error(refused), TokenError::Exhausted(ALLOWED));
    }
    assert!(others.iter().all(Result::is_ok));
    assert_eq!((count(&world, &issued).await, count(&world, &unlimited).await), (ALLOWED, 32));
    assert!(created.iter().all(|upload| upload.token == Some(issued.token.id)));

    // A cancelled upload is counted.
    let token = identify(&world.app, &issued).await.unwrap();
    world.app.delete_upload(&*token, created[0].id).await.unwrap();
    let refused = create(&world.app, &issued, track_file()).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::Exhausted(ALLOWED));
}

#[tokio::test]
async fn a_refused_creation_or_a_repeat_with_the_same_key_does_not_count() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken { max_uploads: Some(2), ..Default::default() }).await;
    let token = identify(&world.app, &issued).await.unwrap();
    let key = IdempotencyKey { key: "k".to_owned(), fingerprint: "f".to_owned() };
    let once = async |by: Principal<'_>| {
        world.app.create_upload_once(by, Some(&key), track_file()).await.unwrap().upload
    };
    let first = once((&*token).into()).await;
    assert_eq!(once((&*token).into()).await.id, first.id);
    assert_eq!(count(&world, &issued).await, 1);
    // The key belongs to the token. The token's owner and other tokens do not get this upload.
    assert_ne!(once((&world.owner).into()).await.id, first.id);
    let other = issue(&world, NewUploadToken::default()).await;
    let other = identify(&world.app, &other).await.unwrap();
    assert_ne!(once((&*other).into()).await.id, first.id);
    let bad = NewUpload { expires_in: Some(0), ..track_file() };
    assert!(matches!(create(&world.app, &issued, bad).await, Err(AppError::Invalid(_))));
    assert_eq!(count(&world, &issued).await, 1);
    create(&world.app, &issued, track_file()).await.unwrap();
    // A repeated request creates nothing, so it works even if the token is used up.
    assert_eq!(once((&*token).into()).await.id, first.id);
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_every_replica_within_a_second() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken::default()).await;
    let replicas = join_all((0..REPLICAS).map(|_| world.replica())).await;
    // Every replica has just cached it.
    let mut used = Vec::new();
    for replica in &replicas {
        used.push(create(replica, &issued, track_file()).await.unwrap());
    }
    let stale = identify(&replicas[1], &issued).await.unwrap();
    replicas[0].revoke_upload_token(&world.owner, issued.token.id).await.unwrap();
    // No replica creates an upload any more, not even one that still caches the token.
    let refused = replicas[1].create_upload(&*stale, track_file()).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::Unknown);
    assert!(identify(&replicas[0], &issued).await.is_err());
    for replica in &replicas[1..] {
        wait_for_at_most(Duration::from_secs(1), "the revocation", async || {
            identify(replica, &issued).await.err()
        })
        .await;
    }
    // The uploads still belong to the owner.
    assert_eq!(world.app.upload(&world.owner, used[0].id).await.unwrap().status(), Status::Pending);
    // Revoking it again is not an error. Other owners cannot see the token.
    world.app.revoke_upload_token(&world.owner, issued.token.id).await.unwrap();
    let bob = upload_coordinator::auth::owner("bob").unwrap();
    let other = world.app.revoke_upload_token(&bob, issued.token.id).await;
    assert!(matches!(other, Err(AppError::NotFound(_))), "{other:?}");
}

#[tokio::test]
async fn an_expired_token_creates_nothing_and_its_uploads_continue_until_their_deadline() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken { expires_in: Some(60), ..Default::default() }).await;
    let new = NewUpload { expires_in: Some(3000), ..track_file() };
    let upload = create(&world.app, &issued, new).await.unwrap();
    world.clock.advance(TimeDelta::seconds(60));
    let refused = create(&world.app, &issued, track_file()).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::Expired);
    let token = identify(&world.app, &issued).await.unwrap();
    let by = &*token;
    let item = BatchItem { position: 0, new: track_file() };
    let refused = world.app.create_uploads_once(by, None, &[item]).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::Expired, "a batch is refused as a whole");
    // The URL is new, but the deadline is not later.
    let renewed = world.app.renew_upload(by, upload.id, None).await.unwrap();
    assert!(renewed.request.is_some());
    assert_eq!(renewed.upload.url_expires_at, upload.url_expires_at);
    world.put(&upload, mp3(900, 1)).await;
    let confirmed = world.app.confirm_upload(by, upload.id).await.unwrap();
    assert_eq!(confirmed.status(), Status::Uploaded);
    assert_eq!(world.app.list_uploads(by, &page()).await.unwrap().items.len(), 1);
    world.app.upload_file(by, upload.id).await.unwrap();

    // The latest possible deadline of its uploads has passed.
    let policy = world.policy();
    world.clock.advance(policy.max_url_ttl + policy.grace);
    let ended = identify(&world.app, &issued).await.unwrap_err();
    assert!(matches!(ended, DbError::Token(TokenError::Unknown)), "{ended:?}");
}

#[tokio::test]
async fn an_expired_upload_gets_no_new_deadline_from_an_expired_token() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken { expires_in: Some(60), ..Default::default() }).await;
    let new = NewUpload { expires_in: Some(10), ..track_file() };
    let upload = create(&world.app, &issued, new).await.unwrap();
    world.clock.advance(TimeDelta::seconds(61));
    let token = identify(&world.app, &issued).await.unwrap();
    let refused = world.app.renew_upload(&*token, upload.id, None).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::Expired);
    assert!(world.app.renew_upload(&world.owner, upload.id, None).await.is_ok());
}

fn page() -> UploadFilter {
    UploadFilter { limit: 100, ..UploadFilter::default() }
}

#[tokio::test]
async fn a_token_gives_access_only_to_the_uploads_that_it_created() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken::default()).await;
    let other = issue(&world, NewUploadToken::default()).await;
    let own = create(&world.app, &issued, track_file()).await.unwrap();
    let others = create(&world.app, &other, track_file()).await.unwrap();
    let owners = world.app.create_upload(&world.owner, track_file()).await.unwrap().upload;
    let token = identify(&world.app, &issued).await.unwrap();
    let by = &*token;
    let ids = |items: &[Upload]| items.iter().map(|upload| upload.id).collect::<Vec<_>>();
    let listed = world.app.list_uploads(by, &page()).await.unwrap().items;
    assert_eq!(ids(&listed), [own.id]);
    let listed = world.app.list_uploads(&world.owner, &page()).await.unwrap().items;
    assert_eq!(ids(&listed), [owners.id, others.id, own.id]);
    for id in [others.id, owners.id] {
        let found = |result: Result<(), AppError>| {
            assert!(matches!(result, Err(AppError::NotFound("upload"))), "{result:?}");
        };
        let app = &world.app;
        found(app.upload(by, id).await.map(drop));
        found(app.wait_for_upload(by, id, Duration::from_secs(1)).await.map(drop));
        found(app.follow_upload(by, id).await.map(drop));
        found(app.renew_upload(by, id, None).await.map(drop));
        found(app.confirm_upload(by, id).await.map(drop));
        found(app.upload_file(by, id).await.map(drop));
        found(app.sign_parts(by, id, &[1], None).await.map(drop));
        found(app.held_parts(by, id).await.map(drop));
        found(app.complete_upload(by, id, None).await.map(drop));
        found(app.delete_upload(by, id).await);
        assert_eq!(app.upload(&world.owner, id).await.unwrap().status(), Status::Pending);
    }
}

#[tokio::test]
async fn the_token_sets_the_policy_the_subject_and_the_metadata() {
    let world = World::new().await;
    let cover: Subject = "album:42:cover".parse().unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let new = NewUploadToken {
        attach_to: Some(cover.clone()),
        metadata: pairs(&[("form", "42")]),
        ..NewUploadToken::default()
    };
    let issued = issue(&world, new).await;
    let metadata = pairs(&[("form", "1"), ("page", "3")]);
    let upload = create(&world.app, &issued, NewUpload { metadata, ..track_file() }).await.unwrap();
    assert_eq!(upload.metadata, pairs(&[("form", "42"), ("page", "3")]));
    assert_eq!(upload.subject(), Some(&cover));
    assert_eq!(upload.policy, PolicyName::default());

    let same = NewUpload { attach_to: Some(cover.clone()), ..track_file() };
    let same = NewUpload { policy: Some(PolicyName::default()), ..same };
    assert!(create(&world.app, &issued, same).await.is_ok());
    let other = NewUpload { attach_to: Some("album:1:cover".parse().unwrap()), ..track_file() };
    let refused = create(&world.app, &issued, other.clone()).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::OtherSubject(cover));
    let elsewhere = NewUpload { policy: Some(PolicyName::new("covers")), ..track_file() };
    let refused = create(&world.app, &issued, elsewhere).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::OtherPolicy(PolicyName::default()));
    let without = issue(&world, NewUploadToken::default()).await;
    let refused = create(&world.app, &without, other).await.unwrap_err();
    assert_eq!(*token_error(&refused), TokenError::NoSubject);
    assert_eq!(count(&world, &without).await, 0);
}

#[tokio::test]
async fn the_tokens_max_size_is_checked_at_the_declaration_and_on_arrival() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken { max_size: Some(1000), ..Default::default() }).await;
    let declared = |size| Declared { size: Some(size), ..track_file().declared };
    let sized = |size| NewUpload { declared: declared(size), ..NewUpload::default() };
    let AppError::Invalid(errors) = create(&world.app, &issued, sized(1001)).await.unwrap_err()
    else {
        panic!("another error")
    };
    assert_eq!(errors.0["size"], ["File is larger than max_size=1000"]);
    assert!(create(&world.app, &issued, sized(1000)).await.is_ok());
    for (size, status) in [(1000, Status::Uploaded), (1001, Status::Rejected)] {
        let upload = create(&world.app, &issued, track_file()).await.unwrap();
        world.put(&upload, mp3(size, 1)).await;
        let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
        assert_eq!(confirmed.status(), status, "{size}");
    }
}

#[tokio::test]
async fn a_repeated_request_for_a_token_replaces_its_secret() {
    let world = World::new().await;
    let key = IdempotencyKey { key: "k".to_owned(), fingerprint: "f".to_owned() };
    let policy = PolicyName::default();
    let issue = async || {
        let new = NewUploadToken::default();
        world.app.create_upload_token(&world.owner, Some(&key), &policy, new).await.unwrap()
    };
    let (first, second) = (issue().await, issue().await);
    assert_eq!(first.token.id, second.token.id);
    assert!(identify(&world.app, &first).await.is_err());
    assert!(identify(&world.app, &second).await.is_ok());
}

#[tokio::test]
async fn a_token_is_deleted_long_after_it_ended_and_its_uploads_stay() {
    let world = World::new().await;
    let issued = issue(&world, NewUploadToken::default()).await;
    let upload = create(&world.app, &issued, track_file()).await.unwrap();
    let days = TimeDelta::days;
    let retention = Retention { findings: days(90), ended: None, deliveries: days(90) };
    let prune = async || world.app.prune(retention).await.unwrap();
    world.clock.advance(days(29));
    assert_eq!(prune().await, Pruned::default());
    world.clock.advance(days(4));
    assert_eq!(prune().await, Pruned { tokens: 1, ..Pruned::default() });
    assert_eq!(world.app.upload(&world.owner, upload.id).await.unwrap().token, upload.token);
    world.put(&upload, mp3(900, 1)).await;
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(confirmed.status(), Status::Uploaded);
}
