//! Abandoned multipart uploads. Their parts cost money, and a listing of objects does not show
//! them.

use std::collections::HashSet;

use super::worker::{Target, WorkError, Worker};
use crate::app::AppError;
use crate::domain::Upload;
use crate::domain::reconcile::is_abandoned;
use crate::domain::run::{Finding, FindingKind, Stage};
use crate::storage::{OpenMultipart, StoreError};

/// Finds and aborts abandoned multipart uploads, starting at a marker of the store's listing. Each
/// run aborts at most as many as it may delete objects. Does nothing if the store can't list
/// multipart uploads below a prefix.
pub(super) async fn abort_abandoned(
    worker: &Worker<'_>,
    mut marker: Option<String>,
) -> Result<(), WorkError> {
    let Target { location, store, .. } = worker.target;
    if !store.capabilities.list_multiparts {
        return Ok(());
    }
    let reported = reported_before(worker).await?;
    let mut checked = false;
    loop {
        worker.throttle.acquire().await;
        let listed =
            store.objects.list_multiparts(location.prefix.as_str(), marker.as_deref()).await;
        let (open, next) = listed.map_err(AppError::from)?;
        for multipart in open {
            if budget_is_spent(worker) || !is_still_abandoned(worker, &multipart).await? {
                continue;
            }
            if !checked {
                worker.limits.require_own_bucket("multipart uploads are to be aborted").await?;
                checked = true;
            }
            // The finding is saved before the abort, so that a process that continues the shard
            // does not report it again.
            if !reported.contains(&multipart.upload_id) {
                let report = worker.progress.report;
                report.tally().record([finding(worker.target, &multipart)]);
                report.count(|counters| counters.aborted_multipart += 1);
                let at = (Stage::Multiparts, marker.clone());
                worker.progress.save(Vec::new(), at).await?;
            }
            abort(worker, multipart).await;
        }
        if next.is_none() || budget_is_spent(worker) {
            return Ok(());
        }
        if next == marker {
            let what = "the store's listing of multipart uploads does not advance".to_owned();
            return Err(AppError::from(StoreError::Protocol(what)).into());
        }
        marker = next;
    }
}

fn budget_is_spent(worker: &Worker<'_>) -> bool {
    let aborted = worker.progress.report.tally().counters().aborted_multipart;
    aborted >= worker.settings.max_deletions
}

/// The ids of the multipart uploads that an earlier process reported for this shard.
async fn reported_before(worker: &Worker<'_>) -> Result<HashSet<String>, WorkError> {
    let shard = worker.progress.shard;
    if shard.fence <= 1 {
        return Ok(HashSet::new());
    }
    let findings = worker.target.app.db.findings();
    let reported = findings.list_multiparts(shard.run, &shard.policy).await;
    Ok(reported.map_err(AppError::from)?.into_iter().collect())
}

/// Reads the row and lists the parts just before the abort.
async fn is_still_abandoned(
    worker: &Worker<'_>,
    multipart: &OpenMultipart,
) -> Result<bool, WorkError> {
    let Target { app, policy, location, store } = worker.target;
    let OpenMultipart { key, upload_id, initiated } = multipart;
    // An object with a foreign key is never changed.
    let Some(id) = location.prefix.parse_key(key) else { return Ok(false) };
    let row = app.db.uploads().find_any_owner(id).await.map_err(AppError::from)?;
    let abandoned =
        |row: Option<&Upload>, newest| is_abandoned(row, upload_id, newest, app.now(), policy);
    if !abandoned(row.as_ref(), *initiated) {
        return Ok(false);
    }
    worker.throttle.acquire().await;
    let parts = match store.objects.list_parts(key, upload_id).await {
        Ok(parts) => parts,
        // It was completed or aborted after the listing.
        Err(StoreError::NoSuchMultipart) => return Ok(false),
        Err(error) => return Err(AppError::from(error).into()),
    };
    let newest = parts.iter().filter_map(|part| part.last_modified).max();
    Ok(abandoned(row.as_ref(), newest.max(*initiated)))
}

fn finding(target: Target<'_>, multipart: &OpenMultipart) -> Finding {
    let OpenMultipart { key, upload_id, .. } = multipart;
    Finding {
        kind: FindingKind::AbandonedMultipart,
        policy: target.policy.name.clone(),
        upload: target.location.prefix.parse_key(key),
        key: key.clone(),
        size: None,
        detail: Some(upload_id.clone()),
        found_at: target.app.now(),
    }
}

async fn abort(worker: &Worker<'_>, multipart: OpenMultipart) {
    let OpenMultipart { key, upload_id, .. } = multipart;
    if worker.progress.run.request.dry_run {
        return;
    }
    if let Err(error) = worker.target.store.objects.abort_multipart(&key, &upload_id).await {
        worker.progress.report.count(|counters| {
            counters.aborted_multipart = counters.aborted_multipart.saturating_sub(1);
            counters.errors += 1;
        });
        tracing::warn!(
            key,
            error = &error as &dyn std::error::Error,
            "multipart upload not aborted; the next audit tries again"
        );
    }
}
