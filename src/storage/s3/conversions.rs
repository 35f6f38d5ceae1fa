//! Converts between the types of the SDK and those of [`crate::storage`].

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, Object, ServerSideEncryption};

use super::versions;
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::domain::object_settings::ObjectSettings;
use crate::domain::reconcile::Listed;
use crate::storage::{ObjectMeta, Result, StoreError};

pub(super) fn meta(head: HeadObjectOutput) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        etag: etag(head.e_tag())?,
        size: size(head.content_length()),
        checksums: checksums(&head),
        keyed: head.sse_customer_algorithm().is_some()
            || matches!(
                head.server_side_encryption(),
                Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse)
            ),
        sse: head.server_side_encryption().map(|sse| sse.as_str().to_owned()),
        locked: head.object_lock_mode().is_some(),
        last_modified: head.last_modified().and_then(timestamp),
        version_id: versions::id(head.version_id),
        content_type: head.content_type,
        content_encoding: head.content_encoding,
        metadata: head.metadata.unwrap_or_default().into_iter().collect(),
    })
}

/// The checksums of the whole object. Composite checksums, which are computed from the checksums of
/// the parts, are left out. They are marked by the checksum type, or end with `-N` and do not
/// parse.
fn checksums(head: &HeadObjectOutput) -> Vec<Checksum> {
    if head.checksum_type() == Some(&ChecksumType::Composite) {
        return Vec::new();
    }
    [
        (Algorithm::Sha256, head.checksum_sha256()),
        (Algorithm::Crc32, head.checksum_crc32()),
        (Algorithm::Crc32c, head.checksum_crc32_c()),
        (Algorithm::Crc64nvme, head.checksum_crc64_nvme()),
        (Algorithm::Md5, head.checksum_md5()),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| Checksum::parse(algorithm, value?).ok())
    .collect()
}

pub(super) fn listed(object: &Object, encoded: bool) -> Result<Listed> {
    let key =
        object.key().ok_or_else(|| StoreError::Protocol("a listed object has no key".into()))?;
    Ok(Listed {
        key: if encoded { decode(key)? } else { key.to_owned() },
        etag: etag(object.e_tag())?,
        size: size(object.size()),
        last_modified: object.last_modified().and_then(timestamp),
    })
}

/// `encoding-type=url` is the encoding of forms: `+` is a space (S3 API reference,
/// `ListObjectsV2`).
pub(super) fn decode(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| StoreError::Protocol("a listed key is not UTF-8".into()))?;
    Ok(decoded.into_owned())
}

pub(super) fn etag(quoted: Option<&str>) -> Result<String> {
    match quoted.map(|etag| etag.trim_start_matches("W/").trim_matches('"')) {
        Some(etag) if !etag.is_empty() => Ok(etag.to_owned()),
        _ => Err(StoreError::Protocol("the response has no ETag".into())),
    }
}

pub(super) fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}

pub(super) fn timestamp(at: &DateTime) -> Option<Timestamp> {
    Timestamp::from_timestamp(at.secs(), at.subsec_nanos())
}

pub(super) fn sdk_algorithm(algorithm: Algorithm) -> Option<ChecksumAlgorithm> {
    algorithm.sdk_name().map(ChecksumAlgorithm::from)
}

pub(super) fn sdk_sse(object: &ObjectSettings) -> Option<ServerSideEncryption> {
    object.sse.map(|sse| ServerSideEncryption::from(sse.name()))
}
