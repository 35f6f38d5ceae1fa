//! A new database for a unit test.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Database};

use super::{Db, DbSettings};
use crate::domain::ids::{IdSource as _, SystemIds};

async fn open(url: String) -> Db {
    let settings =
        DbSettings { url: url.into(), max_connections: 2, busy_timeout: Duration::from_secs(20) };
    let db = Db::connect(&settings).await.unwrap();
    db.migrate_up().await.unwrap();
    db
}

/// Runs a check on `SQLite`, and also on PostgreSQL if `TEST_POSTGRES_URL` is set.
pub(super) async fn on_both(check: impl AsyncFn(Db)) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(format!("sqlite://{}", folder.path().join("test.db").display())).await;
    check(db.clone()).await;
    db.close().await.unwrap();
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else { return };
    let admin = Database::connect(&server).await.unwrap();
    let name = format!("uc_{}", SystemIds.uuid().as_simple());
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    let db = open(url.into()).await;
    check(db.clone()).await;
    db.close().await.unwrap();
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.execute_unprepared(&drop).await.unwrap();
}

/// The owner of the rows of [`insert_many_uploads`].
pub(super) const MANY_UPLOADS_OWNER: &str = "o";

/// Inserts 20,000 uploads whose URLs expired long ago: 20 are pending, 20 expired, 2,000 cancelled
/// and deleted, and the others verified.
pub(super) async fn insert_many_uploads(db: &Db) {
    let postgres = db.engine.is_postgres();
    let (id, number, from) = if postgres {
        ("gen_random_uuid()", "lpad(n::text, 8, '0')", "generate_series(1, 20000) n")
    } else {
        let numbers = "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s \
             WHERE n < 20000) SELECT n FROM s)";
        ("randomblob(16)", "printf('%08d', n)", numbers)
    };
    let at = "'2020-01-01T00:00:00+00:00'";
    let at = if postgres { format!("{at}::timestamptz") } else { at.to_owned() };
    let columns = "id, owner, policy, key, strategy, write_once, metadata, url_expires_at, status, \
         late, version, created_at, updated_at, object_deleted_at";
    let status = "CASE WHEN n % 1000 = 0 THEN 'pending' WHEN n % 1000 = 1 THEN 'expired' \
         WHEN n % 10 = 5 THEN 'cancelled' ELSE 'uploaded' END";
    let insert = format!(
        "INSERT INTO uploads ({columns}) SELECT {id}, '{MANY_UPLOADS_OWNER}', 'tracks', \
         'tracks/' || {number}, 'put', false, '{{}}', {at}, {status}, false, 1, {at}, {at}, \
         CASE WHEN n % 10 = 5 THEN {at} END FROM {from}"
    );
    db.engine.write.execute_unprepared(&insert).await.unwrap();
    db.engine.write.execute_unprepared("ANALYZE").await.unwrap();
}
