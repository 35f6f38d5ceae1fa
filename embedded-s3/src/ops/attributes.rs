//! The headers that are stored with an object.

use std::collections::BTreeMap;

use s3s::dto::{ETagCondition, Metadata, ObjectCannedACL, StorageClass};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::error::refuse;
use crate::index::WriteConditions;

/// S3's limit of user metadata: the sum of names and values, in bytes.
const MAX_METADATA: usize = 2048;

/// The content type that S3 returns for an object that was stored without one.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// The attributes in the input of a PUT, a form, a copy or the creation of a multipart upload.
macro_rules! attributes_of {
    ($input:expr) => {{
        super::attributes::check_unsupported(
            $input.acl.as_ref().map(s3s::dto::ObjectCannedACL::as_str),
            $input.storage_class.as_ref().map(s3s::dto::StorageClass::as_str),
            &[
                ("x-amz-grant-full-control", $input.grant_full_control.is_some()),
                ("x-amz-grant-read", $input.grant_read.is_some()),
                ("x-amz-grant-read-acp", $input.grant_read_acp.is_some()),
                ("x-amz-grant-write-acp", $input.grant_write_acp.is_some()),
                ("x-amz-object-lock-legal-hold", $input.object_lock_legal_hold_status.is_some()),
                ("x-amz-object-lock-mode", $input.object_lock_mode.is_some()),
                (
                    "x-amz-object-lock-retain-until-date",
                    $input.object_lock_retain_until_date.is_some(),
                ),
                ("x-amz-server-side-encryption", $input.server_side_encryption.is_some()),
                ("x-amz-server-side-encryption-aws-kms-key-id", $input.ssekms_key_id.is_some()),
                (
                    "x-amz-server-side-encryption-customer-algorithm",
                    $input.sse_customer_algorithm.is_some(),
                ),
                ("x-amz-tagging", $input.tagging.is_some()),
                ("x-amz-website-redirect-location", $input.website_redirect_location.is_some()),
            ],
        )?;
        crate::index::Attributes {
            content_type: $input.content_type.take().filter(|text| !text.is_empty()),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input
                .content_encoding
                .take()
                .and_then(|text| super::attributes::stored_encoding(&text)),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            metadata: super::attributes::metadata($input.metadata.take())?,
        }
    }};
}
pub(super) use attributes_of;

/// Refuses a write with settings that would have no effect. Settings with S3's defaults are
/// accepted.
pub(super) fn check_unsupported(
    acl: Option<&str>,
    storage_class: Option<&str>,
    others: &[(&'static str, bool)],
) -> S3Result<()> {
    if acl.is_some_and(|acl| acl != ObjectCannedACL::PRIVATE) {
        return Err(not_implemented("x-amz-acl"));
    }
    if storage_class.is_some_and(|class| class != StorageClass::STANDARD) {
        return Err(not_implemented("x-amz-storage-class"));
    }
    match others.iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(not_implemented(name)),
        None => Ok(()),
    }
}

pub(super) fn not_implemented(header: &str) -> S3Error {
    let message =
        format!("A header you provided implies functionality that is not implemented: {header}.");
    refuse(S3ErrorCode::NotImplemented, message)
}

/// The content encoding to store. `aws-chunked` is left out: it describes the request, not the
/// object.
pub(super) fn stored_encoding(header: &str) -> Option<String> {
    let encodings: Vec<&str> = header
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!encodings.is_empty()).then(|| encodings.join(","))
}

pub(super) fn metadata(given: Option<Metadata>) -> S3Result<BTreeMap<String, String>> {
    let metadata: BTreeMap<String, String> = given.unwrap_or_default().into_iter().collect();
    if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA {
        return Err(refuse(
            S3ErrorCode::MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size.",
        ));
    }
    Ok(metadata)
}

pub(super) fn write_conditions(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<WriteConditions> {
    let if_absent = match if_none_match {
        None => false,
        Some(ETagCondition::Any) => true,
        Some(ETagCondition::ETag(_)) => {
            return Err(refuse(
                S3ErrorCode::NotImplemented,
                "A header you provided implies functionality that is not implemented: \
                 If-None-Match of a write must be *.",
            ));
        }
    };
    Ok(WriteConditions { if_match, if_absent })
}
