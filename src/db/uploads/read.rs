//! Single uploads, by group: reads that arrive while a query is on its way share the next
//! one, so that many clients who poll cost few queries. An answer is never older than its
//! question.

use std::collections::HashMap;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _};

use crate::db::group::Grouped;
use crate::db::{DbError, Result, packed};
use crate::domain::{Owner, Upload, UploadId};

/// How many share a query at most.
const GROUP: usize = 128;

/// Whose upload is asked for.
type Asked = (Owner, UploadId);

/// The way to the task that reads.
pub(in crate::db) type Reader = Grouped<Asked, Option<Upload>>;

/// Starts the task that reads, on the ambient runtime.
pub(in crate::db) fn reader(read: DatabaseConnection) -> Reader {
    Grouped::start("reading uploads", GROUP, move |asked| read_group(read.clone(), asked))
}

async fn read_group(read: DatabaseConnection, asked: Vec<Asked>) -> Vec<Result<Option<Upload>>> {
    match rows(&read, &asked).await {
        Ok(rows) => asked
            .iter()
            .map(|(owner, id)| match rows.get(&id.0) {
                Some(row) if row.owner == owner.as_str() => row.clone().try_into().map(Some),
                _ => Ok(None),
            })
            .collect(),
        Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
    }
}

async fn rows(
    read: &DatabaseConnection,
    asked: &[Asked],
) -> Result<HashMap<uuid::Uuid, upload::Model>, DbError> {
    // The last one again and again: few lengths make few statements to prepare. (And no
    // `LIMIT ?`, which makes SQLite prepare its statement anew each time.)
    let padding = asked.last().into_iter().cycle();
    let padded = asked.iter().chain(padding).take(asked.len().next_power_of_two());
    let query = upload::Entity::find().filter(Column::Id.is_in(padded.map(|(_, id)| id.0)));
    let rows = packed::all(read, query).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
