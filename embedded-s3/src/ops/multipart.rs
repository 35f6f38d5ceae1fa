//! Multipart uploads, except their completion, which is in `complete.rs`.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, ListPartsInput, ListPartsOutput, Part as ShownPart,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::attributes::attributes_of;
use super::check_key;
use super::receive::{DeclaredBody, Received, body_length, receive};
use crate::checksum::{Algorithm, Kind, copy_sums, declared_sum};
use crate::clock::{now_ms, ordered_name, timestamp};
use crate::error::refuse;
use crate::index::{Part, Upload};
use crate::page::MAX_PAGE;
use crate::store::Store;

pub(super) const MAX_PART_NUMBER: i32 = 10_000;

pub(super) async fn create_multipart_upload(
    store: &Store,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = &mut request.input;
    check_key(&input.key)?;
    let requested = input.checksum_algorithm.as_ref().map(|a| Algorithm::parse(a.as_str()));
    let requested = requested.transpose()?;
    if requested.is_none() && input.checksum_type.is_some() {
        let message = "The x-amz-checksum-type header can only be used with the \
                       x-amz-checksum-algorithm header.";
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    let algorithm = requested.unwrap_or(Algorithm::Crc64Nvme);
    let kind = Kind::of_upload(algorithm, input.checksum_type.as_ref())?;
    let attributes = attributes_of!(input);
    let upload = Upload { algorithm, kind, explicit: requested.is_some(), attributes };
    let id = ordered_name();

    let CreateMultipartUploadInput { bucket, key, .. } = request.input;
    let output = CreateMultipartUploadOutput {
        bucket: Some(bucket.clone()),
        checksum_algorithm: requested.map(Algorithm::to_dto),
        checksum_type: requested.map(|_| kind.to_dto()),
        key: Some(key.clone()),
        upload_id: Some(id.clone()),
        ..CreateMultipartUploadOutput::default()
    };
    let worker = store.clone();
    store
        .commit(async move {
            worker.index().create_upload(&bucket, &key, &id, now_ms(), &upload).await
        })
        .await?;
    Ok(S3Response::new(output))
}

pub(super) fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=MAX_PART_NUMBER).contains(&number) {
        return Ok(());
    }
    let message = format!("Part number must be an integer between 1 and {MAX_PART_NUMBER}");
    Err(refuse(S3ErrorCode::InvalidArgument, message))
}

pub(super) async fn upload_part(
    store: &Store,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = &mut request.input;
    check_part_number(input.part_number)?;
    input.content_length = Some(body_length(&request.headers, input.content_length)?);
    let upload = store.index().upload(&input.bucket, &input.key, &input.upload_id).await?;
    let sum = declared_sum(copy_sums!(take input))?;
    let declared = DeclaredBody::new(
        &request.headers,
        input.content_length,
        input.content_md5.as_deref(),
        sum,
        upload.algorithm,
    )?;
    check_algorithm(&upload, &declared)?;

    let received = receive(store, input.body.take(), declared, request.trailing_headers).await?;
    let Received { file, md5, sum } = received;
    let mut output =
        UploadPartOutput { e_tag: Some(ETag::Strong(md5.clone())), ..UploadPartOutput::default() };
    copy_sums!(sum.to_dto() => output);
    let part = Part {
        number: request.input.part_number,
        size: file.len,
        etag: md5,
        modified_ms: now_ms(),
        blob: String::new(),
        sum,
    };
    store.put_part(request.input.upload_id, file, part).await?;
    Ok(S3Response::new(output))
}

/// Refuses a part whose checksum algorithm differs from the algorithm of the upload. If the
/// object's checksum is computed from the checksums of its parts, each part must have one.
fn check_algorithm(upload: &Upload, declared: &DeclaredBody) -> S3Result<()> {
    if !upload.explicit {
        return Ok(());
    }
    if declared.names_sum() && declared.algorithm() != upload.algorithm {
        return Err(type_mismatch(upload.algorithm, declared.algorithm().name()));
    }
    if !declared.names_sum() && upload.kind == Kind::Composite {
        return Err(type_mismatch(upload.algorithm, "null"));
    }
    Ok(())
}

fn type_mismatch(expected: Algorithm, actual: &str) -> S3Error {
    let (expected, actual) = (expected.name().to_lowercase(), actual.to_lowercase());
    refuse(
        S3ErrorCode::InvalidRequest,
        format!(
            "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual \
             checksum Type: {actual}"
        ),
    )
}

pub(super) async fn abort_multipart_upload(
    store: &Store,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
    let worker = store.clone();
    store
        .commit(async move {
            let blobs = worker.index().abort_upload(&bucket, &key, &upload_id).await?;
            worker.remove(blobs).await;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) async fn list_parts(
    store: &Store,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = request.input;
    let upload = store.index().upload(&input.bucket, &input.key, &input.upload_id).await?;
    let max_parts = input.max_parts.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let limit = usize::try_from(max_parts).map_err(|_| {
        refuse(S3ErrorCode::InvalidArgument, "Argument max-parts must not be negative")
    })?;
    let above = input.part_number_marker.unwrap_or(0);
    let one_more = i64::from(max_parts) + 1;
    let mut parts = store.index().parts(&input.upload_id, above, one_more).await?;
    let truncated = limit > 0 && parts.len() > limit;
    parts.truncate(limit);
    let last = parts.last().map(|part| part.number);
    let shown = parts.into_iter().map(|part| {
        let mut shown = ShownPart {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(timestamp(part.modified_ms)),
            part_number: Some(part.number),
            size: i64::try_from(part.size).ok(),
            ..ShownPart::default()
        };
        if upload.explicit {
            copy_sums!(part.sum.to_dto() => shown);
        }
        shown
    });
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: upload.explicit.then(|| upload.algorithm.to_dto()),
        checksum_type: upload.explicit.then(|| upload.kind.to_dto()),
        is_truncated: Some(truncated),
        key: Some(input.key),
        max_parts: Some(max_parts),
        next_part_number_marker: last.filter(|_| truncated),
        part_number_marker: Some(above),
        parts: Some(shown.collect()),
        upload_id: Some(input.upload_id),
        ..ListPartsOutput::default()
    }))
}
