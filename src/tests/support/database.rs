//! A separate database for each test: a file in a temporary folder, or, if `TEST_POSTGRES_URL` is
//! set, a database on that server, which is dropped after the test.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Database, Statement};
use secrecy::SecretString;
use tempfile::TempDir;
use upload_coordinator::db::{Db, DbSettings};
use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;

/// The file of a migrated `SQLite` database. Each test gets a copy: migrating an empty database
/// takes longer than most tests.
static MIGRATED: OnceLock<Vec<u8>> = OnceLock::new();

/// A database that is deleted when this value is dropped.
pub struct TestDatabase {
    pub url: String,
    admin: Option<(String, String)>,
    _folder: TempDir,
}

impl TestDatabase {
    /// An empty `SQLite` database, not migrated.
    pub fn in_file() -> Self {
        super::log::keep();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self { url, admin: None, _folder: folder }
    }

    /// A copy of a `SQLite` database as it is now.
    pub async fn copy(&self) -> Self {
        let copy = Self::in_file();
        copy_file(&self.url, copy.url.trim_start_matches("sqlite://")).await;
        copy
    }

    /// An empty database, not migrated.
    pub async fn create() -> Self {
        if let Ok(admin) = std::env::var("TEST_POSTGRES_URL") {
            let name = format!("uc_{}", SystemIds.uuid().as_simple());
            let connection = Database::connect(&admin).await.unwrap();
            let create = format!("CREATE DATABASE {name}");
            connection.execute_unprepared(&create).await.unwrap();
            connection.close().await.unwrap();
            let mut url = url::Url::parse(&admin).unwrap();
            url.set_path(&name);
            super::log::keep();
            let folder = tempfile::tempdir().unwrap();
            return Self { url: url.into(), admin: Some((admin, name)), _folder: folder };
        }
        Self::in_file()
    }

    /// A separate connection, like that of another process.
    pub async fn connect(&self) -> Db {
        open(&self.url).await
    }

    /// A connection to the migrated database.
    pub async fn migrated(&self) -> Db {
        if let Some(file) = self.url.strip_prefix("sqlite://")
            && !Path::new(file).exists()
        {
            std::fs::write(file, MIGRATED.get_or_init(migrated_file)).unwrap();
        }
        let db = self.connect().await;
        db.migrate_up().await.unwrap();
        db
    }
}

/// Direct access to the database, mainly to imitate the changes that a newer version makes.
impl TestDatabase {
    /// The level that the database's schema records.
    pub async fn level(&self) -> i32 {
        let connection = Database::connect(&self.url).await.unwrap();
        let sql = "SELECT level FROM schema";
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        connection.close().await.unwrap();
        row.try_get("", "level").unwrap()
    }

    /// Records a migration that this version does not know.
    pub async fn add_migration(&self, name: &str) {
        self.execute(&format!("INSERT INTO seaql_migrations VALUES ('{name}', 0)")).await;
    }

    /// Records the schema level of another version, and the lowest level that it allows.
    pub async fn set_levels(&self, level: i32, min_level: i32) {
        let sql = format!("UPDATE schema SET level = {level}, min_level = {min_level}");
        self.execute(&sql).await;
    }

    /// Executes a statement directly on the database, without the service.
    pub async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }
}

/// Migrates an empty database, and returns its file.
fn migrated_file() -> Vec<u8> {
    // A separate thread, because the caller's thread has a runtime.
    let migrate = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let database = TestDatabase::in_file();
            database.connect().await.migrate_up().await.unwrap();
            let copy = database.copy().await;
            std::fs::read(copy.url.trim_start_matches("sqlite://")).unwrap()
        })
    };
    std::thread::spawn(migrate).join().unwrap()
}

/// Copies a `SQLite` database that is in use.
pub async fn copy_file(url: &str, file: &str) {
    execute(url, &format!("VACUUM INTO '{file}'")).await;
}

/// Executes a statement directly on the database, without the service.
pub async fn execute(url: &str, statement: &str) {
    let connection = Database::connect(url).await.unwrap();
    connection.execute_unprepared(statement).await.unwrap();
    connection.close().await.unwrap();
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
        // A separate thread, because the test's runtime may have ended.
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
