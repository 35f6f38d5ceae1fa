//! A sample of a record with a file: an episode with an audio file. It needs only this folder: a
//! table with its migration, and calls of the use cases of attachments. No table, column or code of
//! the service knows about episodes.

mod episodes;
mod migration;

use ::migration::MigratorTrait as _;
use sea_orm::{ConnectionTrait as _, Database};
use upload_coordinator::app::AppError;
use upload_coordinator::domain::upload::{RemoveReason, State};
use upload_coordinator::domain::{Owner, Status, Upload, UploadId};
use uuid::Uuid;

use crate::support::mp3;
use crate::support::world::World;
use episodes::Episodes;
use migration::Migrator;

async fn episodes(world: &World) -> Episodes {
    let connection = Database::connect(world.database_url()).await.unwrap();
    Migrator::up(&connection, None).await.unwrap();
    Episodes { app: world.app.clone(), connection }
}

async fn arrive(world: &World, upload: &Upload, seed: u8) {
    world.put(upload, mp3(900, seed)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
}

async fn current(episodes: &Episodes, owner: &Owner, id: Uuid) -> Option<UploadId> {
    episodes.audio(owner, id).await.unwrap().current.map(|upload| upload.id)
}

#[tokio::test]
async fn an_episode_has_the_newest_verified_audio_however_it_was_attached() {
    let world = World::new().await;
    let (episodes, owner) = (episodes(&world).await, &world.owner);
    let (one, two) = (episodes.create(owner, "One").await, episodes.create(owner, "Two").await);

    // Attached at creation.
    let first = episodes.create_upload(owner, one).await;
    let statuses = episodes.list(owner).await;
    assert_eq!(statuses, [("One".to_owned(), Some(Status::Pending)), ("Two".to_owned(), None)]);
    assert!(episodes.audio_url(owner, one).await.is_err(), "nothing is verified");
    arrive(&world, &first, 1).await;
    assert_eq!(current(&episodes, owner, one).await, Some(first.id));
    assert!(episodes.audio_url(owner, one).await.is_ok());

    // Attached later: the new audio file replaces the old one.
    let second = world.upload().await;
    arrive(&world, &second, 2).await;
    episodes.attach(owner, one, second.id).await.unwrap();
    assert_eq!(current(&episodes, owner, one).await, Some(second.id));
    let old = world.get(first.id).await;
    assert!(matches!(old.state, State::Removed { reason: RemoveReason::Superseded, .. }));

    // An upload is the audio file of only one episode.
    assert!(episodes.attach(owner, two, second.id).await.is_err());
    let statuses = episodes.list(owner).await;
    assert_eq!(statuses, [("One".to_owned(), Some(Status::Uploaded)), ("Two".to_owned(), None)]);
}

#[tokio::test]
async fn a_deleted_episode_ends_its_uploads() {
    let world = World::new().await;
    let (episodes, owner) = (episodes(&world).await, &world.owner);
    let (one, two) = (episodes.create(owner, "One").await, episodes.create(owner, "Two").await);
    let (audio, pending) =
        (episodes.create_upload(owner, one).await, episodes.create_upload(owner, one).await);
    arrive(&world, &audio, 1).await;
    episodes.delete(owner, one).await.unwrap();
    episodes.delete(owner, two).await.unwrap();
    assert_eq!(world.get(audio.id).await.status(), Status::Removed);
    assert_eq!(world.get(pending.id).await.status(), Status::Cancelled);
    assert_eq!(episodes.list(owner).await, []);
    let gone = episodes.audio(owner, one).await;
    assert!(matches!(gone, Err(AppError::NotFound("attachment"))), "{gone:?}");
}

#[tokio::test]
async fn the_migration_of_episodes_is_separate_from_the_migrations_of_the_service() {
    let world = World::new().await;
    let episodes = episodes(&world).await;
    let pending = world.app.db.pending_migrations().await.unwrap();
    assert_eq!(pending, Vec::<String>::new());
    let id = episodes.create(&world.owner, "One").await;
    let upload = episodes.create_upload(&world.owner, id).await;
    arrive(&world, &upload, 1).await;
    Migrator::down(&episodes.connection, None).await.unwrap();
    let count = episodes.connection.execute_unprepared("SELECT * FROM episodes").await;
    assert!(count.is_err(), "the table is gone");
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded, "uploads stay");
    assert!(world.app.db.schema().await.is_ok());
}
