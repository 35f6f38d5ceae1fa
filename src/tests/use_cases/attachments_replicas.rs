//! Attachments across three replicas: each subject has one file, even if several replicas change it
//! at the same time, and an upload is either attached or removed, never both.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::Value;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::run::{Mode, RunRequest, Trigger};
use upload_coordinator::domain::upload::{RemoveReason, State};
use upload_coordinator::domain::webhook::Subscriber;
use upload_coordinator::domain::{Owner, Status, Subject, Upload};
use upload_coordinator::reconcile::Reconciler;

use crate::support::mp3;
use crate::support::world::World;

/// How many times three replicas change one subject at the same time.
const ROUNDS: u8 = 8;

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

async fn three_replicas(world: &World) -> Vec<App> {
    join_all((0..3).map(|_| world.replica())).await
}

/// An upload that is verified by a replica.
async fn verified(world: &World, app: &App, attach_to: Option<Subject>, seed: u8) -> Upload {
    let new = NewUpload { attach_to, ..NewUpload::default() };
    let upload = app.create_upload(&world.owner, new).await.unwrap().upload;
    world.put(&upload, mp3(900, seed)).await;
    app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

/// Checks a subject that no replica is changing: the current upload is the only verified one and
/// newer than all replaced ones, each sequence number was used once, and replaced objects are due
/// for deletion.
async fn check(world: &World, subject: &Subject, uploads: &[Upload]) {
    let of = world.app.attachment(&world.owner, subject).await;
    let current = match of {
        Ok(of) => of.current,
        Err(AppError::NotFound("attachment")) => None,
        Err(error) => panic!("{error:?}"),
    };
    let mut numbers = BTreeSet::new();
    let mut newest_superseded = 0;
    for upload in uploads {
        let upload = world.get(upload.id).await;
        let slot = upload.slot.clone().unwrap();
        assert_eq!(&slot.subject, subject);
        assert!(numbers.insert(slot.sequence), "the number {} was used twice", slot.sequence);
        match &upload.state {
            State::Uploaded(_) => {
                assert_eq!(Some(upload.id), current.as_ref().map(|current| current.id));
            }
            State::Removed { reason, .. } => {
                assert!(upload.deletion.after.is_some(), "{reason:?}: its object is due");
                if *reason == RemoveReason::Superseded {
                    newest_superseded = newest_superseded.max(slot.sequence);
                }
            }
            State::Cancelled => {}
            other => panic!("{other:?}"),
        }
    }
    if let Some(current) = current {
        assert_eq!(current.status(), Status::Uploaded);
        let number = current.slot.map(|slot| slot.sequence);
        assert!(number > Some(newest_superseded), "{number:?}, {newest_superseded}");
    }
}

#[tokio::test]
async fn a_subject_has_one_file_while_replicas_create_attach_and_replace_at_once() {
    let world = World::new().await;
    let replicas = three_replicas(&world).await;
    let cover = subject("album:42:cover");
    let mut uploads = Vec::new();
    for round in 0..ROUNDS {
        // One replica attaches at creation, one attaches a verified upload, one attaches a pending
        // upload.
        let at_creation = verified(&world, &replicas[0], Some(cover.clone()), round);
        let later = async {
            let upload = verified(&world, &replicas[1], None, round + 100).await;
            replicas[1].attach(&world.owner, &cover, upload.id).await.unwrap();
            upload
        };
        let pending = async {
            let upload = world.upload().await;
            replicas[2].attach(&world.owner, &cover, upload.id).await.unwrap();
            world.put(&upload, mp3(900, round + 200)).await;
            replicas[2].confirm_upload(&world.owner, upload.id).await.unwrap()
        };
        let (one, two, three) = tokio::join!(at_creation, later, pending);
        uploads.extend([one, two, three]);
        check(&world, &cover, &uploads).await;
        let of = world.app.attachment(&world.owner, &cover).await.unwrap();
        let (latest, current) = (of.latest.unwrap(), of.current.unwrap());
        assert_eq!(latest.id, current.id, "the newest upload is the current one");
        let highest = i64::try_from(uploads.len()).unwrap();
        assert_eq!(current.slot.map(|slot| slot.sequence), Some(highest));
    }
}

#[tokio::test]
async fn a_deletion_ends_what_is_attached_before_it_and_nothing_after_it() {
    let world = World::new().await;
    let replicas = three_replicas(&world).await;
    let cover = subject("album:42:cover");
    let mut uploads = vec![verified(&world, &replicas[0], Some(cover.clone()), 0).await];
    for round in 1..=ROUNDS {
        let (verifying, attaching) = tokio::join!(
            verified(&world, &replicas[1], None, round),
            verified(&world, &replicas[2], None, round + 100),
        );
        let deleted = replicas[0].delete_attachment(&world.owner, &cover);
        let one = replicas[1].attach(&world.owner, &cover, verifying.id);
        let two = replicas[2].attach(&world.owner, &cover, attaching.id);
        let (deleted, one, two) = tokio::join!(deleted, one, two);
        assert!(matches!(deleted, Ok(()) | Err(AppError::NotFound("attachment"))), "{deleted:?}");
        for (upload, attached) in [(verifying, one), (attaching, two)] {
            // The attachment may be gone again when it is read.
            let gone = matches!(attached, Err(AppError::NotFound("attachment")));
            assert!(attached.is_ok() || gone, "{attached:?}");
            uploads.push(upload);
        }
        check(&world, &cover, &uploads).await;
    }
    // An upload that is attached after all others remains.
    let last = verified(&world, &replicas[1], Some(cover.clone()), 99).await;
    uploads.push(last.clone());
    check(&world, &cover, &uploads).await;
    let of = world.app.attachment(&world.owner, &cover).await.unwrap();
    assert_eq!(of.current.map(|upload| upload.id), Some(last.id));
}

/// A world that removes uploads that are unattached for a day, and unattached uploads that are
/// older than a day.
async fn world_with_lost_uploads(count: u8) -> (World, Vec<Upload>) {
    let world = World::with(|policy| policy.unattached_retention = Some(TimeDelta::days(1))).await;
    world.reconcile(Mode::Incremental).await;
    let mut uploads = Vec::new();
    for seed in 0..count {
        uploads.push(verified(&world, &world.app, None, seed).await);
    }
    world.pass(TimeDelta::hours(25));
    (world, uploads)
}

#[tokio::test]
async fn if_replicas_attach_and_remove_an_upload_at_once_exactly_one_succeeds() {
    let (world, uploads) = world_with_lost_uploads(40).await;
    let replicas = three_replicas(&world).await;
    let attach = async |app: &App, name: &str| {
        let mut attached = Vec::new();
        for upload in &uploads {
            let subject = subject(&format!("{name}:{}", upload.id));
            attached.push(app.attach(&world.owner, &subject, upload.id).await);
        }
        attached
    };
    let removing = world.reconcile(Mode::Incremental);
    let (one, two, run) =
        tokio::join!(attach(&replicas[0], "one"), attach(&replicas[1], "two"), removing);
    assert_eq!(run.counters.errors, 0, "{run:?}");
    // Another replica deletes the objects that are due.
    world.reconcile(Mode::Incremental).await;
    let keys = world.keys().await;
    for ((upload, one), two) in uploads.iter().zip(one).zip(two) {
        let row = replicas[2].upload(&world.owner, upload.id).await.unwrap();
        let subject = row.subject().map(ToString::to_string);
        let won = (one.is_ok(), two.is_ok());
        match &row.state {
            State::Uploaded(_) => {
                let expected = if won.0 { "one" } else { "two" };
                assert!(won.0 != won.1, "{won:?}");
                assert_eq!(subject, Some(format!("{expected}:{}", upload.id)));
                assert!(keys.contains(&upload.key.to_string()), "an attached file is kept");
            }
            State::Removed { reason: RemoveReason::Unattached, .. } => {
                assert_eq!((won, subject), ((false, false), None));
                assert!(!keys.contains(&upload.key.to_string()), "its object is deleted");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn webhooks_report_that_an_upload_was_removed_because_it_was_not_attached() {
    let (world, uploads) = world_with_lost_uploads(3).await;
    let cover = subject("album:42:cover");
    world.app.attach(&world.owner, &cover, uploads[0].id).await.unwrap();
    let app = world.replica().await;
    let crm = Subscriber { name: "crm".into(), events: Vec::new() };
    let app = App { db: app.db.clone().with_subscribers(vec![crm]), ..app }.into();
    let settings = world.reconciler.settings.clone();
    let reconciler = std::sync::Arc::new(Reconciler::new(app, settings));
    let request = RunRequest::of(Mode::Incremental, Trigger::Schedule);
    reconciler.start(request).await.unwrap().wait().await;
    let deliveries = world.app.db.webhooks().list(None, None, 100).await.unwrap().items;
    let mut reported = BTreeSet::new();
    for delivery in deliveries {
        let payload: Value = serde_json::from_str(&delivery.payload).unwrap();
        assert_eq!(delivery.event, "upload.removed", "{payload}");
        assert_eq!(payload["type"], "upload.removed", "{payload}");
        assert_eq!(payload["data"]["reason"], "unattached", "{payload}");
        assert!(reported.insert(delivery.upload), "{payload}: delivered once");
    }
    assert_eq!(reported, BTreeSet::from([uploads[1].id, uploads[2].id]));
    let stranger = Owner::named("stranger");
    assert!(world.app.attachment(&stranger, &cover).await.is_err());
}
