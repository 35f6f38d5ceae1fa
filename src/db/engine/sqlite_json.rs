//! Reads large results. `SQLite` returns them as one JSON text.
//!
//! The driver runs `SQLite` on a separate thread and passes each row and column to the caller one
//! by one. For many rows that costs several times what `SQLite` itself takes to read them. So the
//! database packs all rows into one JSON text.
//!
//! PostgreSQL sends its rows as usual, but sqlx decodes them instead of sea-orm. sea-orm is slower:
//! for each column it searches twice by name, and for each NULL it formats an error.

use sea_orm::sea_query::{Alias, ColumnType, Expr, Func, Query, SelectStatement, SimpleExpr};
use sea_orm::sqlx::FromRow;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    Iterable as _, QueryResult, QueryTrait as _, RuntimeErr, Select,
};
use serde::de::DeserializeOwned;

/// A row that can be decoded from JSON (`SQLite`) and from a row of PostgreSQL.
pub(in crate::db) trait Row: DeserializeOwned + for<'r> FromRow<'r, PgRow> {}

impl<T: DeserializeOwned + for<'r> FromRow<'r, PgRow>> Row for T {}

/// All rows of a query, in its order.
pub(in crate::db) async fn all<E>(
    connection: &DatabaseConnection,
    query: Select<E>,
) -> Result<Vec<E::Model>, DbErr>
where
    E: EntityTrait,
    E::Model: Row,
{
    let values: Vec<_> = E::Column::iter().map(column::<E>).collect();
    tuples(connection, query.into_query(), values).await
}

/// All rows of a query that selects some columns only, as tuples in its order. `values` are the
/// same columns as JSON values, see [`column`].
pub(in crate::db) async fn tuples<T: Row>(
    connection: &DatabaseConnection,
    query: SelectStatement,
    values: impl IntoIterator<Item = SimpleExpr>,
) -> Result<Vec<T>, DbErr> {
    if connection.get_database_backend() == DbBackend::Sqlite {
        return unpack(connection, &pack(query, values)).await;
    }
    connection.query_all(&query).await?.iter().map(decode).collect()
}

fn decode<T: Row>(row: &QueryResult) -> Result<T, DbErr> {
    let row = row
        .try_as_pg_row()
        .ok_or_else(|| DbErr::Type("the row is not from PostgreSQL".to_owned()))?;
    T::from_row(row).map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))
}

/// A statement whose only row is the JSON of all rows of a query.
fn pack(query: SelectStatement, values: impl IntoIterator<Item = SimpleExpr>) -> SelectStatement {
    let row = Func::cust("json_array").args(values);
    Query::select()
        .expr(Func::cust("json_group_array").arg(row))
        .from_subquery(query, Alias::new("page"))
        .take()
}

fn no_row() -> DbErr {
    DbErr::RecordNotFound("an aggregate returned no row".to_owned())
}

async fn unpack<T: DeserializeOwned>(
    connection: &DatabaseConnection,
    in_json: &SelectStatement,
) -> Result<Vec<T>, DbErr> {
    let row = connection.query_one(in_json).await?;
    let text: String = row.ok_or_else(no_row)?.try_get_by_index(0)?;
    serde_json::from_str(&text).map_err(|error| DbErr::Json(error.to_string()))
}

