//! Writes millions of rows directly to the database, without the service.

use chrono::{DateTime, TimeDelta, Utc};
use entity::upload::{ActiveModel, Column, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, EntityTrait as _,
    QueryOrder as _, TransactionTrait as _,
};
use upload_coordinator::storage::{ListRequest, Store};
use uuid::Uuid;

use super::Outcome;
use super::computed::{Computed, ETAG, SIZE, id_of, key_of};

/// Pending uploads of the last hour, in addition to the stored ones.
const PENDING: i32 = 1000;
/// Rows in one statement: 40 columns each, below the 32,766 parameters of `SQLite`.
const STATEMENT: usize = 800;
/// Statements in one transaction.
const TRANSACTION: usize = 20;

fn row(id: Uuid, at: DateTime<Utc>, etag: Option<String>) -> ActiveModel {
    let stored = etag.is_some();
    let size = i64::try_from(SIZE).ok();
    ActiveModel {
        id: Set(id),
        owner: Set("default".to_owned()),
        policy: Set("tracks".to_owned()),
        location: Set(0),
        upload_token_id: Set(None),
        max_size: Set(None),
        attach_to: Set(None),
        attach_sequence: Set(None),
        key: Set(key_of("tracks/", id)),
        filename: Set(Some("song.mp3".to_owned())),
        declared_content_type: Set(Some("audio/mpeg".to_owned())),
        declared_size: Set(size),
        declared_checksum_algorithm: Set(None),
        declared_checksum: Set(None),
        strategy: Set("put".to_owned()),
        write_once: Set(true),
        metadata: Set(serde_json::json!({})),
        url_expires_at: Set(at + TimeDelta::hours(1)),
        multipart_id: Set(None),
        part_size: Set(None),
        status: Set(if stored { "uploaded" } else { "pending" }.to_owned()),
        reason: Set(None),
        confirmed_by: Set(stored.then(|| "confirm".to_owned())),
        late: Set(false),
        etag: Set(etag),
        version_id: Set(None),
        size: Set(size.filter(|_| stored)),
        content_type: Set(stored.then(|| "audio/mpeg".to_owned())),
        checksum_algorithm: Set(None),
        verified_before: Set(None),
        checksum: Set(None),
        uploaded_at: Set(stored.then_some(at)),
        object_delete_after: Set(None),
        object_deleted_at: Set(None),
        detail: Set(None),
        annotations: Set(None),
        waiting_for: Set(None),
        version: Set(1),
        created_at: Set(at),
        updated_at: Set(at),
    }
}

async fn insert(db: &DatabaseConnection, rows: impl Iterator<Item = ActiveModel>) -> Outcome<()> {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let txn = db.begin().await?;
        for _ in 0..TRANSACTION {
            let some: Vec<_> = rows.by_ref().take(STATEMENT).collect();
            if some.is_empty() {
                break;
            }
            Entity::insert_many(some).exec_without_returning(&txn).await?;
        }
        txn.commit().await?;
    }
    // A database in use also has these statistics.
    db.execute_unprepared("ANALYZE").await?;
    Ok(())
}

async fn connect(url: &str) -> Outcome<DatabaseConnection> {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await?;
    if db.get_database_backend() == DbBackend::Sqlite {
        db.execute_unprepared("PRAGMA synchronous = OFF").await?;
    }
    Ok(db)
}

/// Writes a row for every object, and [`PENDING`] pending rows. The newest row has the time `end`.
pub async fn fill(url: &str, world: &Computed, end: DateTime<Utc>) -> Outcome<()> {
    let stored = (0..world.len())
        .map(|position| row(world.id(position), world.stored_at(position), Some(ETAG.to_owned())));
    let pending = (1..=PENDING).map(|n| {
        let at = end - TimeDelta::hours(1) / PENDING * (PENDING - n);
        let n = u64::from(n.unsigned_abs());
        row(id_of(at, n ^ 0x5555, n % 16), at, None)
    });
    insert(&connect(url).await?, stored.chain(pending)).await
}

/// Writes a row for every object in the bucket.
pub async fn fill_listed(url: &str, store: &Store) -> Outcome<()> {
    let db = connect(url).await?;
    let mut request = ListRequest { prefix: "tracks/".to_owned(), ..ListRequest::default() };
    loop {
        let page = store.objects.list(&request).await?;
        let rows = page.objects.into_iter().filter_map(|object| {
            let id = object.key.rsplit('/').next()?.parse().ok()?;
            Some(row(id, object.last_modified?, Some(object.etag)))
        });
        insert(&db, rows).await?;
        let Some(token) = page.next else { return Ok(()) };
        request.token = Some(token);
    }
}

/// The newest time in a filled database.
pub async fn end(url: &str) -> Outcome<DateTime<Utc>> {
    let newest = Entity::find().order_by_desc(Column::CreatedAt).one(&connect(url).await?).await?;
    Ok(newest.ok_or("the database is empty")?.created_at)
}
