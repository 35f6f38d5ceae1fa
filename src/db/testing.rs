//! A database of its own for a unit test.

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

/// Runs a check on `SQLite`, and on PostgreSQL where `TEST_POSTGRES_URL` names a server.
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
