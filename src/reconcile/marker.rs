//! The marker: an object below each policy's prefix that holds this database's id.
//!
//! An empty, restored or wrong bucket, a wrong database, or two environments on one
//! prefix all look like mass loss or mass orphans. Where the marker is not this
//! database's, no absence is believed and nothing is deleted.

use bytes::Bytes;
use uuid::Uuid;

use crate::app::{App, AppError};
use crate::domain::{Policy, PolicyName};
use crate::storage::{PutOptions, Store, StoreError};

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketIdentity {
    /// Bucket and database belong together.
    Match,
    /// They don't, or nobody knows; why.
    Mismatch(String),
}

/// Reads the marker of a policy, and writes it where this database never did. With
/// `force` a marker that was lost is written again; another's is never replaced.
pub async fn check(
    app: &App,
    policy: &Policy,
    store: &Store,
    force: bool,
    dry_run: bool,
) -> Result<BucketIdentity, AppError> {
    let id = app.db.marker().instance_id(app.ids.uuid()).await?;
    let (bucket, prefix, key) = (&store.bucket, policy.prefix.as_str(), policy.prefix.marker());
    if let Some(found) = read(store, &key).await? {
        let identity = compare(&policy.name, found.as_deref(), id);
        // A process may have died between writing the marker and noting it.
        if identity == BucketIdentity::Match
            && !dry_run
            && !app.db.marker().is_recorded(bucket, prefix).await?
        {
            app.db.marker().record(bucket, prefix, app.now()).await?;
        }
        return Ok(identity);
    }
    // A database that has seen objects under this policy, or marked this very bucket, is
    // not new to it: then the marker's absence is news, or the bucket is another one.
    let known = app.db.marker().is_recorded(bucket, prefix).await?
        || app.db.scan().has_seen_objects(&policy.name).await?;
    if known && !force {
        return Ok(BucketIdentity::Mismatch(format!(
            "policy `{}`: the marker `{key}` is not in bucket `{bucket}`: \
             is it the right bucket? `reconcile --force` writes it again",
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
        // Where another process was faster: whose marker it is, is read below.
        Ok(_) | Err(StoreError::PreconditionFailed) => {}
        Err(error) => return Err(error.into()),
    }
    app.db.marker().record(bucket, prefix, app.now()).await?;
    let found = read(store, &key).await?.flatten();
    Ok(compare(&policy.name, found.as_deref(), id))
}

/// Puts the marker of each policy in its bucket, before the first upload is created. What
/// is doubtful is said in the log: the service may go on, only nothing is believed lost.
pub async fn claim(app: &App) -> Result<(), AppError> {
    for policy in app.policies.values() {
        if let BucketIdentity::Mismatch(why) =
            check(app, policy, app.store_of(policy)?, false, false).await?
        {
            tracing::error!(
                why,
                "no absence is believed and nothing is deleted until this is mended"
            );
        }
    }
    Ok(())
}

/// The marker's text; `Some(None)` where it is no text of that length.
async fn read(store: &Store, key: &str) -> Result<Option<Option<String>>, AppError> {
    let Some(meta) = store.objects.head(key).await? else { return Ok(None) };
    let bytes = store.objects.read(key, 0..64, &meta.etag).await?;
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
