//! The sea-orm models of the tables. `upload_coordinator::db`, the only user of this crate,
//! converts rows to domain values. The recipe for a new table is in `src/db/mod.rs`.
#![expect(missing_docs, reason = "columns are documented where they are created: in `migration`")]

pub mod api_key;
pub mod attachment;
pub mod damage_hour;
pub mod finding;
pub mod idempotency_key;
pub mod inspection;
pub mod instance;
pub mod location;
pub mod marker;
pub mod missing_candidate;
pub mod multipart_abort;
pub mod object_copy;
pub mod reconcile_lock;
pub mod reconcile_run;
pub mod reconcile_shard;
pub mod secret;
mod timestamp;
pub mod track;
pub mod tus_piece;
pub mod tus_upload;
pub mod unattached_retention;
pub mod upload;
pub mod upload_history;
pub mod upload_token;
pub mod url_end_check;
pub mod webhook_delivery;
