//! The history of uploads: a row for each change of status, written with the change.

use entity::upload;
use entity::upload_history::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{CommonTableExpression, Expr, Query, WithClause};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, Iterable as _,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait as _,
};

use super::Uploads;
use super::row::to_change;
use crate::db::{DbError, Result};
use crate::domain::history::Cause;
use crate::domain::{Status, StatusChange, Upload, UploadId};

/// Rows in one statement: eight parameters each, and `SQLite` allows 32,766.
const CHUNK: usize = 1000;

/// The largest number of changes that are read. Most uploads change only a few times, but a client
/// can presign an expired one again and again.
const MAX_READ: u64 = 1000;

/// A change to record.
#[derive(Debug, Clone)]
pub(super) struct NewStatusChange<'a> {
    /// The upload after the change.
    pub upload: &'a Upload,
    /// The status before.
    pub from: Status,
    /// Why it changed.
    pub cause: &'a Cause,
}

impl NewStatusChange<'_> {
    fn row(&self) -> ActiveModel {
        let Self { upload, from, cause: Cause { by, detail } } = self;
        ActiveModel {
            upload_id: Set(upload.id.0),
            version: Set(upload.version),
            at: Set(upload.updated_at),
            from_status: Set(from.name().to_owned()),
            to_status: Set(upload.status().name().to_owned()),
            changed_by: Set(by.to_string()),
            reason: Set(upload.state.reason().map(str::to_owned)),
            detail: Set(detail.clone()),
        }
    }
}

/// Records changes, in the transaction that makes them.
pub(super) async fn add(
    connection: &impl ConnectionTrait,
    changes: impl IntoIterator<Item = NewStatusChange<'_>>,
) -> Result<()> {
    let rows: Vec<_> = changes.into_iter().map(|change| change.row()).collect();
    for rows in rows.chunks(CHUNK) {
        Entity::insert_many(rows.to_vec()).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// Writes an upload whose version was raised, if its row still has the version that was read, and
/// records the change: both in one statement. Only PostgreSQL supports that. Returns the number of
/// written rows.
pub(super) async fn update_and_record(
    connection: &impl ConnectionTrait,
    change: &NewStatusChange<'_>,
) -> Result<u64> {
    let upload = change.upload;
    let mut update = upload::Entity::update_many()
        .set(upload::ActiveModel { version: Set(upload.version), ..to_change(upload) })
        .filter(upload::Column::Id.eq(upload.id.0))
        .filter(upload::Column::Version.eq(upload.version - 1))
        .into_query();
    update.returning_col(upload::Column::Id);
    let mut changed = CommonTableExpression::new();
    changed.query(update).table_name("changed");
    let row = change.row();
    let values = Column::iter().filter_map(|column| match row.get(column) {
        ActiveValue::Set(value) => Some((column, Expr::val(value))),
        ActiveValue::Unchanged(_) | ActiveValue::NotSet => None,
    });
    let (columns, values): (Vec<_>, Vec<_>) = values.unzip();
    let mut insert = Query::insert();
    insert.into_table(Entity).columns(columns);
    insert
        .select_from(Query::select().exprs(values).from("changed").take())
        .map_err(|error| DbError::Statement(sea_orm::DbErr::Custom(error.to_string())))?;
    let statement = insert.with(WithClause::new().cte(changed).to_owned());
    Ok(connection.execute(&statement).await?.rows_affected())
}

impl Uploads<'_> {
    /// The newest [`MAX_READ`] changes of an upload's status, oldest first.
    pub async fn history(self, id: UploadId) -> Result<Vec<StatusChange>> {
        let rows = Entity::find()
            .filter(Column::UploadId.eq(id.0))
            .order_by_desc(Column::Version)
            .limit(MAX_READ)
            .all(&self.engine.read)
            .await?;
        rows.into_iter().rev().map(TryInto::try_into).collect()
    }
}

impl TryFrom<Model> for StatusChange {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model { upload_id, version: _, at, from_status, to_status, changed_by, reason, detail } =
            row;
        let status = |column, name: &str| {
            let bad =
                || DbError::Corrupt { table: "upload_history", column, id: upload_id.to_string() };
            name.parse().map_err(|()| bad())
        };
        Ok(Self {
            at,
            from: status("from_status", &from_status)?,
            to: status("to_status", &to_status)?,
            by: changed_by,
            reason,
            detail,
        })
    }
}
