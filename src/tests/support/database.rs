//! A database of its own for each test: a file in a temporary folder, or, where
//! `TEST_POSTGRES_URL` names a server, a database there that is dropped afterwards.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Database};
use secrecy::SecretString;
use tempfile::TempDir;
use upload_coordinator::db::{Db, DbSettings};
use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;

/// Lives as long as the test.
pub struct TestDatabase {
    pub url: String,
    admin: Option<(String, String)>,
    _folder: TempDir,
}

impl TestDatabase {
    /// An empty database, not migrated.
    pub async fn create() -> Self {
        super::log::keep();
        let folder = tempfile::tempdir().unwrap();
        if let Ok(admin) = std::env::var("TEST_POSTGRES_URL") {
            let name = format!("uc_{}", SystemIds.uuid().as_simple());
            let connection = Database::connect(&admin).await.unwrap();
            let create = format!("CREATE DATABASE {name}");
            connection.execute_unprepared(&create).await.unwrap();
            connection.close().await.unwrap();
            let mut url = url::Url::parse(&admin).unwrap();
            url.set_path(&name);
            return Self { url: url.into(), admin: Some((admin, name)), _folder: folder };
        }
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self { url, admin: None, _folder: folder }
    }

    /// A connection of its own, as another process would have.
    pub async fn connect(&self) -> Db {
        open(&self.url).await
    }

    /// A connection, with the schema in place.
    pub async fn migrated(&self) -> Db {
        let db = self.connect().await;
        db.migrate_up().await.unwrap();
        db
    }
}

/// Opens a database.
pub async fn open(url: &str) -> Db {
    let settings = DbSettings {
        url: SecretString::from(url),
        max_connections: 4,
        busy_timeout: Duration::from_secs(20),
    };
    Db::connect(&settings).await.unwrap()
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some((admin, name)) = self.admin.take() else { return };
        // A thread of its own: the test's runtime may be gone.
        let drop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let connection = Database::connect(&admin).await.unwrap();
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                connection.execute_unprepared(&drop).await.unwrap();
            });
        });
        drop.join().unwrap();
    }
}
