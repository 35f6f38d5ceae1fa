//! `PutObject`, and uploads by a browser form.

use http::Method;
use s3s::dto::{ETag, PutObjectInput, PutObjectOutput};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::attributes::{attributes_of, write_conditions};
use super::check_key;
use super::receive::{DeclaredBody, Received, body_length, receive};
use crate::checksum::{Algorithm, copy_sums, declared_sum};
use crate::clock::now_ms;
use crate::error::refuse;
use crate::forms;
use crate::index::Object;
use crate::store::Store;

pub(super) async fn put_object(
    store: &Store,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    // `s3s` also calls this for a form, after it has checked the form's policy.
    let is_form = request.method == Method::POST;
    if is_form {
        check_form_region(store, &request)?;
        request.input.key = forms::resolve_key(&request.input.key)?;
    } else {
        let length = body_length(&request.headers, request.input.content_length)?;
        request.input.content_length = Some(length);
    }
    let input = &mut request.input;
    check_key(&input.key)?;
    let conditions = write_conditions(input.if_match.take(), input.if_none_match.take())?;
    let sum = declared_sum(copy_sums!(take input))?;
    let declared = DeclaredBody::new(
        &request.headers,
        input.content_length,
        input.content_md5.as_deref(),
        sum,
        Algorithm::Crc64Nvme,
    )?;
    let attributes = attributes_of!(input);
    store.index().bucket(&input.bucket).await?;

    let received = receive(store, input.body.take(), declared, request.trailing_headers).await?;
    let Received { file, md5, sum } = received;
    let mut output =
        PutObjectOutput { e_tag: Some(ETag::Strong(md5.clone())), ..Default::default() };
    let sums = sum.to_dto();
    output.checksum_type.clone_from(&sums.checksum_type);
    copy_sums!(sums => output);
    let object = Object {
        size: file.len,
        etag: md5,
        modified_ms: now_ms(),
        blob: String::new(),
        sum: Some(sum),
        attributes,
        part_sizes: None,
    };
    let PutObjectInput { bucket, key, .. } = request.input;
    let form_key = is_form.then(|| key.clone());
    store.put(bucket, key, file, object, conditions).await?;
    if let Some(key) = form_key {
        forms::stored(&key);
    }
    let mut response = S3Response::new(output);
    // `s3s` writes the ETag of a form's object only into the bodies of some responses.
    if is_form && let Some(Ok(etag)) = response.output.e_tag.as_ref().map(ETag::to_http_header) {
        response.headers.insert(http::header::ETAG, etag);
    }
    Ok(response)
}

/// Checks the region in a form's credential, which `s3s` does not check. A form signed with `SigV2`
/// has no region.
fn check_form_region(store: &Store, request: &S3Request<PutObjectInput>) -> S3Result<()> {
    match &request.region {
        Some(region) if region.as_str() == store.region() => Ok(()),
        _ => {
            let message = "The form must be signed with AWS4-HMAC-SHA256 for this region.";
            Err(refuse(S3ErrorCode::AccessDenied, message))
        }
    }
}
