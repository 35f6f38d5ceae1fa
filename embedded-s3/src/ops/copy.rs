//! Copies of an object, or of a range of it as a part. A copy is written like a received body.

use std::io::SeekFrom;

use futures_util::StreamExt as _;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag,
    MetadataDirective, Range, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::attributes::attributes_of;
use super::check_key;
use super::get::{ReadConditions, check_version};
use super::multipart::check_part_number;
use super::receive::MAX_BODY;
use crate::checksum::{Algorithm, Kind, Sum, copy_sums};
use crate::clock::{now_ms, timestamp};
use crate::error::{StoreError, refuse};
use crate::index::{Object, Part, WriteConditions};
use crate::spool::{Finished, Spool, Verified};
use crate::store::Store;

const COPY_BUFFER: usize = 256 * 1024;

/// The conditions on the source in the input of a copy.
macro_rules! source_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.copy_source_if_match.take(),
            if_none_match: $input.copy_source_if_none_match.take(),
            if_modified_since: $input.copy_source_if_modified_since.take(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.take(),
        }
    };
}

/// Appends a file to a spool.
pub(super) async fn copy_blob(
    spool: &mut Spool,
    file: impl AsyncRead + Unpin,
) -> Result<(), StoreError> {
    let mut chunks = ReaderStream::with_capacity(file, COPY_BUFFER);
    while let Some(chunk) = chunks.next().await {
        spool.push(chunk?).await?;
    }
    Ok(())
}

async fn open_source(
    store: &Store,
    source: &CopySource,
    conditions: ReadConditions,
) -> S3Result<(Object, tokio::fs::File)> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        let message = "A copy source is a bucket and a key; access points are not implemented.";
        return Err(refuse(S3ErrorCode::NotImplemented, message));
    };
    check_version(version_id.as_deref())?;
    let (object, file) = store.open_object(bucket, key).await?;
    conditions.check(&object, S3ErrorCode::PreconditionFailed)?;
    Ok((object, file))
}

async fn spool_copy(
    store: &Store,
    file: impl AsyncRead + Unpin,
    algorithm: Algorithm,
) -> Result<(Verified, Finished), StoreError> {
    let mut spool = Spool::create(store.blobs(), algorithm.hasher()).await?;
    copy_blob(&mut spool, file).await?;
    spool.finish().await
}

pub(super) async fn copy_object(
    store: &Store,
    mut request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let input = &mut request.input;
    check_key(&input.key)?;
    let conditions = source_conditions!(input);
    let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => {
            return Err(refuse(S3ErrorCode::InvalidArgument, "Unknown metadata directive."));
        }
    };
    let onto_itself = matches!(&input.copy_source, CopySource::Bucket { bucket, key, .. }
        if **bucket == *input.bucket && **key == *input.key);
    if onto_itself && !replaces {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself \
             without changing the object's metadata, storage class, website redirect location \
             or encryption attributes.",
        ));
    }
    store.index().bucket(&input.bucket).await?;
    let (source, file) = open_source(store, &input.copy_source, conditions).await?;
    if source.size > MAX_BODY {
        let message = "The specified copy source is larger than the maximum allowable size for a \
                       copy source: 5368709120";
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    let requested = input.checksum_algorithm.as_ref().map(|a| Algorithm::parse(a.as_str()));
    let algorithm = match (requested.transpose()?, &source.sum) {
        (Some(requested), _) => requested,
        (None, Some(sum)) => sum.algorithm,
        (None, None) => Algorithm::Crc64Nvme,
    };
    let given = attributes_of!(input);
    let attributes = if replaces { given } else { source.attributes };

    let (file, finished) = spool_copy(store, file, algorithm).await?;
    let sum = Sum { algorithm, kind: Kind::FullObject, value: finished.sum(algorithm) };
    let modified_ms = now_ms();
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(finished.md5.clone())),
        last_modified: Some(timestamp(modified_ms)),
        checksum_type: Some(sum.kind.to_dto()),
        ..CopyObjectResult::default()
    };
    copy_sums!(sum.to_dto() => result);
    let object = Object {
        size: finished.len,
        etag: finished.md5,
        modified_ms,
        blob: String::new(),
        sum: Some(sum),
        attributes,
        part_sizes: None,
    };
    let CopyObjectInput { bucket, key, .. } = request.input;
    store.put(bucket, key, file, object, WriteConditions::default()).await?;
    let copy_object_result = Some(result);
    Ok(S3Response::new(CopyObjectOutput { copy_object_result, ..CopyObjectOutput::default() }))
}

pub(super) async fn upload_part_copy(
    store: &Store,
    mut request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = &mut request.input;
    check_part_number(input.part_number)?;
    let conditions = source_conditions!(input);
    let upload = store.index().upload(&input.bucket, &input.key, &input.upload_id).await?;
    let (source, mut file) = open_source(store, &input.copy_source, conditions).await?;
    let bytes = match input.copy_source_range.as_deref() {
        None => 0..source.size,
        Some(range) => match Range::parse(range) {
            Ok(Range::Int { first, last: Some(last) }) if first <= last && last < source.size => {
                first..last + 1
            }
            _ => {
                let message = "The x-amz-copy-source-range value must be of the form \
                               bytes=first-last, within the source.";
                return Err(refuse(S3ErrorCode::InvalidArgument, message));
            }
        },
    };
    let length = bytes.end - bytes.start;
    if length > MAX_BODY {
        let message = "Your proposed upload exceeds the maximum allowed size.";
        return Err(refuse(S3ErrorCode::EntityTooLarge, message));
    }
    file.seek(SeekFrom::Start(bytes.start)).await.map_err(StoreError::from)?;
    let (file, finished) = spool_copy(store, file.take(length), upload.algorithm).await?;
    let value = finished.sum(upload.algorithm);
    let sum = Sum { algorithm: upload.algorithm, kind: Kind::FullObject, value };
    let modified_ms = now_ms();
    let mut result = CopyPartResult {
        e_tag: Some(ETag::Strong(finished.md5.clone())),
        last_modified: Some(timestamp(modified_ms)),
        ..CopyPartResult::default()
    };
    copy_sums!(sum.to_dto() => result);
    let part = Part {
        number: request.input.part_number,
        size: finished.len,
        etag: finished.md5,
        modified_ms,
        blob: String::new(),
        sum,
    };
    store.put_part(request.input.upload_id, file, part).await?;
    let copy_part_result = Some(result);
    let output = UploadPartCopyOutput { copy_part_result, ..UploadPartCopyOutput::default() };
    Ok(S3Response::new(output))
}
