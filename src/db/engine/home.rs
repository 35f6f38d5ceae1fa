//! The *home* of a database: a text that identifies where the database is stored. A copy of the
//! database has another home, so a process can notice that it runs on a copy.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

/// The server's id, and the database's id on that server. A restored dump has another database id,
/// or is on a server with another id.
const POSTGRES: &str = "SELECT (SELECT system_identifier FROM pg_control_system())::text \
    || ' ' || oid::text AS home FROM pg_database WHERE datname = current_database()";

/// The home of a `SQLite` database: the inode number of the file and the time of its creation. A
/// copy has another creation time.
pub(in crate::db) fn of_file(file: &Path) -> Option<String> {
    let metadata = std::fs::metadata(file).ok()?;
    let created = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("file {} {}", metadata.ino(), created.as_nanos()))
}

/// The home of a PostgreSQL database. `None` if the server can't return it, for example because it
/// is another server that only speaks PostgreSQL's protocol.
pub(in crate::db) async fn of_postgres(connection: &DatabaseConnection) -> Option<String> {
    let statement = Statement::from_string(DbBackend::Postgres, POSTGRES);
    let home = match connection.query_one_raw(statement).await {
        Ok(row) => row?.try_get::<String>("", "home").ok()?,
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the server does not return the identity of the database"
            );
            return None;
        }
    };
    Some(format!("postgres {home}"))
}