/// An SQL expression for a column, with a value that JSON can contain.
pub(in crate::db) fn column<E: EntityTrait>(of: E::Column) -> SimpleExpr {
    let value = Expr::col(Alias::new(sea_orm::IdenStatic::as_str(&of)));
    match of.def().get_column_type() {
        // JSON cannot contain bytes, and the hexadecimal text of NULL is empty.
        ColumnType::Uuid => {
            Func::cust("nullif").args([Func::cust("hex").arg(value).into(), "".into()]).into()
        }
        ColumnType::Boolean => {
            let truth = Func::cust("iif").args([value, "true".into(), "false".into()]);
            Func::cust("json").arg(truth).into()
        }
        ColumnType::Json | ColumnType::JsonBinary => Func::cust("json").arg(value).into(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use entity::upload;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    use sea_orm::{
        ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, IntoActiveModel as _,
        QueryFilter as _, QueryOrder as _, QuerySelect as _,
    };
    use uuid::Uuid;

    use crate::db::testing::on_both;
    use crate::db::{Db, DbSettings};

    fn timestamp() -> impl Strategy<Value = DateTime<Utc>> {
        (0..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(r"[ -~é\u{1F3B5}\n\t]{0,20}")
    }

    prop_compose! {
        fn row()(
            id: u128, numbers: [Option<i64>; 4], flags: [bool; 2],
            strings in proptest::array::uniform12(text()), timestamps in proptest::array::uniform6(timestamp()),
            some: [bool; 3], pairs in proptest::collection::btree_map("[a-z]{1,4}", ".{0,6}", 0..3),
        ) -> upload::Model {
            let [filename, kind, algorithm, sum, multipart_id, reason, etag, version, seen, a, b, c] = strings;
            let [attach_sequence, declared_size, part_size, size] = numbers;
            upload::Model {
                id: Uuid::from_u128(id),
                owner: c.clone().unwrap_or_default(),
                policy: "tracks".into(),
                location: 2,
                upload_token_id: some[0].then(|| Uuid::from_u128(!id)),
                max_size: size,
                attach_to: c.clone(),
                attach_sequence,
                key: Uuid::from_u128(id).to_string(),
                filename,
                declared_content_type: kind,
                declared_size,
                declared_checksum_algorithm: algorithm,
                declared_checksum: sum,
                strategy: "put".into(),
                write_once: flags[0],
                metadata: serde_json::json!(pairs),
                url_expires_at: timestamps[0],
                verified_before: reason.clone(),
                multipart_id,
                part_size,
                status: "pending".into(),
                reason,
                confirmed_by: c,
                late: flags[1],
                etag,
                version_id: version,
                size,
                content_type: seen,
                checksum_algorithm: a,
                detail: b.clone(),
                annotations: b.clone(),
                waiting_for: b.clone(),
                checksum: b,
                uploaded_at: some[0].then_some(timestamps[1]),
                object_delete_after: some[1].then_some(timestamps[2]),
                object_deleted_at: some[2].then_some(timestamps[3]),
                version: 1,
                created_at: timestamps[4],
                updated_at: timestamps[5],
            }
        }
    }

    #[tokio::test]
    async fn on_both_databases_the_rows_equal_those_that_sea_orm_reads() {
        use sea_orm::EntityTrait as _;
        let drawn = proptest::collection::vec(row(), 40).new_tree(&mut TestRunner::deterministic());
        let mut rows = drawn.unwrap().current();
        for row in &mut rows {
            // PostgreSQL's JSON cannot contain NUL.
            row.metadata = serde_json::json!({"a": "b"});
        }
        on_both(async |db: Db| {
            for row in &rows {
                row.clone().into_active_model().reset_all().insert(&db.engine.write).await.unwrap();
            }
            let query = || upload::Entity::find().order_by_asc(upload::Column::Key);
            let plain = query().all(&db.engine.read).await.unwrap();
            assert_eq!(plain.len(), rows.len());
            assert_eq!(super::all(&db.engine.read, query()).await.unwrap(), plain);
        })
        .await;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_rows_equal_those_that_sea_orm_reads(mut rows in proptest::collection::vec(row(), 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let [in_json, some, plain] = runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let settings = DbSettings {
                    url: format!("sqlite://{}", folder.path().join("rows.db").display()).into(),
                    max_connections: 1,
                    busy_timeout: Duration::from_secs(20),
                };
                let db = Db::connect(&settings).await.unwrap();
                db.migrate_up().await.unwrap();
                db.engine.write.execute_unprepared("PRAGMA foreign_keys = off").await.unwrap();
                for row in &rows {
                    row.clone().into_active_model().reset_all().insert(&db.engine.write).await.unwrap();
                }
                let query = || {
                    use sea_orm::EntityTrait as _;
                    upload::Entity::find().order_by_asc(upload::Column::Key)
                };
                let some = query().filter(upload::Column::Policy.eq("tracks")).limit(3);
                let all = super::all(&db.engine.read, query()).await.unwrap();
                let some = super::all(&db.engine.read, some).await.unwrap();
                [all, some, query().all(&db.engine.read).await.unwrap()]
            });
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            prop_assert_eq!(&in_json, &rows);
            prop_assert_eq!(&in_json, &plain);
            prop_assert_eq!(&some[..], &rows[..rows.len().min(3)]);
        }
    }
}
