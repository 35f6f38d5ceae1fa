//! `DeleteObject` and `DeleteObjects`.

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::get::check_version;
use crate::error::{StoreError, refuse};
use crate::index::WriteConditions;
use crate::store::Store;

/// The largest number of keys in one `DeleteObjects` request.
const MAX_DELETES: usize = 1000;

pub(super) async fn delete_object(
    store: &Store,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let DeleteObjectInput { bucket, key, if_match, version_id, .. } = request.input;
    check_version(version_id.as_deref())?;
    let conditions = WriteConditions { if_match, if_absent: false };
    delete(store, bucket, vec![key], conditions).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_objects(
    store: &Store,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let DeleteObjectsInput { bucket, delete: listed, .. } = request.input;
    if listed.objects.is_empty() || listed.objects.len() > MAX_DELETES {
        return Err(refuse(
            S3ErrorCode::MalformedXML,
            format!("A request names 1 to {MAX_DELETES} objects."),
        ));
    }
    // Conditions and versions of single objects are not implemented. The whole request is
    // refused, because ignoring them would delete objects that the client wants to keep.
    for object in &listed.objects {
        check_version(object.version_id.as_deref())?;
        if object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some() {
            let message =
                "Conditions on the objects of a DeleteObjects request are not implemented.";
            return Err(refuse(S3ErrorCode::NotImplemented, message));
        }
    }
    let keys: Vec<String> = listed.objects.into_iter().map(|object| object.key).collect();
    delete(store, bucket, keys.clone(), WriteConditions::default()).await?;
    let deleted = |key| DeletedObject { key: Some(key), ..DeletedObject::default() };
    let quiet = listed.quiet.unwrap_or(false);
    let deleted = (!quiet).then(|| keys.into_iter().map(deleted).collect());
    Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
}

async fn delete(
    store: &Store,
    bucket: String,
    keys: Vec<String>,
    conditions: WriteConditions,
) -> Result<(), StoreError> {
    let worker = store.clone();
    store
        .commit(async move {
            let blobs = worker.index().delete_objects(&bucket, &keys, &conditions).await?;
            worker.remove(blobs).await;
            Ok(())
        })
        .await
}
