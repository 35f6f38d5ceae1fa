//! Reads of single uploads, in batches: requests that arrive at a thread during a query share the
//! next query. So many clients that poll cause few queries. A result is never older than its
//! request.

use std::collections::HashMap;
use std::sync::Arc;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _};

use crate::db::engine::batcher::PerThreadBatcher;
use crate::db::engine::sqlite_json;
use crate::db::{DbError, Result};
use crate::domain::{Owner, Upload, UploadId};

/// Largest number of uploads in one query.
const MAX_BATCH: usize = 128;

type Key = (Owner, UploadId);

/// Submits reads to the task of the current thread.
pub(super) type UploadReader = PerThreadBatcher<Key, Option<Arc<Upload>>>;

/// Prepares the tasks. The task of a thread starts with its first read.
pub(super) fn start(read: DatabaseConnection) -> UploadReader {
    PerThreadBatcher::start("reading uploads", MAX_BATCH, move |keys| {
        read_batch(read.clone(), keys)
    })
}

async fn read_batch(read: DatabaseConnection, keys: Vec<Key>) -> Vec<Result<Option<Arc<Upload>>>> {
    // The list is filled with copies of the last id up to a power of two, so that the databases
    // prepare few different statements.
    let padding = keys.last().into_iter().cycle();
    let ids = keys.iter().chain(padding).take(keys.len().next_power_of_two());
    let query = upload::Entity::find().filter(Column::Id.is_in(ids.map(|(_, id)| id.0)));
    match sqlite_json::all(&read, query).await {
        Ok(rows) => {
            let uploads: HashMap<Key, Result<Arc<Upload>>> = rows
                .into_iter()
                .map(|row| {
                    let key = (Owner::named(row.owner.as_str()), UploadId(row.id));
                    (key, Upload::try_from(row).map(Arc::new))
                })
                .collect();
            keys.iter().map(|key| uploads.get(key).cloned().transpose()).collect()
        }
        Err(error) => {
            let error = DbError::from(error);
            keys.iter().map(|_| Err(error.clone())).collect()
        }
    }
}
