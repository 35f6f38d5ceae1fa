//! The history of uploads: who changed the status, and why.

use chrono::TimeDelta;
use futures_util::future::join_all;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::{Owner, Status, Subject, Upload, UploadId};

use crate::support::world::World;
use crate::support::{PNG, mp3};

/// The changes as text: `from to by reason`.
async fn changes(world: &World, id: UploadId) -> Vec<String> {
    let history = world.app.upload_history(&world.owner, id).await.unwrap();
    let text = history.iter().map(|change| {
        let (from, to, by) = (change.from.name(), change.to.name(), &change.by);
        match &change.reason {
            Some(reason) => format!("{from} {to} {by} {reason}"),
            None => format!("{from} {to} {by}"),
        }
    });
    text.collect()
}

/// The reason of the last change of status.
async fn why(world: &World, id: UploadId) -> String {
    let history = world.app.upload_history(&world.owner, id).await.unwrap();
    history.last().unwrap().explanation().to_owned()
}

async fn confirmed(world: &World, subject: Option<&Subject>, seed: u8) -> Upload {
    let new = NewUpload { attach_to: subject.cloned(), ..NewUpload::default() };
    let upload = world.create(new).await;
    world.put(&upload, mp3(900, seed)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

#[tokio::test]
async fn every_change_of_an_upload_is_recorded() {
    let world = World::new().await;
    let upload = world.upload().await;
    assert_eq!(
        changes(&world, upload.id).await,
        [""; 0],
        "the history does not contain the creation"
    );
    world.app.renew_upload(&world.owner, upload.id, None).await.unwrap();
    assert_eq!(changes(&world, upload.id).await, [""; 0], "the status stays");
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    world.app.renew_upload(&world.owner, upload.id, None).await.unwrap();
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    world.pass(TimeDelta::seconds(1));
    world.objects.delete(upload.key.as_str()).await.unwrap();
    world.reconcile(Mode::Audit).await;
    world.put(&upload, mp3(900, 1)).await;
    world.reconcile(Mode::Audit).await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    let expected = [
        "pending expired scan",
        "expired pending client",
        "pending uploaded confirm",
        "uploaded missing scan",
        "missing uploaded scan",
        "uploaded removed client deleted",
    ];
    assert_eq!(changes(&world, upload.id).await, expected);
    let history = world.app.upload_history(&world.owner, upload.id).await.unwrap();
    assert!(history.is_sorted_by_key(|change| change.at));
    assert_eq!(history.last().unwrap().at, world.get(upload.id).await.updated_at);
    let stranger = world.app.upload_history(&Owner::named("stranger"), upload.id).await;
    assert!(stranger.is_err());
}

#[tokio::test]
async fn a_rejection_says_which_rule_was_broken_and_an_operator_is_named() {
    let world = World::with(|policy| policy.max_size = 1000).await;
    let upload = world.upload().await;
    world.put(&upload, PNG).await;
    world.reconcile(Mode::Incremental).await;
    assert_eq!(changes(&world, upload.id).await, ["pending rejected scan content-mismatch"]);
    let sentence = why(&world, upload.id).await;
    assert!(
        sentence.starts_with("File's content has none of the allowed types: audio/mpeg"),
        "{sentence}"
    );
    world.put(&upload, mp3(900, 1)).await;
    let operator = Owner::named("ops");
    world.app.verify_upload(&operator, upload.id, true).await.unwrap();
    assert_eq!(changes(&world, upload.id).await[1], "rejected uploaded admin:ops");
    assert_eq!(why(&world, upload.id).await, "An operator had the file verified again");
    // The size differs, so these are other bytes. They also exceed `max_size`.
    world.put(&upload, mp3(1001, 1)).await;
    world.reconcile(Mode::Audit).await;
    assert_eq!(changes(&world, upload.id).await[2], "uploaded rejected scan overwritten");
    assert_eq!(why(&world, upload.id).await, "Other bytes replaced the verified file");
}

#[tokio::test]
async fn the_reason_names_the_upload_that_replaced_another() {
    let world = World::new().await;
    let cover: Subject = "album:42:cover".parse().unwrap();
    let old = confirmed(&world, Some(&cover), 1).await;
    let between =
        world.create(NewUpload { attach_to: Some(cover.clone()), ..NewUpload::default() }).await;
    let new = confirmed(&world, Some(&cover), 2).await;
    let replaced = ["pending uploaded confirm", "uploaded removed confirm superseded"];
    assert_eq!(changes(&world, old.id).await, replaced);
    assert_eq!(why(&world, old.id).await, format!("Replaced by the upload {}", new.id));
    // `between` arrives when a newer upload is already the file.
    world.put(&between, mp3(900, 3)).await;
    world.reconcile(Mode::Incremental).await;
    assert_eq!(changes(&world, between.id).await, ["pending removed scan superseded"]);
    world.app.delete_attachment(&world.owner, &cover).await.unwrap();
    assert_eq!(changes(&world, new.id).await[1], "uploaded removed client deleted");
}

#[tokio::test]
async fn a_file_that_no_record_claimed_is_removed_by_the_retention() {
    let world = World::with(|policy| policy.unattached_retention = Some(TimeDelta::hours(1))).await;
    world.reconcile(Mode::Incremental).await;
    let upload = confirmed(&world, None, 1).await;
    world.pass(TimeDelta::hours(2));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Removed);
    assert_eq!(changes(&world, upload.id).await[1], "uploaded removed retention unattached");
}

#[tokio::test]
async fn confirmations_of_several_processes_at_once_record_one_change() {
    let world = World::new().await;
    let replicas = [world.replica().await, world.replica().await];
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let apps = replicas.iter().chain([&*world.app]).cycle().take(12);
    let confirmations = apps.map(|app| app.confirm_upload(&world.owner, upload.id));
    for confirmed in join_all(confirmations).await {
        assert_eq!(confirmed.unwrap().status(), Status::Uploaded);
    }
    assert_eq!(changes(&world, upload.id).await, ["pending uploaded confirm"]);
}

#[tokio::test]
async fn the_history_is_pruned_with_its_upload() {
    let world = World::new().await;
    let (ended, other) = (world.upload().await, confirmed(&world, None, 2).await);
    world.app.delete_upload(&world.owner, ended.id).await.unwrap();
    world.pass(TimeDelta::hours(30));
    world.reconcile(Mode::Audit).await;
    world.pass(TimeDelta::hours(30));
    let rows = async |id| world.app.db.uploads().history(id).await.unwrap().len();
    assert_eq!((rows(ended.id).await, rows(other.id).await), (1, 1));
    let pruned = world.app.db.retention().prune_ended_uploads(world.app.now(), 10).await.unwrap();
    assert_eq!(pruned, 1);
    assert_eq!((rows(ended.id).await, rows(other.id).await), (0, 1));
}
