//! Connections, transactions and the ways to read and write rows. Knows no table.

pub(super) mod batcher;
pub(super) mod bulk_update;
pub(super) mod clock;
pub(super) mod connect;
pub(super) mod pagination;
pub(super) mod pinned;
pub(super) mod sqlite_json;
pub(super) mod texts;
