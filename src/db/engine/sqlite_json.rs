//! Many rows in one go.
//!
//! `SQLite`'s driver reads on a thread of its own and hands over row by row and column by
//! column, and that costs several times what `SQLite` itself takes to read them. So there the
//! rows come as one JSON text; PostgreSQL's come in one answer as they are.
//!
//! `LIMIT ?`, as sea-orm writes it, has `SQLite` prepare a statement anew each time that it is
//! executed (it looks at the value of the parameter while it plans), which takes longer than a
//! short query: here limits are written out, and a key needs none.

use sea_orm::sea_query::{
    Alias, ColumnType, Expr, Func, Query, SelectStatement, SimpleExpr, SqliteQueryBuilder, Value,
    Values,
};
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{Error, FromRow};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    Iterable as _, QueryResult, QueryTrait as _, RuntimeErr, Select, Statement, TryGetableMany,
};
use serde::de::DeserializeOwned;

/// A row that is read in such ways.
pub(in crate::db) trait Packed:
    DeserializeOwned + for<'r> FromRow<'r, PgRow> + Send
{
}

impl<T: DeserializeOwned + for<'r> FromRow<'r, PgRow> + Send> Packed for T {}

/// The row with a key.
pub(in crate::db) async fn one<E: EntityTrait>(
    connection: &impl ConnectionTrait,
    by_key: Select<E>,
) -> Result<Option<E::Model>, DbErr> {
    Ok(by_key.all(connection).await?.into_iter().next())
}

/// All rows of a query, in its order.
pub(in crate::db) async fn all<E>(
    connection: &DatabaseConnection,
    query: Select<E>,
) -> Result<Vec<E::Model>, DbErr>
where
    E: EntityTrait,
    E::Model: Packed,
{
    let statement = packing(connection, query);
    if statement.db_backend == DbBackend::Sqlite {
        return unpacked(connection, statement).await;
    }
    let rows = connection.query_all_raw(statement).await?;
    // Not by sea-orm, which writes an error for each NULL, and drops it.
    let read =
        |row: &QueryResult| E::Model::from_row(row.try_as_pg_row().ok_or(Error::RowNotFound)?);
    let rows: Result<_, Error> = rows.iter().map(read).collect();
    rows.map_err(failed)
}

