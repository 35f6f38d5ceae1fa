//! Single uploads, by group: what a thread is asked while a query of it is on its way shares
//! the next one, so that many clients who poll cost few queries. An answer is never older than its
//! question.

use std::collections::HashMap;
use std::sync::Arc;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, Select};
use uuid::Uuid;

use crate::db::engine::batcher::EachThread;
use crate::db::engine::pinned::Kept;
use crate::db::engine::texts::Texts;
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
    let sql = queries.get(many.ilog2() as usize, || kept.text(in_group(many)));
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

/// So many uploads by their ids. (No `LIMIT ?`, which makes `SQLite` prepare its statement anew each
/// time.)
fn in_group(many: usize) -> Select<upload::Entity> {
    upload::Entity::find().filter(Column::Id.is_in(std::iter::repeat_n(Uuid::nil(), many)))
}

/// By how many ids they ask for, a power of two up to [`GROUP`]: few lengths, for the database to
/// prepare as few.
type Queries = Texts<{ GROUP.ilog2() as usize + 1 }>;

#[cfg(test)]
mod tests {
    use sea_orm::QueryTrait as _;

    use super::*;
    use crate::db::Db;
    use crate::db::testing::on_both;

    #[tokio::test]
    async fn a_group_goes_by_its_ids_even_while_there_is_no_row() {
        on_both(async |db: Db| {
            for many in [1, 4, GROUP] {
                let query = in_group(many).build(db.read.get_database_backend());
                let plan = db.explain(query).await.expect("a plan").join("\n");
                assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN"), "{many}: {plan}");
            }
        })
        .await;
    }
}
