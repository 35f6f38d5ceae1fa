//! The headers that are stored with an object.

use std::collections::BTreeMap;

use s3s::dto::{ETagCondition, Metadata};
use s3s::{S3ErrorCode, S3Result};

use crate::error::refuse;
use crate::index::WriteConditions;

/// S3's limit of user metadata: the sum of names and values, in bytes.
const MAX_METADATA: usize = 2048;

/// The content type that S3 returns for an object that was stored without one.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// The attributes in the input of a PUT, a form, a copy or the creation of a multipart upload.
macro_rules! attributes_of {
    ($input:expr) => {
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
    };
}
pub(super) use attributes_of;

/// The content encoding to store. `aws-chunked` is left out: it describes the request, not the
/// object.
pub(super) fn stored_encoding(header: &str) -> Option<String> {
    let kept: Vec<&str> = header
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
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
