//! The tables as sea-orm sees them. Types are the database's own; meaning is given to
//! them in `upload_coordinator::db`, the only user of this crate.
//!
//! To add a table: a module here, a migration in `migration`, an aggregate in `src/db`.
#![expect(missing_docs, reason = "columns are documented where they are created: in `migration`")]

/// Reads a `Model` from a row that holds all its columns in their order, which is that of the fields
/// here and there: to find each by its name takes as long as to read it.
macro_rules! in_order {
    ($($field:ident),+) => {
        impl<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> for Model {
            fn from_row(row: &'r sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
                use sqlx::{Column as _, Row as _};
                let mut read = 0;
                let mut next = || {
                    read += 1;
                    read - 1
                };
                Ok(Self {
                    $($field: {
                        let at = next();
                        debug_assert_eq!(row.column(at).name(), stringify!($field));
                        row.try_get(at)?
                    }),+
                })
            }
        }
    };
}
use in_order;

pub mod api_key;
pub mod idempotency_key;
pub mod instance;
pub mod marker;
mod moment;
pub mod multipart_abort;
pub mod reconcile_finding;
pub mod reconcile_lock;
pub mod reconcile_run;
pub mod reconcile_shard;
pub mod reconcile_suspect;
pub mod secret;
pub mod track;
pub mod upload;
pub mod webhook_delivery;
