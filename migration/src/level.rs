//! The level of the schema: which versions of the service can work with a database.
//!
//! Each release that adds migrations raises [`LEVEL`] by one. It raises [`MIN_LEVEL`] only if the
//! version before it can't work with the new schema, and [`NEEDED_LEVEL`] only if it can't work
//! with the schema of the version before it. Both make a rolling upgrade impossible, so the release
//! notes must say so.

use std::collections::BTreeSet;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, QueryResult};

/// The level of databases without a level. Version 0.1 created them.
pub const FIRST_LEVEL: i32 = 1;

/// The schema level after this version's migrations.
pub const LEVEL: i32 = 2;

/// The lowest level of a version that can work with the schema of this one.
pub const MIN_LEVEL: i32 = 2;

/// The lowest level of a schema that this version can work with.
pub const NEEDED_LEVEL: i32 = 2;

#[derive(DeriveIden)]
pub(crate) enum Schema {
    Table,
    Level,
    MinLevel,
}

/// The only row of the table `schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The level of the newest version that has migrated the database.
    pub level: i32,
    /// The lowest level of a version that can work with the database.
    pub min_level: i32,
}

/// Reads the level of a database. `None` if it has none, because it was never migrated or only by
/// 0.1.
///
/// # Errors
/// If the database fails.
pub async fn read(db: &impl ConnectionTrait) -> Result<Option<Level>, DbErr> {
    let mut select = Query::select();
    select.columns([Schema::Level, Schema::MinLevel]).from(Schema::Table);
    let Some(row) = rows(db, &select, "schema").await?.pop() else { return Ok(None) };
    Ok(Some(Level { level: row.try_get("", "level")?, min_level: row.try_get("", "min_level")? }))
}

/// The names of all applied migrations, including those of other versions.
///
/// # Errors
/// If the database fails.
pub async fn applied(db: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    const TABLE: &str = "seaql_migrations";
    let mut select = Query::select();
    select.column(Alias::new("version")).from(Alias::new(TABLE));
    rows(db, &select, TABLE).await?.iter().map(|row| row.try_get("", "version")).collect()
}

/// The rows of a table; empty if the table does not exist.
async fn rows(
    db: &impl ConnectionTrait,
    select: &SelectStatement,
    table: &str,
) -> Result<Vec<QueryResult>, DbErr> {
    match db.query_all(select).await {
        Ok(rows) => Ok(rows),
        // If the first statement fails, a second statement checks whether the table exists.
        Err(error) if has_table(db, table).await? => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

async fn has_table(db: &impl ConnectionTrait, table: &str) -> Result<bool, DbErr> {
    let mut select = Query::select();
    select.expr(Expr::cust("1"));
    if db.get_database_backend() == DbBackend::Postgres {
        select.from((Alias::new("information_schema"), Alias::new("tables")));
        select.and_where(Expr::cust("table_schema = ANY (current_schemas(false))"));
        select.and_where(Expr::col(Alias::new("table_name")).eq(table));
    } else {
        select.from(Alias::new("sqlite_master"));
        select.and_where(Expr::col(Alias::new("name")).eq(table));
    }
    Ok(db.query_one(&select).await?.is_some())
}

/// Called before the first migration. Records that versions that can't work with the new schema
/// must stop.
///
/// # Errors
/// If the database fails.
pub async fn announce(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    raise(db, Schema::MinLevel, MIN_LEVEL).await
}

/// Called after the last migration. Records that the database has the schema of this version.
///
/// # Errors
/// If the database fails.
pub async fn record(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    announce(db).await?;
    raise(db, Schema::Level, LEVEL).await
}

/// Called before a migration is reverted. Sets the levels to those of version 0.1: until the next
/// `up`, the names of the migrations decide which versions may run.
///
/// # Errors
/// If the database fails.
pub async fn reset(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let mut update = Query::update();
    update.table(Schema::Table);
    update.value(Schema::Level, FIRST_LEVEL).value(Schema::MinLevel, FIRST_LEVEL);
    db.execute(&update).await?;
    Ok(())
}

/// Never lowers a level, because another version may have raised it in the meantime.
async fn raise(db: &impl ConnectionTrait, column: Schema, value: i32) -> Result<(), DbErr> {
    let name = Alias::new(column.to_string());
    let mut update = Query::update();
    update.table(Schema::Table).value(column, value);
    update.and_where(Expr::col(name).lt(value));
    db.execute(&update).await?;
    Ok(())
}
