//! Uploads: created, read by their owner, watched, and saved after a transition.

use std::sync::Arc;

use entity::upload::{self, Column};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait as _};

use super::engine::pool::Engine;
use super::engine::sqlite_json;
use super::idempotency::Claim;
use super::inspections::InspectionQueue;
use super::webhooks::Outbox;
use super::{Cursor, Page, Result};
use crate::domain::{LimitReached, Owner, Status, Subject, Upload, UploadId};

mod change;
mod create;
mod find;
mod history;
mod list;
mod locked_rows;
mod quota;
mod reopen;
mod row;
mod save;
mod verified_before;
mod watch;

use create::{BatchClaim, UploadCreator};
use find::UploadReader;
use watch::Watchers;

pub use change::{Change, Saved};
pub use create::{Created, NewUploadRow};
pub use list::{UPLOAD_ORDER, UploadFilter};
pub use quota::{Quota, quota_name};
pub use watch::Watch;

/// State in memory that all clones of [`Db`](super::Db) share.
#[derive(Clone)]
pub(super) struct UploadsState {
    watchers: Arc<Watchers>,
    pub(super) inspections: Arc<InspectionQueue>,
    quota: Arc<Quota>,
    creator: UploadCreator,
    reader: UploadReader,
}

impl UploadsState {
    /// Starts the tasks that create and read on the current runtime.
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            watchers: Arc::default(),
            inspections: Arc::default(),
            quota: Arc::default(),
            creator: create::start(engine.clone(), Arc::default()),
            reader: find::start(engine.read.clone()),
        }
    }

    pub(super) fn with_quota(self, engine: &Engine, quota: Quota) -> Self {
        let quota = Arc::new(quota);
        let creator = create::start(engine.clone(), Arc::clone(&quota));
        Self { quota, creator, ..self }
    }
}

/// Uploads.
#[derive(Clone, Copy)]
pub struct Uploads<'a> {
    pub(super) engine: &'a Engine,
    pub(super) outbox: &'a Outbox,
    pub(super) state: &'a UploadsState,
}

impl Uploads<'_> {
    /// Commits a new upload. With a subject it gets the next number of the subject's sequence and
    /// becomes its newest upload; `None` if the subject belongs to a track that the owner does not
    /// have.
    pub async fn create(self, upload: Upload, subject: Option<Subject>) -> Result<Option<Upload>> {
        self.create_claimed(upload, subject, None).await
    }

    /// Like [`Self::create`], and completes an idempotency key in the same transaction.
    pub async fn create_claimed(
        self,
        upload: Upload,
        subject: Option<Subject>,
        claim: Option<&Claim>,
    ) -> Result<Option<Upload>> {
        let claim = claim.cloned();
        self.state.creator.try_submit(NewUploadRow { upload, subject, claim }).await
    }

    /// Commits up to 256 new uploads in a separate transaction, and completes the idempotency key
    /// of the request that creates them. `outcome` gets the results, in the order of the uploads,
    /// and returns the text to store with the key.
    ///
    /// # Errors
    /// If nothing is committed: the database fails, another request has used the key, or an
    /// upload's id is taken.
    pub async fn create_many(
        self,
        new: &[NewUploadRow],
        claim: Option<&Claim>,
        outcome: &(dyn Fn(&[Created]) -> Option<String> + Sync),
    ) -> Result<Vec<Created>> {
        debug_assert!(new.len() <= create::MAX_BATCH);
        let batch_claim = claim.map(|claim| BatchClaim { claim, outcome });
        create::insert(self.engine, &self.state.quota, new, batch_claim).await
    }

    /// An upload of this owner.
    pub async fn find(self, owner: &Owner, id: UploadId) -> Result<Option<Upload>> {
        Ok(self.state.reader.submit((owner.clone(), id)).await?.map(Arc::unwrap_or_clone))
    }

    /// The uploads of this owner with these ids, in no order.
    pub async fn find_many(self, owner: &Owner, ids: &[UploadId]) -> Result<Vec<Upload>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = upload::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::Id.is_in(ids.iter().map(|id| id.0)));
        sqlite_json::all(&self.engine.read, query)
            .await?
            .into_iter()
            .map(TryInto::try_into)
            .collect()
    }

    /// The uploads of any owner with these ids, in no order.
    pub async fn find_many_any_owner(self, ids: &[UploadId]) -> Result<Vec<Upload>> {
        let query = upload::Entity::find().filter(Column::Id.is_in(ids.iter().map(|id| id.0)));
        let rows = sqlite_json::all(&self.engine.read, query).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// A page of an owner's uploads, newest first.
    pub async fn list(self, owner: &Owner, filter: &UploadFilter) -> Result<Page<Upload>> {
        let rows = self.engine.read_page(filter.query(owner)).await?;
        let page = Page::cut(rows, filter.limit, |row| Cursor {
            order: UPLOAD_ORDER.to_owned(),
            value: row.created_at.to_rfc3339(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Up to `limit` uploads of a subject that are not in a final state.
    pub async fn list_open_of(
        self,
        owner: &Owner,
        subject: &Subject,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let open = Status::ALL.into_iter().filter(|status| !status.is_final()).map(Status::name);
        let query = upload::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::AttachTo.eq(subject.as_str()))
            .filter(Column::Status.is_in(open))
            .limit(limit);
        query.all(&self.engine.read).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// An upload of any owner.
    pub async fn find_any_owner(self, id: UploadId) -> Result<Option<Upload>> {
        upload::Entity::find_by_id(id.0)
            .one(&self.engine.read)
            .await?
            .map(TryInto::try_into)
            .transpose()
    }

    /// Inserts an upload in a final state; `false` if there is one with its id or key.
    pub async fn create_ended(self, upload: &Upload) -> Result<bool> {
        Ok(self.create_unless_exists(std::slice::from_ref(upload)).await? == 1)
    }

    /// Inserts uploads in one statement, except uploads whose id or key exists already. Returns how
    /// many were inserted. The uploads must fit in one statement: at most as many as in a batch.
    pub async fn create_unless_exists(self, uploads: &[Upload]) -> Result<u64> {
        if uploads.is_empty() {
            return Ok(0);
        }
        let added = upload::Entity::insert_many(uploads.iter().map(row::to_row))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.engine.write)
            .await?;
        Ok(added)
    }

    /// The query plan of a list, line by line.
    #[doc(hidden)]
    pub async fn explain_list(self, owner: &Owner, filter: &UploadFilter) -> Result<Vec<String>> {
        let backend = self.engine.read.get_database_backend();
        self.engine.explain(filter.query(owner).build(backend)).await
    }

    /// Sets the largest number of watchers at the same time, in total and for each owner.
    pub fn limit_watchers(self, total: usize, per_owner: usize) {
        self.state.watchers.set_limits(total, per_owner);
    }

    /// The number of watchers now.
    pub fn watchers(self) -> usize {
        self.state.watchers.count()
    }

    /// Ends all watches and refuses new ones.
    pub(super) fn end_watches(self) {
        self.state.watchers.end();
    }

    /// Watches an upload for an owner. A caller that reads the row after this call misses no
    /// change.
    pub fn watch(self, owner: &Owner, id: UploadId) -> Result<Watch, LimitReached> {
        watch::watch(&self.state.watchers, self.engine, owner, id)
    }
}
