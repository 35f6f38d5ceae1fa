//! Deletes orphans that an audit found, on request.
//!
//! The store has no transactions, so a deletion is safe only after a row in a final state was
//! committed. An orphan first gets such a row. After that no upload with its id can be created. An
//! id that has a row is never an orphan, even if an older finding says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;

use super::Reconciler;
use crate::app::bucket_identity::CheckOptions;
use crate::app::{App, AppError};
use crate::domain::inspection::Annotations;
use crate::domain::marker::BucketIdentity;
use crate::domain::run::{Finding, FindingKind, StoredFinding};
use crate::domain::transition::Event;
use crate::domain::upload::{Declared, Deletion, RemoveReason, State, Strategy};
use crate::domain::{Location, LocationNumber, Owner, PolicyName, RunId, Upload, UploadId};
use crate::storage::ObjectMeta;

/// How many findings are read at a time.
const PAGE: u64 = 200;

/// The owner of the rows that are created for orphans. No caller can have this name.
const OWNER: &str = "system:orphans";

/// A request to purge orphans.
#[derive(Debug, Clone, Copy)]
pub struct Purge {
    /// The run that found the orphans.
    pub run: RunId,
    /// The smallest age of an object; at least the policy's grace.
    pub older_than: TimeDelta,
    /// The largest number of objects to delete; at most a run's budget.
    pub limit: u64,
    /// Whether to report only, without deleting.
    pub dry_run: bool,
}

/// The result of a purge.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The keys of the objects that were deleted, or in a dry run would be.
    pub keys: Vec<String>,
    /// The number of findings that were not deleted: no longer orphans, too young, or the deletion
    /// failed.
    pub skipped: u64,
}

/// Why a purge ended early.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The bucket is not known to be this database's.
    #[error("{0}")]
    BucketMismatch(String),
    /// The run does not exist, or the database or the store failed.
    #[error(transparent)]
    App(#[from] AppError),
}

impl Reconciler {
    /// Deletes orphans that a run found.
    pub async fn purge_orphans(&self, purge: Purge) -> Result<Purged, PurgeError> {
        let app = &self.app;
        let run = app.run(purge.run).await?;
        let limit = purge.limit.min(self.settings.max_deletions);
        let mut purged = Purged::default();
        let mut locations = BTreeMap::new();
        for policy in app.policies.values() {
            locations.insert(&policy.name, app.locations_of(policy).await?);
        }
        let mut checked = BTreeSet::new();
        let mut cursor = None;
        loop {
            let kind = Some(FindingKind::Orphan);
            let page = app.db.findings().list(&run, kind, cursor.as_ref(), PAGE).await;
            let page = page.map_err(AppError::from)?;
            for StoredFinding { finding, .. } in page.items {
                if purged.keys.len() as u64 >= limit {
                    return Ok(purged);
                }
                let locations_of_policy =
                    locations.get(&finding.policy).map(Vec::as_slice).unwrap_or_default();
                if purge_one(app, purge, (&finding, locations_of_policy), &mut checked).await? {
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

/// Deletes one orphan. Returns `true` if it was deleted, or in a dry run would be.
async fn purge_one(
    app: &App,
    purge: Purge,
    (finding, locations): (&Finding, &[Arc<Location>]),
    checked: &mut BTreeSet<(PolicyName, LocationNumber)>,
) -> Result<bool, PurgeError> {
    let Some(policy) = app.policies.get(&finding.policy) else { return Ok(false) };
    // A finding does not contain its location, so the object may be at any location of the policy.
    for location in locations {
        let (Some(id), Ok(store)) =
            (location.prefix.parse_key(&finding.key), app.store_at(location))
        else {
            continue;
        };
        if app.db.uploads().find_any_owner(id).await.map_err(AppError::from)?.is_some() {
            return Ok(false);
        }
        let head = store.objects.head(&finding.key).await.map_err(AppError::from)?;
        let age = purge.older_than.max(policy.grace);
        let is_old = |meta: &ObjectMeta| meta.last_modified.is_some_and(|at| at + age < app.now());
        let Some(meta) = head.filter(is_old) else { continue };
        if !checked.contains(&(policy.name.clone(), location.number)) {
            require_own_bucket(app, location).await?;
            checked.insert((policy.name.clone(), location.number));
        }
        return delete_orphan(app, purge, orphan(app, location, id, &meta), &meta).await;
    }
    Ok(false)
}

/// Creates the row for an orphan, and then deletes the object.
async fn delete_orphan(
    app: &App,
    purge: Purge,
    row: Upload,
    meta: &ObjectMeta,
) -> Result<bool, PurgeError> {
    if purge.dry_run {
        return Ok(true);
    }
    if !app.db.uploads().create_ended(&row).await.map_err(AppError::from)? {
        return Ok(false);
    }
    let (_, store) = app.rules_of(&row).await?;
    let key = row.key.clone();
    if let Err(error) = store.objects.delete(key.as_str()).await {
        tracing::warn!(
            key = key.as_str(),
            error = &error as &dyn std::error::Error,
            "orphan not deleted; the next run tries again"
        );
        return Ok(false);
    }
    app.apply(row, &Event::ObjectDeleted).await?;
    tracing::info!(run = %purge.run, key = key.as_str(), size = meta.size, etag = meta.etag,
        "orphan deleted");
    Ok(true)
}

async fn require_own_bucket(app: &App, location: &Location) -> Result<(), PurgeError> {
    let options = CheckOptions { dry_run: true, ..CheckOptions::default() };
    match app.check_location(location, options).await? {
        BucketIdentity::Match => Ok(()),
        unverified => {
            Err(PurgeError::BucketMismatch(format!("policy `{}`: {unverified}", location.policy)))
        }
    }
}

/// The row that allows the deletion. It remains as a record of the deletion.
fn orphan(app: &App, location: &Location, id: UploadId, meta: &ObjectMeta) -> Upload {
    let now = app.now();
    Upload {
        id,
        owner: Owner::named(OWNER),
        token: None,
        policy: location.policy.clone(),
        location: location.number,
        slot: None,
        key: location.prefix.key(id),
        declared: Declared { size: Some(meta.size), ..Declared::default() },
        strategy: Strategy::Put,
        write_once: false,
        metadata: meta.metadata.clone(),
        url_expires_at: now,
        multipart_id: None,
        part_size: None,
        state: State::Removed { reason: RemoveReason::Orphan, verified: None },
        detail: None,
        annotations: Annotations::new(),
        deletion: Deletion { after: Some(now), done: None },
        version: 1,
        created_at: now,
        updated_at: now,
    }
}
