//! Updates of many rows in one statement, each row with its own values.

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, IntoIden as _, Query, TableRef, ValueTuple};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ConnectionTrait, DbErr, EntityTrait, Iterable as _, Value,
};
use uuid::Uuid;

use super::error::Result;

/// The largest number of parameters in one statement: `SQLite` allows 32,766, PostgreSQL 65,535.
const PARAMETERS: usize = 32_000;

/// A change of one row.
#[derive(Debug, Clone)]
pub(in crate::db) struct RowChange<A> {
    /// The id of the row.
    pub id: Uuid,
    /// The version that was read. A row with another version is not changed.
    pub version: i64,
    /// The columns to write. All changes of one call must write the same columns.
    pub values: A,
}

/// Writes each change to its row, if the row still has the version that was read, and increments
/// the version. Returns the number of changed rows.
pub(in crate::db) async fn update_each<A: ActiveModelTrait>(
    connection: &impl ConnectionTrait,
    (id, version): (Column<A>, Column<A>),
    changes: &[RowChange<A>],
) -> Result<u64> {
    let Some(first) = changes.first() else { return Ok(0) };
    let columns: Vec<_> =
        Column::<A>::iter().filter(|c| value(&first.values, *c).is_some()).collect();
    // Both databases name the columns of `VALUES` column1, column2 and so on.
    let values_column = |n: usize| Expr::col((Alias::new("v"), Alias::new(format!("column{n}"))));
    let table = <A::Entity as Default>::default();
    let mut written = 0;
    for chunk in changes.chunks(PARAMETERS / (columns.len() + 2)) {
        let rows = chunk.iter().map(|RowChange { id, version, values }| {
            let keys = [Value::from(*id), Value::from(*version)];
            let values = columns.iter().filter_map(|column| value(values, *column));
            ValueTuple::Many(keys.into_iter().chain(values).collect())
        });
        let mut update = Query::update();
        update
            .table(table)
            .from(TableRef::ValuesList(rows.collect(), Alias::new("v").into_iden()))
            .and_where(Expr::col((table, id)).eq(values_column(1)))
            .and_where(Expr::col((table, version)).eq(values_column(2)))
            .value(version, values_column(2).add(1));
        for (column, n) in columns.iter().zip(3..) {
            update.value(*column, values_column(n));
        }
        written += connection.execute(&update).await?.rows_affected();
    }
    Ok(written)
}

/// Fails unless all rows were written. It is used for rows that the transaction has locked, so a
/// failure means a bug.
pub(in crate::db) fn ensure_all<T>(rows: &[T], written: u64) -> Result<()> {
    if written == rows.len() as u64 { Ok(()) } else { Err(DbErr::RecordNotUpdated.into()) }
}

type Column<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;

fn value<A: ActiveModelTrait>(model: &A, column: Column<A>) -> Option<Value> {
    match model.get(column) {
        ActiveValue::Set(value) => Some(value),
        ActiveValue::Unchanged(_) | ActiveValue::NotSet => None,
    }
}
