//! Why a database call failed.

use sea_orm::sqlx::Error as Sqlx;
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::upload_token::TokenError;

/// Why a database call failed. A missing row is not an error: lookups return `None`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// The database is down, locked for too long, or out of connections. A later attempt may
    /// succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// Too many writes are waiting, a batch of requests failed, or another attempt has used the
    /// idempotency key. A later attempt may succeed.
    #[error("the database is busy; try again")]
    Busy,
    /// The disk of the database is full.
    #[error("the disk of the database is full")]
    Full(#[source] DbErr),
    /// A statement failed.
    #[error("a database statement failed")]
    Statement(#[source] DbErr),
    /// A row with values that this service never writes.
    #[error("the row {id} of the table {table} has an invalid value in the column {column}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's primary key.
        id: String,
    },
    /// The database returned no time, or a text that is not a time.
    #[error("the database returned no valid time")]
    Clock,
    /// The owner's quota is used up.
    #[error("the quota allows at most {limit} {what}")]
    OverQuota {
        /// What the quota limits.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The upload token does not allow the upload.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A newer version has migrated the database.
    #[error("the database has migrations of a newer version: run that version's `migrate down`")]
    NewerSchema,
    /// The database URL is invalid.
    #[error("database.url: {0}")]
    Url(String),
}

impl DbError {
    /// Whether the same call may succeed later without a change of the configuration.
    pub fn is_temporary(&self) -> bool {
        match self {
            // A server that refuses this user, password or database will refuse it again. A
            // connection that failed in any other way may succeed later.
            Self::Unavailable(DbErr::Conn(RuntimeErr::SqlxError(error))) => match &**error {
                Sqlx::Configuration(_) | Sqlx::Tls(_) => false,
                Sqlx::Database(_) => is_passing(error),
                _ => true,
            },
            Self::Busy | Self::Full(_) | Self::Unavailable(_) => true,
            _ => false,
        }
    }
}

/// Whether there is no space left: `SQLITE_FULL`, or PostgreSQL's `disk_full`.
fn is_full(error: &Sqlx) -> bool {
    let code = error.as_database_error().and_then(sea_orm::sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "13" | "53100"))
}

/// Whether the statement failed because of a lock, the connection or the server, not because of the
/// statement itself.
fn is_passing(error: &Sqlx) -> bool {
    match error {
        Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::Io(_) | Sqlx::WorkerCrashed => true,
        // SQLITE_BUSY and SQLITE_LOCKED with their extended codes; PostgreSQL's
        // classes 08 (connection), 40 (rollback), 53 (resources) and 57 (shutdown).
        Sqlx::Database(inner) => inner.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.len() == 5 && code.starts_with(class))
                || code.parse::<u32>().is_ok_and(|n| code.len() < 5 && matches!(n & 0xff, 5 | 6))
        }),
        _ => false,
    }
}

impl From<DbErr> for DbError {
    fn from(error: DbErr) -> Self {
        use RuntimeErr::SqlxError;
        match &error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Unavailable(error),
            DbErr::Exec(SqlxError(inner)) | DbErr::Query(SqlxError(inner)) if is_full(inner) => {
                Self::Full(error)
            }
            DbErr::Exec(SqlxError(inner)) | DbErr::Query(SqlxError(inner)) if is_passing(inner) => {
                Self::Unavailable(error)
            }
            _ => Self::Statement(error),
        }
    }
}

/// A result of the database.
pub type Result<T, E = DbError> = std::result::Result<T, E>;
