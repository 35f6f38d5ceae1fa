//! Creates uploads from orphans, on request. For example, after an older backup of the database was
//! restored, the bucket has objects of uploads that were created after the backup.
//!
//! An object becomes an upload if it passes the rules; otherwise it stays a finding. Nothing is
//! deleted. A row is inserted only if its id is unknown. So if an adoption and a purge run at the
//! same time, the first to insert the row wins. An upload that is being created is not affected:
//! its object is younger than the policy's grace, so it is not an orphan.

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::report::object_finding;
use super::worker::{Target, WorkError, Worker};
use crate::app::AppError;
use crate::domain::inspection::Annotations;
use crate::domain::reconcile::Listed;
use crate::domain::run::{Finding, FindingKind};
use crate::domain::transition::step;
use crate::domain::upload::{ConfirmedBy, Declared, Deletion, State, Strategy};
use crate::domain::{Location, Owner, Policy, RejectReason, Timestamp, Upload, UploadId};

/// The detail of a finding about an orphan that the run adopts, or in a dry run would.
pub const ADOPT: &str = "adopt";

/// What an orphan becomes.
enum Orphan {
    /// The upload that is created from it.
    Valid(Upload),
    /// It breaks a rule.
    Invalid(RejectReason),
    /// It was deleted in the meantime.
    Gone,
}

/// Adopts a batch of orphans for an owner.
///
/// # Errors
/// If the bucket is not known to be this database's, or the database fails. An object that fails is
/// counted.
pub(super) async fn adopt(
    worker: &Worker<'_>,
    owner: &Owner,
    objects: Vec<(UploadId, Listed)>,
) -> Result<(), WorkError> {
    if objects.is_empty() {
        return Ok(());
    }
    worker.limits.require_own_bucket("orphans are to be adopted").await?;
    let Target { app, policy, location, .. } = worker.target;
    let inspected = stream::iter(objects).map(|(id, object)| {
        async move {
            let row = row_of((policy, location), id, owner, object.last_modified, app.now());
            (inspect(worker, row).await, object)
        }
        .boxed()
    });
    let mut inspected = inspected.buffered(worker.settings.concurrency);
    let mut uploads = Vec::new();
    while let Some((orphan, object)) = inspected.next().await {
        let detail = match orphan {
            Some(Orphan::Valid(upload)) => {
                uploads.push(upload);
                Some(ADOPT.to_owned())
            }
            Some(Orphan::Invalid(reason)) => Some(reason.name().to_owned()),
            Some(Orphan::Gone) => continue,
            None => None,
        };
        let finding = object_finding(location, FindingKind::Orphan, object, app.now());
        worker.progress.report.tally().record([Finding { detail, ..finding }]);
    }
    let adopted = if worker.progress.run.request.dry_run {
        uploads.len() as u64
    } else {
        let adopted =
            app.db.uploads().create_unless_exists(&uploads).await.map_err(AppError::from)?;
        app.db.inspections().add(&uploads).await.map_err(AppError::from)?;
        adopted
    };
    worker.progress.report.count(|counters| counters.adopted += adopted);
    Ok(())
}

/// Reads an object and applies the rules. Returns `None` if that failed; the failure is counted.
async fn inspect(worker: &Worker<'_>, row: Upload) -> Option<Orphan> {
    worker.throttle.acquire().await;
    worker.progress.report.count(|counters| counters.head_requests += 1);
    let Target { app, policy, .. } = worker.target;
    let decided = async {
        let event = app.observe_object(&row, ConfirmedBy::Scan).await?;
        Ok::<_, AppError>(step(row.clone(), event, app.now(), policy)?.upload)
    };
    match decided.await {
        Ok(upload) => Some(match upload.state {
            State::Rejected { reason, .. } => Orphan::Invalid(reason),
            State::Inspecting(_) | State::Uploaded(_) => Orphan::Valid(upload),
            _ => Orphan::Gone,
        }),
        Err(error) => {
            worker.progress.count_error(&row, &error);
            None
        }
    }
}

/// A new upload row for an orphan. It resembles the row of the upload that created the object.
/// `stored_at` is when the object was stored.
fn row_of(
    (policy, location): (&Policy, &Location),
    id: UploadId,
    owner: &Owner,
    stored_at: Option<Timestamp>,
    now: Timestamp,
) -> Upload {
    // Not later than now, so that the order of lists is right. In most cases it is long ago, so the
    // upload does not count against the owner's daily quota.
    let created_at = stored_at.map_or(now, |at| at.min(now));
    Upload {
        id,
        owner: owner.clone(),
        token: None,
        policy: policy.name.clone(),
        location: location.number,
        slot: None,
        key: location.prefix.key(id),
        declared: Declared::default(),
        strategy: Strategy::Put,
        write_once: false,
        metadata: std::collections::BTreeMap::new(),
        // The URL that stored the object is unknown and may be valid until then.
        url_expires_at: created_at + policy.max_url_ttl,
        multipart_id: None,
        part_size: None,
        state: State::Pending,
        detail: None,
        annotations: Annotations::new(),
        deletion: Deletion::default(),
        version: 1,
        created_at,
        updated_at: now,
    }
}
