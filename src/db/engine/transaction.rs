//! Transactions that write.

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};

use super::error::Result;

/// Begins a write transaction. On `SQLite` it takes the write lock at once: a transaction that
/// reads first and writes later fails if another one has written in between.
pub(in crate::db) async fn begin(write: &DatabaseConnection) -> Result<DatabaseTransaction> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    // BEGIN runs in a task of its own. If the caller were dropped during BEGIN (a client
    // disconnects, a run is cancelled), the connection would return to the pool inside a
    // transaction that sqlx-postgres 0.9 does not know of. Later writes on this connection would be
    // lost.
    let write = write.clone();
    let begun = tokio::spawn(async move { write.begin_with_options(options).await });
    let begun = begun.await.map_err(|error| DbErr::Custom(error.to_string()))?;
    Ok(begun?)
}
