//! The marker: an object below each policy's prefix that holds this database's instance id.
//!
//! An empty, restored or wrong bucket, a wrong database, or two environments on one prefix all
//! look like mass loss or mass orphans. Unless the marker is this database's own, no absence is
//! believed and nothing is deleted.

use bytes::Bytes;
use uuid::Uuid;

use super::worker::Target;
use crate::app::{App, AppError};
use crate::domain::PolicyName;
use crate::storage::{PutOptions, Store, StoreError};

/// How many bytes of a marker are read: more than an instance id has.
const MAX_MARKER_LEN: u64 = 64;

/// Whether a bucket belongs to this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketIdentity {
    /// The bucket belongs to this database.
    Match,
    /// It does not, or that is unknown. The text says why.
    Mismatch(String),
}

/// Reads a policy's marker, and writes it if this database never wrote one. With `adopt_bucket` a
/// lost marker is written again; another database's marker is never replaced. A dry run writes
/// nothing.
///
/// # Errors
/// If the store or the database fails.
pub(super) async fn check(
    target: Target<'_>,
    adopt_bucket: bool,
    dry_run: bool,
) -> Result<BucketIdentity, AppError> {
    let Target { app, policy, store } = target;
    let marker = app.db.marker();
    let id = marker.instance_id(app.ids.uuid()).await?;
    let (bucket, prefix, key) = (&store.bucket, policy.prefix.as_str(), policy.prefix.marker());
    if let Some(found) = read(store, &key).await? {
        let identity = compare(&policy.name, found.as_deref(), id);
        // A process may have ended after it wrote the marker and before it recorded that.
        if identity == BucketIdentity::Match
            && !dry_run
            && !marker.is_recorded(bucket, prefix).await?
        {
            marker.record(bucket, prefix, app.now()).await?;
        }
        return Ok(identity);
    }
    // If this database wrote a marker to this bucket, or saw objects under this policy, the
    // marker is lost or this is another bucket.
    let known = marker.is_recorded(bucket, prefix).await?
        || app.db.scan().has_seen_objects(&policy.name).await?;
    if known && !adopt_bucket {
        return Ok(BucketIdentity::Mismatch(format!(
            "policy `{}`: the marker `{key}` is not in bucket `{bucket}`: \
             is it the right bucket? `reconcile --adopt-bucket` writes it again",
            policy.name
        )));
    }
    if dry_run {
        return Ok(BucketIdentity::Match);
    }
    let options = PutOptions {
        content_type: Some("text/plain".to_owned()),
        if_none_match: true,
        ..PutOptions::default()
    };
    match store.objects.put(&key, Bytes::from(id.to_string()), &options).await {
        // If another process wrote one first, it is read and compared below.
        Ok(_) | Err(StoreError::PreconditionFailed) => {}
        Err(error) => return Err(error.into()),
    }
    marker.record(bucket, prefix, app.now()).await?;
    let found = read(store, &key).await?.flatten();
    Ok(compare(&policy.name, found.as_deref(), id))
}

/// Writes the marker of each policy to its bucket, before the first upload is created. A
/// mismatch is logged and the service may start: it only believes no losses.
///
/// # Errors
/// If the store or the database fails.
pub async fn write_all(app: &App) -> Result<(), AppError> {
    for policy in app.policies.values() {
        let target = Target { app, policy, store: app.store_of(policy)? };
        if let BucketIdentity::Mismatch(why) = check(target, false, false).await? {
            tracing::error!(
                why,
                "no absence is believed and nothing is deleted until this is resolved"
            );
        }
    }
    Ok(())
}

/// The marker's text, if the marker exists; `Some(None)` if it is not text.
async fn read(store: &Store, key: &str) -> Result<Option<Option<String>>, AppError> {
    let Some(meta) = store.objects.head(key).await? else { return Ok(None) };
    let bytes = store.objects.read(key, 0..MAX_MARKER_LEN, &meta.etag).await?;
    Ok(Some(String::from_utf8(bytes.to_vec()).ok()))
}

fn compare(policy: &PolicyName, found: Option<&str>, id: Uuid) -> BucketIdentity {
    match found.and_then(|text| text.trim().parse::<Uuid>().ok()) {
        Some(found) if found == id => BucketIdentity::Match,
        found => BucketIdentity::Mismatch(format!(
            "policy `{policy}`: the bucket's marker is of instance {}, this database is {id}: \
             two environments on one prefix, or the wrong bucket or database",
            found.map_or_else(|| "unknown".to_owned(), |found| found.to_string()),
        )),
    }
}
