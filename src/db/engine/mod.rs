//! Connections, transactions and the ways to read and write rows. This module does not depend on
//! any table.
//!
//! - Single rows and small results are read by sea-orm's own `one` and `all`. Large results go
//!   through [`sqlite_json`].
//! - Many rows are inserted by sea-orm's `insert_many`, and updated by [`bulk_update`].
//! - Work that many callers share goes through a [`batcher`].

pub(super) mod batcher;
pub(super) mod bulk_update;
pub(super) mod clock;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod home;
pub(super) mod pagination;
pub(super) mod pool;
pub(super) mod sqlite_json;
pub(super) mod transaction;
