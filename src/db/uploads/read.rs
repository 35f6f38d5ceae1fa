//! Single uploads, by group: what a thread is asked while a query of it is on its way shares
//! the next one, so that many clients who poll cost few queries. An answer is never older than its
//! question.

use std::collections::HashMap;
use std::sync::Arc;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use crate::db::group::EachThread;
use crate::db::kept::Kept;
use crate::db::texts::Texts;
use crate::db::{DbError, Result};
use crate::domain::{Owner, Upload, UploadId};

/// How many share a query at most.
const GROUP: usize = 128;

/// Whose upload is asked for.
type Asked = (Owner, UploadId);

/// The way to the tasks that read.
pub(in crate::db) type Reader = EachThread<Asked, Option<Arc<Upload>>>;

/// Prepares the tasks that read.
pub(in crate::db) fn reader(kept: Arc<Kept>) -> Reader {
    let queries = Arc::new(Queries::default());
    EachThread::start("reading uploads", GROUP, move |asked| {
        read_group(Arc::clone(&kept), Arc::clone(&queries), asked)
    })
}

async fn read_group(
    kept: Arc<Kept>,
    queries: Arc<Queries>,
    asked: Vec<Asked>,
) -> Vec<Result<Option<Arc<Upload>>>> {
    let many = asked.len().next_power_of_two();
    // The last one again and again.
    let padding = asked.last().into_iter().cycle();
    let ids = asked.iter().chain(padding).take(many).map(|(_, id)| id.0);
    let sql = queries.get(many.ilog2() as usize, || {
        // (No `LIMIT ?`, which makes SQLite prepare its statement anew each time.)
        let any = std::iter::repeat_n(Uuid::nil(), many);
        kept.text(upload::Entity::find().filter(Column::Id.is_in(any)))
    });
    match kept.rows::<upload::Model>(sql, ids).await {
        Ok(rows) => {
            let read = |row: upload::Model| {
                let whose = (Owner::named(row.owner.as_str()), UploadId(row.id));
                (whose, Upload::try_from(row).map(Arc::new))
            };
            let uploads: HashMap<Asked, Result<Arc<Upload>>> = rows.into_iter().map(read).collect();
            asked.iter().map(|asked| uploads.get(asked).cloned().transpose()).collect()
        }
        Err(error) => {
            let error = DbError::from(error);
            asked.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

/// By how many ids they ask for, a power of two up to [`GROUP`]: few lengths, for the database to
/// prepare as few.
type Queries = Texts<{ GROUP.ilog2() as usize + 1 }>;
