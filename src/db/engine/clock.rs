//! The database's clock, which all processes share.

use std::time::Duration;

use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::error::{DbError, Result};
use crate::domain::Timestamp;

/// An SQL expression for the end of a lease that begins now, by the database's clock.
pub(in crate::db) fn lease_end(postgres: bool, lease: Duration) -> SimpleExpr {
    let millis = lease.as_millis();
    Expr::cust(if postgres {
        format!("clock_timestamp() + interval '{millis} milliseconds'")
    } else {
        format!(
            "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '+{}.{:03} seconds')",
            millis / 1000,
            millis % 1000
        )
    })
}

/// The time of the database's clock plus `after`.
pub(in crate::db) async fn time(
    connection: &impl ConnectionTrait,
    after: Duration,
) -> Result<Timestamp> {
    let backend = connection.get_database_backend();
    let postgres = backend == DbBackend::Postgres;
    let sql = if postgres {
        "SELECT clock_timestamp() AS now"
    } else {
        "SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') AS now"
    };
    let row = connection.query_one_raw(Statement::from_string(backend, sql)).await?;
    let row = row.ok_or(DbError::Clock)?;
    let now: Timestamp = if postgres {
        row.try_get("", "now")?
    } else {
        let text: String = row.try_get("", "now")?;
        text.parse().map_err(|_| DbError::Clock)?
    };
    Ok(now + after)
}