/// What sqlx says of a statement, as sea-orm has it.
pub(in crate::db) fn failed(error: Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

/// What reads whole rows: as one JSON text from `SQLite`, as they are from PostgreSQL.
pub(in crate::db) fn packing<E: EntityTrait>(
    connection: &DatabaseConnection,
    query: Select<E>,
) -> Statement {
    let statement = statement(connection, query.as_query());
    match statement.db_backend {
        DbBackend::Sqlite => packed(statement, E::Column::iter().map(column::<E>)),
        _ => statement,
    }
}

/// Some columns of all rows of a query that selects these alone, in its order. `values` are the
/// columns again, as JSON has them.
pub(in crate::db) async fn tuples<T>(
    connection: &DatabaseConnection,
    query: &SelectStatement,
    values: impl IntoIterator<Item = SimpleExpr>,
) -> Result<Vec<T>, DbErr>
where
    T: DeserializeOwned + TryGetableMany,
{
    let statement = statement(connection, query);
    if statement.db_backend == DbBackend::Sqlite {
        return unpacked(connection, packed(statement, values)).await;
    }
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(|row| T::try_get_many_by_index(row).map_err(Into::into)).collect()
}

/// A statement whose only row is the JSON of all its rows.
fn packed(statement: Statement, values: impl IntoIterator<Item = SimpleExpr>) -> Statement {
    let row = Func::cust("json_array").args(values);
    let packed = Query::select().expr(Func::cust("json_group_array").arg(row)).take();
    let packed = packed.to_string(SqliteQueryBuilder);
    Statement { sql: format!("{packed} FROM ({})", statement.sql), ..statement }
}

async fn unpacked<T: DeserializeOwned>(
    connection: &DatabaseConnection,
    packed: Statement,
) -> Result<Vec<T>, DbErr> {
    let row = connection.query_one_raw(packed).await?;
    let text: String = row.ok_or(DbErr::RecordNotFound(String::new()))?.try_get_by_index(0)?;
    serde_json::from_str(&text).map_err(|error| DbErr::Json(error.to_string()))
}

/// A query as the database takes it, its limits written out for `SQLite`.
pub(in crate::db) fn statement(
    connection: &impl ConnectionTrait,
    query: &SelectStatement,
) -> Statement {
    let backend = connection.get_database_backend();
    let mut statement = backend.build(query);
    if backend != DbBackend::Sqlite {
        return statement;
    }
    let Some(Values(values)) = statement.values.take() else { return statement };
    let (mut sql, mut rest) = (String::new(), statement.sql.as_str());
    let mut kept = Vec::with_capacity(values.len());
    for value in values {
        // There is one for each value.
        let Some((before, after)) = rest.split_once('?') else { break };
        sql.push_str(before);
        match value {
            Value::BigUnsigned(Some(limit)) if before.ends_with("LIMIT ") => {
                sql.push_str(&limit.to_string());
            }
            value => {
                sql.push('?');
                kept.push(value);
            }
        }
        rest = after;
    }
    sql.push_str(rest);
    Statement { sql, values: Some(Values(kept)), ..statement }
}

/// A column's value as JSON has it.
pub(in crate::db) fn column<E: EntityTrait>(of: E::Column) -> SimpleExpr {
    let value = Expr::col(Alias::new(sea_orm::IdenStatic::as_str(&of)));
    match of.def().get_column_type() {
        // JSON holds no bytes, and the hexadecimal of NULL is empty.
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
        QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    };
    use uuid::Uuid;

    use crate::db::testing::on_both;
    use crate::db::{Db, DbSettings};

    fn moment() -> impl Strategy<Value = DateTime<Utc>> {
        (0..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(r"[ -~é\u{1F3B5}\n\t]{0,20}")
    }

    prop_compose! {
        fn row()(
            id: u128, track: Option<u128>, numbers: [Option<i64>; 4], flags: [bool; 2],
            texts in proptest::array::uniform12(text()), moments in proptest::array::uniform6(moment()),
            some: [bool; 3], pairs in proptest::collection::btree_map("[a-z]{1,4}", ".{0,6}", 0..3),
        ) -> upload::Model {
            let [filename, kind, algorithm, sum, multipart_id, reason, etag, version, seen, a, b, c] = texts;
            let [track_sequence, declared_size, part_size, size] = numbers;
            upload::Model {
                id: Uuid::from_u128(id),
                owner: c.clone().unwrap_or_default(),
                policy: "tracks".into(),
                track_id: track.map(Uuid::from_u128),
                track_sequence,
                key: Uuid::from_u128(id).to_string(),
                filename,
                declared_content_type: kind,
                declared_size,
                declared_checksum_algorithm: algorithm,
                declared_checksum: sum,
                strategy: "put".into(),
                write_once: flags[0],
                metadata: serde_json::json!(pairs),
                url_expires_at: moments[0],
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
                checksum: b,
                uploaded_at: some[0].then_some(moments[1]),
                object_delete_after: some[1].then_some(moments[2]),
                object_deleted_at: some[2].then_some(moments[3]),
                version: 1,
                created_at: moments[4],
                updated_at: moments[5],
            }
        }
    }

    /// On PostgreSQL rows are read by another trait than sea-orm's.
    #[tokio::test]
    async fn on_both_databases_rows_are_what_sea_orm_reads() {
        use sea_orm::EntityTrait as _;
        let drawn = proptest::collection::vec(row(), 40).new_tree(&mut TestRunner::deterministic());
        let mut rows = drawn.unwrap().current();
        for row in &mut rows {
            // There is no such track, and PostgreSQL's JSON holds no NUL.
            row.track_id = None;
            row.metadata = serde_json::json!({"a": "b"});
        }
        on_both(async |db: Db| {
            for row in &rows {
                row.clone().into_active_model().reset_all().insert(&db.write).await.unwrap();
            }
            let query = || upload::Entity::find().order_by_asc(upload::Column::Key);
            let plain = query().all(&db.read).await.unwrap();
            assert_eq!(plain.len(), rows.len());
            assert_eq!(super::all(&db.read, query()).await.unwrap(), plain);
        })
        .await;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn rows_are_what_sea_orm_reads(mut rows in proptest::collection::vec(row(), 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let [packed, some, plain] = runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let settings = DbSettings {
                    url: format!("sqlite://{}", folder.path().join("rows.db").display()).into(),
                    max_connections: 1,
                    busy_timeout: Duration::from_secs(20),
                };
                let db = Db::connect(&settings).await.unwrap();
                db.migrate_up().await.unwrap();
                db.write.execute_unprepared("PRAGMA foreign_keys = off").await.unwrap();
                for row in &rows {
                    row.clone().into_active_model().reset_all().insert(&db.write).await.unwrap();
                }
                let query = || {
                    use sea_orm::EntityTrait as _;
                    upload::Entity::find().order_by_asc(upload::Column::Key)
                };
                let some = query().filter(upload::Column::Policy.eq("tracks")).limit(3);
                let written = super::statement(&db.read, some.as_query());
                assert!(written.sql.ends_with("= ? ORDER BY \"uploads\".\"key\" ASC LIMIT 3"), "{written}");
                assert_eq!(written.values.map(|values| values.0.len()), Some(1));
                let all = super::all(&db.read, query()).await.unwrap();
                let some = super::all(&db.read, some).await.unwrap();
                [all, some, query().all(&db.read).await.unwrap()]
            });
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            prop_assert_eq!(&packed, &rows);
            prop_assert_eq!(&packed, &plain);
            prop_assert_eq!(&some[..], &rows[..rows.len().min(3)]);
        }
    }
}
