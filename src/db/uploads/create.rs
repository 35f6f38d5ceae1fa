//! Creates uploads with group commit: uploads that arrive during a commit share the next commit.

use std::error::Error;
use std::sync::Arc;

use entity::upload;
use sea_orm::ActiveValue::NotSet;
use sea_orm::{DatabaseTransaction, EntityTrait};

use super::quota::Quota;
use super::row::to_row;
use crate::db::attachments::locked_subjects::{LockedSubjects, SubjectsToLock};
use crate::db::engine::batcher::Batcher;
use crate::db::engine::pool::Engine;
use crate::db::idempotency::{Claim, complete};
use crate::db::upload_tokens::locked_tokens::LockedTokens;
use crate::db::{DbError, Result};
use crate::domain::upload::State;
use crate::domain::{Subject, Upload};

/// Largest number of uploads in one commit: with 40 columns each they stay below the 32,766
/// parameters of `SQLite` and the 65,535 of PostgreSQL.
pub(super) const MAX_BATCH: usize = 256;

/// The created upload; `None` if its subject belongs to a track that the owner does not have.
pub type Created = Result<Option<Upload>>;

/// An upload to insert.
#[derive(Debug)]
pub struct NewUploadRow {
    /// The upload.
    pub upload: Upload,
    /// The subject that the upload is attached to.
    pub subject: Option<Subject>,
    /// The idempotency key that is completed in the same transaction.
    pub claim: Option<Claim>,
}

/// Submits new uploads to the task that commits them in batches.
pub(super) type UploadCreator = Batcher<NewUploadRow, Option<Upload>>;

/// Starts the task that commits new uploads, on the current runtime. An upload for a subject gets
/// the next number of the subject's sequence and becomes its newest upload. If the caller is
/// dropped, the row may still be committed; it expires like any other pending upload.
pub(super) fn start(engine: Engine, quota: Arc<Quota>) -> UploadCreator {
    Batcher::start("creating uploads", MAX_BATCH, move |new| {
        commit(engine.clone(), Arc::clone(&quota), new)
    })
}

/// Commits a batch; the results are in its order. If the batch fails because of one row, each row
/// is committed alone, so that only that row returns an error.
async fn commit(engine: Engine, quota: Arc<Quota>, new: Vec<NewUploadRow>) -> Vec<Created> {
    match insert(&engine, &quota, &new, None).await {
        Ok(results) => results,
        Err(error) if new.len() == 1 => vec![Err(error)],
        // It is unknown whether the batch was committed. A second attempt might report a duplicate
        // id.
        Err(DbError::Unavailable(error)) => {
            tracing::warn!(
                creations = new.len(),
                error = &error as &dyn Error,
                "it is unknown whether a batch of uploads was committed"
            );
            new.iter().map(|_| Err(DbError::Busy)).collect()
        }
        Err(_) => {
            let mut results: Vec<Created> = Vec::with_capacity(new.len());
            for one in &new {
                if matches!(results.last(), Some(Err(DbError::Unavailable(_) | DbError::Busy))) {
                    results.push(Err(DbError::Busy));
                    continue;
                }
                let inserted = insert(&engine, &quota, std::slice::from_ref(one), None).await;
                results.push(inserted.and_then(|mut one| one.pop().unwrap_or(Ok(None))));
            }
            results
        }
    }
}

/// The idempotency key of a whole batch, and a function from the results to the value that is
/// stored with the key.
pub(super) struct BatchClaim<'a> {
    pub claim: &'a Claim,
    pub outcome: &'a (dyn Fn(&[Created]) -> Option<String> + Sync),
}

/// Inserts a batch in one transaction; the results are in its order. The number of statements does
/// not depend on the number of uploads: one for the rows, up to six for subjects, two for upload
/// tokens, and up to three for each owner with a quota. Each idempotency key takes one more.
///
/// Fails if a row cannot be written, or if the idempotency key of the batch is gone.
pub(super) async fn insert(
    engine: &Engine,
    quota: &Quota,
    new: &[NewUploadRow],
    batch_claim: Option<BatchClaim<'_>>,
) -> Result<Vec<Created>> {
    let txn = engine.begin().await?;
    let mut subjects = lock_subjects(&txn, engine.is_postgres(), new).await?;
    let tokens = new.iter().filter_map(|new| new.upload.token);
    let mut tokens = LockedTokens::lock(&txn, engine.is_postgres(), tokens).await?;
    let mut usage = quota.usage(&txn, new.iter().map(|new| &new.upload)).await?;
    let mut results = Vec::with_capacity(new.len());
    let mut rows = Vec::with_capacity(new.len());
    for NewUploadRow { upload, subject, claim } in new {
        if let Err(over) = usage.check(upload) {
            results.push(Err(over));
            continue;
        }
        let locked = |subject| subjects.get(&upload.owner, subject).is_some();
        if !subject.as_ref().is_none_or(locked) {
            results.push(Ok(None));
            continue;
        }
        if let Some(Err(refused)) = upload.token.map(|token| tokens.check(token)) {
            results.push(Err(refused.into()));
            continue;
        }
        if let Some(claim) = claim
            && !complete(&txn, claim, None).await?
        {
            results.push(Err(DbError::Busy));
            continue;
        }
        if let Some(token) = upload.token {
            tokens.count(token);
        }
        let mut upload = upload.clone();
        if let Some(subject) = subject
            && let Some(locked) = subjects.get_mut(&upload.owner, subject)
        {
            upload.slot = Some(locked.draw(&upload));
        }
        usage.add(&upload);
        rows.push(new_row(&upload));
        results.push(Ok(Some(upload)));
    }
    if let Some(BatchClaim { claim, outcome }) = batch_claim
        && !complete(&txn, claim, outcome(&results)).await?
    {
        txn.rollback().await?;
        return Err(DbError::Busy);
    }
    insert_rows(&txn, rows).await?;
    tokens.save(&txn).await?;
    subjects.save(&txn).await?;
    txn.commit().await?;
    Ok(results)
}

/// The row of a new upload. A pending upload omits the columns that are NULL until its file
/// arrives.
fn new_row(upload: &Upload) -> upload::ActiveModel {
    if !matches!(upload.state, State::Pending) {
        return to_row(upload);
    }
    upload::ActiveModel {
        reason: NotSet,
        confirmed_by: NotSet,
        etag: NotSet,
        version_id: NotSet,
        size: NotSet,
        content_type: NotSet,
        checksum_algorithm: NotSet,
        checksum: NotSet,
        uploaded_at: NotSet,
        object_delete_after: NotSet,
        object_deleted_at: NotSet,
        detail: NotSet,
        annotations: NotSet,
        waiting_for: NotSet,
        ..to_row(upload)
    }
}

async fn insert_rows(txn: &DatabaseTransaction, rows: Vec<upload::ActiveModel>) -> Result<()> {
    if !rows.is_empty() {
        upload::Entity::insert_many(rows).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// Locks the subjects, and creates the missing rows of subjects.
async fn lock_subjects(
    txn: &DatabaseTransaction,
    postgres: bool,
    new: &[NewUploadRow],
) -> Result<LockedSubjects> {
    let mut to_lock = SubjectsToLock::new();
    for NewUploadRow { upload, subject, .. } in new {
        if let Some(subject) = subject {
            // The new row of a subject can use the id of the upload: an upload has at most one
            // subject.
            let row = Some((upload.id.0, upload.created_at));
            to_lock.entry((upload.owner.as_str(), subject)).or_insert(row);
        }
    }
    LockedSubjects::lock(txn, postgres, to_lock).await
}
