//! Operations on buckets.

use s3s::dto::{
    Bucket, BucketCannedACL, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput,
    DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput,
};
use s3s::{S3Request, S3Response, S3Result};

use super::attributes::not_implemented;
use crate::clock::timestamp;
use crate::store::Store;

/// The region for which `GetBucketLocation` returns no name.
const UNNAMED_REGION: &str = "us-east-1";

pub(super) async fn create_bucket(
    store: &Store,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let CreateBucketInput { bucket, acl, object_lock_enabled_for_bucket, .. } = request.input;
    if object_lock_enabled_for_bucket == Some(true) {
        return Err(not_implemented("x-amz-bucket-object-lock-enabled"));
    }
    if acl.is_some_and(|acl| acl.as_str() != BucketCannedACL::PRIVATE) {
        return Err(not_implemented("x-amz-acl"));
    }
    let (worker, name) = (store.clone(), bucket.clone());
    store.commit(async move { worker.index().create_bucket(&name).await }).await?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
}

pub(super) async fn head_bucket(
    store: &Store,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    store.index().bucket(&request.input.bucket).await?;
    let bucket_region = Some(store.region().to_owned());
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) async fn delete_bucket(
    store: &Store,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let (worker, bucket) = (store.clone(), request.input.bucket);
    store
        .commit(async move {
            let blobs = worker.index().delete_bucket(&bucket).await?;
            worker.remember_cors(&bucket, None);
            worker.remove(blobs).await;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) async fn list_buckets(
    store: &Store,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let prefix = request.input.prefix;
    let matches = |name: &str| prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix));
    let all = store.index().buckets().await?;
    let buckets =
        all.into_iter().filter(|(name, _)| matches(name)).map(|(name, created_ms)| Bucket {
            bucket_region: Some(store.region().to_owned()),
            creation_date: Some(timestamp(created_ms)),
            name: Some(name),
        });
    let buckets = Some(buckets.collect());
    Ok(S3Response::new(ListBucketsOutput { buckets, prefix, ..ListBucketsOutput::default() }))
}

pub(super) async fn get_bucket_location(
    store: &Store,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    store.index().bucket(&request.input.bucket).await?;
    let region = store.region();
    let location_constraint =
        (region != UNNAMED_REGION).then(|| BucketLocationConstraint::from(region.to_owned()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

/// No status means that versioning was never enabled.
pub(super) async fn get_bucket_versioning(
    store: &Store,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    store.index().bucket(&request.input.bucket).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}
