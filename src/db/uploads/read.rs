//! Single uploads, by group: what a thread is asked while a query of it is on its way shares
//! the next one, so that many clients who poll cost few queries. An answer is never older than its
//! question.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use crate::db::group::EachThread;
use crate::db::kept::Kept;
use crate::db::{DbError, Result};
use crate::domain::{Owner, Upload, UploadId};

/// How many share a query at most.
const GROUP: usize = 128;

/// Whose upload is asked for.
type Asked = (Owner, UploadId);

/// The way to the tasks that read.
pub(in crate::db) type Reader = EachThread<Asked, Option<Upload>>;

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
) -> Vec<Result<Option<Upload>>> {
    let many = asked.len().next_power_of_two();
    // The last one again and again.
    let padding = asked.last().into_iter().cycle();
    let ids = asked.iter().chain(padding).take(many).map(|(_, id)| id.0);
    match kept.rows::<upload::Model>(queries.of(&kept, many), ids).await {
        Ok(rows) => {
            let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
            let own = |(owner, id): &Asked| {
                let row = rows.get(&id.0).filter(|row| row.owner == owner.as_str());
                row.cloned().map(TryInto::try_into).transpose()
            };
            asked.iter().map(own).collect()
        }
        Err(error) => {
            let error = DbError::from(error);
            asked.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

/// The texts of the queries, by how many ids they ask for: few lengths, for the database to
/// prepare as few. They are written once.
#[derive(Default)]
struct Queries([OnceLock<String>; GROUP.ilog2() as usize + 1]);

impl Queries {
    /// `many` is a power of two, up to [`GROUP`].
    fn of(&self, kept: &Kept, many: usize) -> &str {
        self.0[many.ilog2() as usize].get_or_init(|| {
            // (No `LIMIT ?`, which makes SQLite prepare its statement anew each time.)
            let any = std::iter::repeat_n(Uuid::nil(), many);
            kept.text(upload::Entity::find().filter(Column::Id.is_in(any)))
        })
    }
}
