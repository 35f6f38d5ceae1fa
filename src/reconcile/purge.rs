//! Deleting orphans that an audit found, on request.
//!
//! A store can't be fenced: what makes a deletion safe is a committed row in a final
//! state. So an orphan first gets one, after which no upload of that id can be created;
//! an id that has a row is never an orphan, whatever an old finding says.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::Reconciler;
use super::marker::{self, BucketIdentity};
use crate::app::{App, AppError};
use crate::domain::run::{Finding, FindingKind};
use crate::domain::transition::Event;
use crate::domain::upload::{Declared, Deletion, RemoveReason, State, Strategy};
use crate::domain::{Owner, Policy, PolicyName, RunId, Upload, UploadId};
use crate::storage::{ObjectMeta, Store};

/// Findings read at a time.
const PAGE: u64 = 200;

/// Who owns the rows of orphans: nobody who can sign in.
const OWNER: &str = "system:orphans";

/// What is asked of a purge.
#[derive(Debug, Clone, Copy)]
pub struct Purge {
    /// The run whose findings say which objects are orphans.
    pub run: RunId,
    /// Only objects older than this; the policy's grace at least.
    pub older_than: TimeDelta,
    /// How many objects at most; a run's budget at most.
    pub limit: u64,
    /// Say what would be deleted, and delete nothing.
    pub dry_run: bool,
}

/// What a purge did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The objects that were deleted, or would be.
    pub keys: Vec<String>,
    /// How many findings were no orphans any more, too young, or could not be deleted.
    pub skipped: u64,
}

/// Why a purge ended early.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Nobody knows whose bucket it is.
    #[error("{0}")]
    BucketMismatch(String),
    /// The run is not known, or database or store failed.
    #[error(transparent)]
    App(#[from] AppError),
}

impl Reconciler {
    /// Deletes orphans that a run found.
    pub async fn purge_orphans(&self, purge: Purge) -> Result<Purged, PurgeError> {
        let app = &self.app;
        app.db
            .runs()
            .find(purge.run)
            .await
            .map_err(AppError::from)?
            .ok_or(AppError::NotFound("run"))?;
        let limit = purge.limit.min(self.settings.max_deletions);
        let mut purged = Purged::default();
        let mut checked = BTreeSet::new();
        let mut cursor = None;
        loop {
            let kind = Some(FindingKind::Orphan);
            let page = app.db.findings().list(purge.run, kind, cursor.as_ref(), PAGE).await;
            let page = page.map_err(AppError::from)?;
            for finding in page.items {
                if purged.keys.len() as u64 >= limit {
                    return Ok(purged);
                }
                if purge_one(app, purge, &finding, &mut checked).await? {
                    purged.keys.push(finding.key);
                } else {
                    purged.skipped += 1;
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(purged);
            }
        }
    }
}

/// Deletes one orphan, or says that it is none.
async fn purge_one(
    app: &App,
    purge: Purge,
    finding: &Finding,
    checked: &mut BTreeSet<PolicyName>,
) -> Result<bool, PurgeError> {
    let Some(policy) = app.policies.get(&finding.policy) else { return Ok(false) };
    let Some(id) = policy.prefix.parse_key(&finding.key) else { return Ok(false) };
    if app.db.uploads().find_any_owner(id).await.map_err(AppError::from)?.is_some() {
        return Ok(false);
    }
    let store = app.store_of(policy)?;
    let head = store.objects.head(&finding.key).await.map_err(AppError::from)?;
    let age = purge.older_than.max(policy.grace);
    let old = |meta: &ObjectMeta| meta.last_modified.is_some_and(|at| at + age < app.now());
    let Some(meta) = head.filter(old) else { return Ok(false) };
    if !checked.contains(&policy.name) {
        check_bucket_identity(app, policy, store).await?;
        checked.insert(policy.name.clone());
    }
    if purge.dry_run {
        return Ok(true);
    }
    let row = orphan(app, policy, id, &meta);
    if !app.db.uploads().create_ended(&row).await.map_err(AppError::from)? {
        return Ok(false);
    }
    if let Err(error) = store.objects.delete(&finding.key).await {
        tracing::warn!(
            key = finding.key,
            error = &error as &dyn std::error::Error,
            "orphan not deleted; its row is due, and the next run tries again"
        );
        return Ok(false);
    }
    app.apply(row, &Event::ObjectDeleted).await?;
    tracing::info!(run = %purge.run, key = finding.key, size = meta.size, etag = meta.etag,
        "orphan deleted");
    Ok(true)
}

async fn check_bucket_identity(
    app: &App,
    policy: &Policy,
    store: &Store,
) -> Result<(), PurgeError> {
    match marker::check(app, policy, store, false, true).await? {
        BucketIdentity::Match => Ok(()),
        BucketIdentity::Mismatch(why) => Err(PurgeError::BucketMismatch(why)),
    }
}

/// The row that says that the object may go; it stays as the trail of what was deleted.
fn orphan(app: &App, policy: &Policy, id: UploadId, meta: &ObjectMeta) -> Upload {
    let now = app.now();
    Upload {
        id,
        owner: Owner::named(OWNER),
        policy: policy.name.clone(),
        slot: None,
        key: policy.prefix.key(id),
        declared: Declared { size: Some(meta.size), ..Declared::default() },
        strategy: Strategy::Put,
        write_once: false,
        metadata: meta.metadata.clone(),
        url_expires_at: now,
        multipart_id: None,
        part_size: None,
        state: State::Removed { reason: RemoveReason::Orphan, verified: None },
        deletion: Deletion { after: Some(now), done: None },
        version: 1,
        created_at: now,
        updated_at: now,
    }
}
