//! Why a database call failed.

use sea_orm::sqlx::Error as Sqlx;
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::upload_token::TokenError;

/// Why a database call failed. A missing row is no error but `None`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// Down, locked for too long, or out of connections. Worth trying later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// More is waiting to be written than can be answered in time. Worth trying later.
    #[error("too much is waiting for the database")]
    Busy,
    /// The disk of the database is full.
    #[error("the disk of the database is full")]
    Full(#[source] DbErr),
    /// A statement failed.
    #[error("a database statement failed")]
    Statement(#[source] DbErr),
    /// A row that this service never writes.
    #[error("impossible row: {table}.{column} of {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's primary key.
        id: String,
    },
    /// The database gave no readable time.
    #[error("the database's clock can't be read")]
    Clock,
    /// The owner has as many as it may have.
    #[error("at most {limit} {what}")]
    OverQuota {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The upload token does not allow it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A newer version has migrated the database.
    #[error("the database has migrations of a newer version: run that version's `migrate down`")]
    NewerSchema,
    /// The address can't be used.
    #[error("database.url: {0}")]
    Url(String),
}

impl DbError {
    /// Whether the same call may succeed later without a change by an operator.
    pub fn is_temporary(&self) -> bool {
        match self {
            // A server that refuses this user, password or database does so again. A connection
            // that failed in any other way may succeed later.
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

/// Whether the cause is outside of the statement: a lock, the connection, the server.
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
