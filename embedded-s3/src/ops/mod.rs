//! The operations, one file for each family. This file registers them with `s3s`.

mod attributes;
mod buckets;
mod complete;
mod copy;
mod cors;
mod delete;
mod get;
mod list;
mod multipart;
mod put;
mod receive;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketInput, DeleteBucketOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    GetBucketCorsInput, GetBucketCorsOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutBucketCorsInput, PutBucketCorsOutput, PutObjectInput, PutObjectOutput, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3ErrorCode, S3Request, S3Response, S3Result};

use super::error::refuse;
use super::store::Store;

/// S3's limit on a key, in bytes of UTF-8.
const MAX_KEY: usize = 1024;

/// The operations that `s3s` calls.
pub(super) struct Operations {
    store: Store,
}

impl Operations {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }
}

/// Checks a key from a form or an XML body: `s3s` checks only the keys in paths.
fn check_key(key: &str) -> S3Result<()> {
    match key.len() {
        0 => Err(refuse(S3ErrorCode::InvalidArgument, "The key must not be empty.")),
        1..=MAX_KEY => Ok(()),
        _ => Err(refuse(S3ErrorCode::KeyTooLongError, "Your key is too long.")),
    }
}

macro_rules! operations {
    ($($name:ident: $input:ident => $output:ident in $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $module::$name(&self.store, request).await
                }
            )*
        }
    };
}

// A form upload calls `put_object`: `s3s` does so for POST by default.
operations! {
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput in multipart;
    complete_multipart_upload:
        CompleteMultipartUploadInput => CompleteMultipartUploadOutput in complete;
    copy_object: CopyObjectInput => CopyObjectOutput in copy;
    create_bucket: CreateBucketInput => CreateBucketOutput in buckets;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput in multipart;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput in buckets;
    delete_bucket_cors: DeleteBucketCorsInput => DeleteBucketCorsOutput in cors;
    delete_object: DeleteObjectInput => DeleteObjectOutput in delete;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput in delete;
    get_bucket_cors: GetBucketCorsInput => GetBucketCorsOutput in cors;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput in buckets;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput in buckets;
    get_object: GetObjectInput => GetObjectOutput in get;
    head_bucket: HeadBucketInput => HeadBucketOutput in buckets;
    head_object: HeadObjectInput => HeadObjectOutput in get;
    list_buckets: ListBucketsInput => ListBucketsOutput in buckets;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput in list;
    list_objects: ListObjectsInput => ListObjectsOutput in list;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output in list;
    list_parts: ListPartsInput => ListPartsOutput in multipart;
    put_bucket_cors: PutBucketCorsInput => PutBucketCorsOutput in cors;
    put_object: PutObjectInput => PutObjectOutput in put;
    upload_part: UploadPartInput => UploadPartOutput in multipart;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput in copy;
}
