//! Migrations while a service runs: the helpers of `migration::online`.

use std::time::Duration;

use migration::online;
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    TransactionTrait as _,
};

use crate::support::database::TestDatabase;
use crate::support::wait::wait_for;

/// Whether an index exists and can be used.
async fn is_valid(db: &DatabaseConnection, name: &str) -> bool {
    let sql =
        format!("SELECT 1 FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('{name}')");
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    row.unwrap().is_some()
}

#[tokio::test]
async fn an_index_is_built_while_the_table_is_written() {
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let connect = || Database::connect(&database.url);
    let (db, other) = (connect().await.unwrap(), connect().await.unwrap());
    let name = "ix_secrets_name_too";
    if db.get_database_backend() != DbBackend::Postgres {
        for _ in 0..2 {
            online::create_index(&db, name, "secrets (name)").await.unwrap();
        }
        online::drop_index(&db, name).await.unwrap();
        return;
    }
    let building = db.clone();
    let build = async move { online::create_index(&building, name, "secrets (name)").await };
    beside_writes(&db, &other, "CREATE INDEX", build).await;
    assert!(is_valid(&db, name).await);

    // A failed build leaves an invalid index. It is built again.
    let spoil =
        format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass");
    db.execute_unprepared(&spoil).await.unwrap();
    online::create_index(&db, name, "secrets (name)").await.unwrap();
    assert!(is_valid(&db, name).await);
    let dropping = db.clone();
    let drop = async move { online::drop_index(&dropping, name).await };
    beside_writes(&db, &other, "DROP INDEX", drop).await;
    assert!(!is_valid(&db, name).await);
}

/// Runs a change that waits for an open transaction of `other`, and checks that another transaction
/// can write while the change waits.
async fn beside_writes(
    db: &DatabaseConnection,
    other: &DatabaseConnection,
    statement: &str,
    change: impl Future<Output = Result<(), DbErr>> + Send + 'static,
) {
    let open = other.begin().await.unwrap();
    let write = format!("INSERT INTO secrets VALUES ('open {statement}', '')");
    open.execute_unprepared(&write).await.unwrap();
    let changed = tokio::spawn(change);
    let waiting = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event_type = 'Lock' AND query LIKE '{statement}%'"
    );
    wait_for("the change to wait for the open transaction", async || {
        let query = Statement::from_string(DbBackend::Postgres, &waiting);
        db.query_one_raw(query).await.unwrap()
    })
    .await;
    let write = format!("INSERT INTO secrets VALUES ('meanwhile {statement}', '')");
    let write = db.execute_unprepared(&write);
    tokio::time::timeout(Duration::from_secs(10), write).await.expect("no wait").unwrap();
    open.commit().await.unwrap();
    changed.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_of_a_table_in_use_does_not_wait_long_for_its_lock() {
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let db = Database::connect(&database.url).await.unwrap();
    if db.get_database_backend() != DbBackend::Postgres {
        online::bound_lock_wait(&db).await.unwrap();
        return;
    }
    let reader = db.begin().await.unwrap();
    reader.execute_unprepared("LOCK TABLE secrets IN ACCESS SHARE MODE").await.unwrap();
    let migration = db.begin().await.unwrap();
    online::bound_lock_wait(&migration).await.unwrap();
    let change = migration.execute_unprepared("ALTER TABLE secrets ADD COLUMN more integer");
    let changed =
        tokio::time::timeout(Duration::from_secs(20), change).await.expect("a time limit");
    assert!(changed.unwrap_err().to_string().contains("lock timeout"));
    migration.rollback().await.unwrap();
    reader.commit().await.unwrap();
}
