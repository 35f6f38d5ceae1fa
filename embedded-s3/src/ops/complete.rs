//! `CompleteMultipartUpload`: the parts in the client's list become one object.

use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::attributes::write_conditions;
use super::copy::copy_blob;
use super::multipart::MAX_PART_NUMBER;
use crate::checksum::{Kind, Sum, bad_digest, composite, composite_etag, copy_sums, declared_sum};
use crate::clock::now_ms;
use crate::error::{StoreError, refuse};
use crate::index::{Object, Part, Upload};
use crate::spool::{Spool, Verified};
use crate::store::Store;

/// The smallest size of each part except the last one, in bytes.
const MIN_PART: u64 = 5 * 1024 * 1024;

pub(super) async fn complete_multipart_upload(
    store: &Store,
    mut request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = &mut request.input;
    let conditions = write_conditions(input.if_match.take(), input.if_none_match.take())?;
    let listed = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    let expected = declared_sum(copy_sums!(take input))?;
    let upload = store.index().upload(&input.bucket, &input.key, &input.upload_id).await?;
    let stored = store.index().parts(&input.upload_id, 0, MAX_PART_NUMBER.into()).await?;
    let parts = choose(&upload, &listed, stored)?;
    let size: u64 = parts.iter().map(|part| part.size).sum();
    check_size(input.mpu_object_size, size)?;

    let (file, sum) = concatenate(store, &upload, &parts).await?;
    if let Some((algorithm, value)) = expected
        && (algorithm != sum.algorithm || value != sum.value)
    {
        return Err(bad_digest(algorithm.name()));
    }
    if input.checksum_type.as_ref().is_some_and(|kind| *kind != sum.kind.to_dto()) {
        let message = "The upload was created with another checksum type.";
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    let etag = composite_etag(parts.iter().map(|part| part.etag.as_str()));
    let CompleteMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{bucket}/{key}")),
        bucket: Some(bucket.clone()),
        key: Some(key.clone()),
        e_tag: Some(ETag::Strong(etag.clone())),
        ..CompleteMultipartUploadOutput::default()
    };
    let sums = sum.to_dto();
    output.checksum_type.clone_from(&sums.checksum_type);
    copy_sums!(sums => output);
    let object = Object {
        size,
        etag,
        modified_ms: now_ms(),
        blob: String::new(),
        sum: Some(sum),
        attributes: upload.attributes,
        part_sizes: Some(parts.iter().map(|part| part.size).collect()),
    };
    store.complete((bucket, key, upload_id), parts, file, object, conditions).await?;
    Ok(S3Response::new(output))
}

/// The stored parts that the client lists. Its list must be in ascending order.
fn choose(upload: &Upload, listed: &[CompletedPart], stored: Vec<Part>) -> S3Result<Vec<Part>> {
    if listed.is_empty() {
        let message = "You must specify at least one part";
        return Err(refuse(S3ErrorCode::MalformedXML, message));
    }
    let mut stored = stored.into_iter();
    let mut chosen: Vec<Part> = Vec::with_capacity(listed.len());
    for part in listed {
        let number = part.part_number.ok_or_else(|| {
            refuse(S3ErrorCode::MalformedXML, "A part in the list has no PartNumber.")
        })?;
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "The list of parts was not in ascending order. The parts list must be \
                 specified in order by part number.",
            ));
        }
        let found = stored.find(|stored| stored.number >= number);
        let found = found.filter(|found| found.number == number).ok_or(StoreError::InvalidPart)?;
        if part.e_tag.as_ref().is_none_or(|etag| etag.value() != found.etag) {
            return Err(StoreError::InvalidPart.into());
        }
        check_part_sum(upload, part, &found)?;
        chosen.push(found);
    }
    let (_, all_but_last) = chosen.split_last().ok_or(StoreError::InvalidPart)?;
    if all_but_last.iter().any(|part| part.size < MIN_PART) {
        return Err(refuse(
            S3ErrorCode::EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size",
        ));
    }
    Ok(chosen)
}

fn check_part_sum(upload: &Upload, listed: &CompletedPart, found: &Part) -> S3Result<()> {
    let mut listed = listed.clone();
    match declared_sum(copy_sums!(take listed))? {
        Some((algorithm, value))
            if algorithm != found.sum.algorithm || value != found.sum.value =>
        {
            return Err(StoreError::InvalidPart.into());
        }
        None if upload.explicit && upload.kind == Kind::Composite => {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The upload was created using a {} checksum. The complete request must \
                     include the checksum for each part. It was missing for part {} in the \
                     request.",
                    upload.algorithm.name().to_lowercase(),
                    found.number,
                ),
            ));
        }
        Some(_) | None => {}
    }
    Ok(())
}

fn check_size(declared: Option<i64>, actual: u64) -> S3Result<()> {
    if declared.is_some_and(|size| u64::try_from(size) != Ok(actual)) {
        let message =
            "The provided 'x-amz-mp-object-size' header does not match what was computed.";
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// Writes the parts to one file without a lock. The transaction that writes the object checks
/// whether the parts are still the same.
async fn concatenate(store: &Store, upload: &Upload, parts: &[Part]) -> S3Result<(Verified, Sum)> {
    let algorithm = upload.algorithm;
    let mut spool = Spool::create(store.blobs(), algorithm.hasher()).await?;
    for part in parts {
        let path = store.blobs().path(&part.blob);
        let file = tokio::fs::File::open(path).await.map_err(gone)?;
        copy_blob(&mut spool, file).await?;
    }
    let (file, finished) = spool.finish().await?;
    let value = match upload.kind {
        Kind::FullObject => finished.sum(algorithm),
        Kind::Composite => composite(algorithm, parts.iter().map(|part| part.sum.value.as_str())),
    };
    Ok((file, Sum { algorithm, kind: upload.kind, value }))
}

/// The error for a part whose file is missing. The part was replaced, or its upload ended, after
/// its row was read.
fn gone(error: std::io::Error) -> S3Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return StoreError::InvalidPart.into();
    }
    StoreError::Io(error).into()
}
