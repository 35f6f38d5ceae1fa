use futures_util::future::join_all;
use upload_coordinator::db::{Db, DbError, Schema};

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

    // A newer version has begun to migrate, and allows this one.
    database.add_migration("m20990101_000001_future").await;
    assert_eq!(db.schema().await.unwrap(), Schema::Usable { newer: None });
    assert!(matches!(db.migrate_down(1).await, Err(DbError::NewerSchema)));
    // It has ended.
    database.set_levels(own + 1, own).await;
    assert_eq!(db.schema().await.unwrap(), Schema::Usable { newer: Some(own + 1) });
    assert_eq!(db.pending_migrations().await.unwrap(), Vec::<String>::new());
    let before = db.migrations().await.unwrap();
    assert_eq!(before.last().unwrap(), &("m20990101_000001_future".to_owned(), true));
    db.migrate_up().await.unwrap();
    assert!(matches!(db.migrate_down(1).await, Err(DbError::NewerSchema)));
    assert_eq!((db.migrations().await.unwrap(), database.level().await), (before, own + 1));

    // One that this version can't work with.
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
