//! Column types that differ between the databases.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Text that sorts byte by byte on both databases, as keys in a bucket do. PostgreSQL would sort by
/// the database's locale, which may ignore `_` and `-`.
pub fn bytewise(manager: &SchemaManager<'_>, name: impl IntoIden) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    if manager.get_database_backend() == DbBackend::Postgres {
        column.custom("text COLLATE \"C\"");
    } else {
        column.text();
    }
    column
}
