//! Migrations in both directions, and what they do to existing rows.

use chrono::Datelike as _;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _};
use upload_coordinator::db::reconcile::marker::MarkerLocation;
use upload_coordinator::db::{Db, DbError, Schema};
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::marker::Remembered;
use upload_coordinator::domain::{Clock as _, IdSource as _};

use crate::support::database::TestDatabase;

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let database = TestDatabase::create().await;
    let db = database.connect().await;
    let all = db.pending_migrations().await.unwrap();
    assert!(all.len() > 4 && all.is_sorted(), "{all:?}");
    db.migrate_up().await.unwrap();
    assert_eq!(db.pending_migrations().await.unwrap(), Vec::<String>::new());
    let count = u32::try_from(all.len()).unwrap();
    db.migrate_down(count).await.unwrap();
    assert_eq!(db.pending_migrations().await.unwrap(), all);
    db.migrate_up().await.unwrap();
    assert!(db.migrations().await.unwrap().iter().all(|(_, applied)| *applied));
}

#[tokio::test]
async fn a_newer_schema_alone_decides_whether_this_version_runs() {
    let database = TestDatabase::create().await;
    let db = database.migrated().await;
    assert_eq!(db.schema().await.unwrap(), Schema::Usable { newer: None });
    let own = database.level().await;

    // A newer version has begun to migrate, and this version may still run.
    database.add_migration("m20990101_000001_future").await;
    assert_eq!(db.schema().await.unwrap(), Schema::Usable { newer: None });
    assert!(matches!(db.migrate_down(1).await, Err(DbError::NewerSchema)));
    // The newer version has finished.
    database.set_levels(own + 1, own).await;
    assert_eq!(db.schema().await.unwrap(), Schema::Usable { newer: Some(own + 1) });
    assert_eq!(db.pending_migrations().await.unwrap(), Vec::<String>::new());
    let before = db.migrations().await.unwrap();
    assert_eq!(before.last().unwrap(), &("m20990101_000001_future".to_owned(), true));
    db.migrate_up().await.unwrap();
    assert!(matches!(db.migrate_down(1).await, Err(DbError::NewerSchema)));
    assert_eq!((db.migrations().await.unwrap(), database.level().await), (before, own + 1));

    // This version can't work with the schema of the newer version.
    database.set_levels(own + 1, own + 1).await;
    let schema = db.schema().await.unwrap();
    assert_eq!(schema, Schema::TooNew { min_level: own + 1 });
    assert!(schema.problem().unwrap().contains("run the newer version"));
    db.migrate_up().await.unwrap();
    assert_eq!(db.schema().await.unwrap(), schema);
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_wait_for_each_other() {
    let database = TestDatabase::create().await;
    if database.url.starts_with("sqlite") {
        return;
    }
    let processes = join_all((0..4).map(|_| database.connect())).await;
    let migrated = join_all(processes.iter().map(Db::migrate_up)).await;
    assert!(migrated.iter().all(Result::is_ok), "{migrated:?}");
    assert_eq!(processes[0].schema().await.unwrap(), Schema::Usable { newer: None });
}

#[tokio::test]
async fn files_of_tracks_become_attachments_and_back_without_loss() {
    let database = TestDatabase::create().await;
    let db = database.migrated().await;
    down_before(&db, "m20261130_000024").await;
    let connection = sea_orm::Database::connect(&database.url).await.unwrap();
    let postgres = connection.get_database_backend() == sea_orm::DbBackend::Postgres;
    let uuid = |n: u128| {
        let uuid = uuid::Uuid::from_u128(n);
        if postgres { format!("'{uuid}'::uuid") } else { format!("x'{}'", uuid.simple()) }
    };
    let at = "'2026-01-01T00:00:00+00:00'";
    // The first track has a file and a newer pending upload, the second one has no uploads. Upload
    // 13 belonged to a track that was deleted.
    for (track, sequence, latest, bound) in [
        (uuid(1), 3, uuid(12), format!("{}, 1", uuid(11))),
        (uuid(2), 1, "NULL".to_owned(), "NULL, NULL".to_owned()),
    ] {
        let sql = format!(
            "INSERT INTO tracks (id, owner, title, artist_name, title_order, artist_order, \
             release_order, status, next_sequence, latest_upload_id, bound_upload_id, \
             bound_sequence, version, created_at, updated_at) VALUES ({track}, 'ann', 'T', 'A', \
             't', 'a', '9999-12-31', 'pending', {sequence}, {latest}, {bound}, 4, {at}, {at})"
        );
        connection.execute_unprepared(&sql).await.unwrap();
    }
    for (id, track, sequence) in [
        (11, uuid(1), "1"),
        (12, uuid(1), "2"),
        (13, "NULL".to_owned(), "7"),
        (14, "NULL".to_owned(), "NULL"),
    ] {
        let upload = uuid(id);
        let sql = format!(
            "INSERT INTO uploads (id, owner, policy, track_id, track_sequence, key, strategy, \
             write_once, metadata, url_expires_at, status, late, version, created_at, updated_at) \
             VALUES ({upload}, 'ann', 'tracks', {track}, {sequence}, 'k{id}', 'put', false, \
             '{{}}', {at}, 'pending', false, 1, {at}, {at})"
        );
        connection.execute_unprepared(&sql).await.unwrap();
    }
    let rows = async |sql: &str| {
        let statement =
            sea_orm::Statement::from_string(connection.get_database_backend(), sql.to_owned());
        let rows = connection.query_all_raw(statement).await.unwrap();
        let text = |row: &sea_orm::QueryResult| row.try_get_by_index::<String>(0).unwrap();
        rows.iter().map(text).collect::<Vec<_>>()
    };
    let tracks = "SELECT concat(CASE WHEN bound_upload_id IS NULL THEN '-' ELSE 'file' END, ' ', \
         next_sequence, ' ', coalesce(cast(bound_sequence AS text), '-')) FROM tracks ORDER BY id";
    let uploads = "SELECT concat(key, ' ', CASE WHEN track_id IS NULL THEN '-' ELSE 'track' END, \
         ' ', coalesce(cast(track_sequence AS text), '-')) FROM uploads ORDER BY key";
    let before = (rows(tracks).await, rows(uploads).await);

    db.migrate_up().await.unwrap();
    let subject = format!("track:{}", uuid::Uuid::from_u128(1));
    let attached = "SELECT concat(key, ' ', coalesce(attach_to, '-')) FROM uploads ORDER BY key";
    let expected =
        [format!("k11 {subject}"), format!("k12 {subject}"), "k13 -".into(), "k14 -".into()];
    assert_eq!(rows(attached).await, expected);
    let attachments = "SELECT concat(subject, ' ', status, ' ', next_sequence, ' ', \
         current_sequence) FROM attachments";
    assert_eq!(rows(attachments).await, [format!("{subject} pending 3 1")]);
    let owner = upload_coordinator::domain::Owner::named("ann");
    let of = db.attachments().find(&owner, &subject.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(of.latest_upload.map(|id| id.0.as_u128()), Some(12));
    assert_eq!(of.current.map(|current| current.upload.0.as_u128()), Some(11));

    down_before(&db, "m20261130_000024").await;
    let (tracks, uploads) = (rows(tracks).await, rows(uploads).await);
    assert_eq!(tracks, before.0);
    // The number of an upload is dropped if its track was deleted.
    let left = ["k11 track 1", "k12 track 2", "k13 - -", "k14 - -"];
    assert_eq!(uploads, left);
    connection.close().await.unwrap();
}

/// Reverts this migration and all later ones.
async fn down_before(db: &Db, step: &str) {
    let steps = db.migrations().await.unwrap();
    let first = steps.iter().position(|(name, _)| name.as_str() >= step).unwrap();
    db.migrate_down(u32::try_from(steps.len() - first).unwrap()).await.unwrap();
}

#[tokio::test]
async fn findings_of_many_runs_become_one_row_for_each_object_and_kind() {
    let database = TestDatabase::create().await;
    let db = database.migrated().await;
    down_before(&db, "m20261130").await;
    let raw = sea_orm::Database::connect(&database.url).await.unwrap();
    let postgres = raw.get_database_backend() == DbBackend::Postgres;
    let id = |n: u8| {
        let hex = format!("{n:032x}");
        if postgres { format!("'{hex}'::uuid") } else { format!("x'{hex}'") }
    };
    let at = |day: u8| format!("'2026-01-{day:02}T00:00:00+00:00'");
    for (run, mode) in [(1, "audit"), (2, "audit"), (3, "incremental")] {
        let (id, at) = (id(run), at(run));
        raw.execute_unprepared(&format!(
            "INSERT INTO reconcile_runs (id, mode, trigger, dry_run, forced, status, \
             cancel_requested, counters, started_at) \
             VALUES ({id}, '{mode}', 'api', false, false, 'succeeded', false, '{{}}', {at})"
        ))
        .await
        .unwrap();
    }
    // Run, number, kind, key and detail.
    let rows = [
        (1, 1, "orphan", "t/a", "NULL"),
        (1, 2, "rejected", "t/a", "'late'"),
        (2, 1, "orphan", "t/a", "NULL"),
        (2, 2, "orphan", "t/b", "NULL"),
        (3, 1, "rejected", "t/a", "'delete'"),
    ];
    for (run, number, kind, key, detail) in rows {
        let (id, at) = (id(run), at(run));
        raw.execute_unprepared(&format!(
            "INSERT INTO reconcile_findings (run_id, number, kind, policy, key, detail, found_at) \
             VALUES ({id}, {number}, '{kind}', 'tracks', '{key}', {detail}, {at})"
        ))
        .await
        .unwrap();
    }
    db.migrate_up().await.unwrap();
    let found = entity::finding::Entity::find().all(&raw).await.unwrap();
    let mut found: Vec<_> = found
        .into_iter()
        .map(|row| {
            let [first, last] = [row.first_run, row.last_run].map(|id| id.as_u128());
            let seen = [row.first_seen_at, row.last_seen_at].map(|at| u128::from(at.day()));
            assert_eq!(seen, [first, last]);
            (row.kind, row.key, first, last, row.last_audit.map(|id| id.as_u128()), row.detail)
        })
        .collect();
    found.sort();
    let row = |kind: &str, key: &str, first, last, audit, detail: Option<&str>| {
        (kind.to_owned(), key.to_owned(), first, last, Some(audit), detail.map(str::to_owned))
    };
    let expected = [
        row("orphan", "t/a", 1, 2, 2, None),
        row("orphan", "t/b", 2, 2, 2, None),
        row("rejected", "t/a", 1, 3, 1, Some("delete")),
    ];
    assert_eq!(found, expected);
    down_before(&db, "m20261130").await;
    let count = "SELECT COUNT(*) FROM reconcile_findings";
    let statement = sea_orm::Statement::from_string(raw.get_database_backend(), count);
    let row = raw.query_one_raw(statement).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 3);
    db.migrate_up().await.unwrap();
    raw.close().await.unwrap();
}

#[tokio::test]
async fn markers_of_a_version_without_laps_survive_the_migration_both_ways() {
    let database = TestDatabase::create().await;
    let db = database.migrated().await;
    down_before(&db, "m20261130_000021").await;
    let written = "'2026-01-01 00:00:00+00:00'";
    let insert = format!("INSERT INTO markers VALUES ('b', 'p/', {written})");
    database.execute(&insert).await;
    db.migrate_up().await.unwrap();
    let (bucket, prefix) = ("b", "p/");
    let location = MarkerLocation { store: "s", bucket, prefix };
    let found = db.markers().find(location, |store| !store.is_empty()).await.unwrap();
    let before = Remembered { written: true, ..Remembered::default() };
    assert_eq!(found, Some((String::new(), before)));
    // The older version has one record for a bucket and prefix, and none for a marker that was not
    // written yet.
    db.markers().record_written(location, SystemClock.now()).await.unwrap();
    db.markers()
        .begin_first(MarkerLocation { prefix: "q/", ..location }, SystemIds.uuid())
        .await
        .unwrap();
    down_before(&db, "m20261130_000021").await;
    let rows = "INSERT INTO markers SELECT 'copy of ' || bucket, prefix, written_at FROM markers";
    database.execute(rows).await;
    db.migrate_up().await.unwrap();
    for (bucket, prefix, is_known) in
        [("b", "p/", true), ("copy of b", "p/", true), ("b", "q/", false)]
    {
        let location = MarkerLocation { store: "s", bucket, prefix };
        let found = db.markers().find(location, |_| false).await.unwrap();
        assert_eq!(found.is_some(), is_known, "{bucket} {prefix}");
    }
}

#[tokio::test]
async fn uploads_that_are_being_inspected_are_pending_for_the_previous_version() {
    let database = TestDatabase::create().await;
    let db = database.migrated().await;
    let raw = sea_orm::Database::connect(&database.url).await.unwrap();
    let postgres = raw.get_database_backend() == DbBackend::Postgres;
    let id = |n: u8| {
        let hex = format!("{n:032x}");
        if postgres { format!("'{hex}'::uuid") } else { format!("x'{hex}'") }
    };
    let at = "'2026-01-01T00:00:00+00:00'";
    for (n, status, reason) in [(1, "inspecting", "NULL"), (2, "rejected", "'inspection'")] {
        let id = id(n);
        raw.execute_unprepared(&format!(
            "INSERT INTO uploads (id, owner, policy, key, strategy, write_once, metadata, \
             url_expires_at, status, reason, late, version, created_at, updated_at, detail) \
             VALUES ({id}, 'ann', 'tracks', 'k{n}', 'put', false, '{{}}', {at}, '{status}', \
             {reason}, false, 1, {at}, {at}, 'x')"
        ))
        .await
        .unwrap();
        raw.execute_unprepared(&format!(
            "INSERT INTO upload_history (upload_id, version, at, from_status, to_status, \
             changed_by, reason) VALUES ({id}, 1, {at}, 'pending', '{status}', 'scan', {reason})"
        ))
        .await
        .unwrap();
    }
    down_before(&db, "m20261130_000029").await;
    for table in ["uploads ORDER BY key", "upload_history ORDER BY version, to_status"] {
        let status = if table.starts_with("uploads") { "status" } else { "to_status" };
        let sql = format!("SELECT concat({status}, ' ', reason) FROM {table}");
        let statement = sea_orm::Statement::from_string(raw.get_database_backend(), sql);
        let rows = raw.query_all_raw(statement).await.unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(rows, ["pending ", "rejected content-mismatch"], "{table}");
    }
    db.migrate_up().await.unwrap();
    raw.close().await.unwrap();
}
