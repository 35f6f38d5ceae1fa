//! `GetObject` and `HeadObject`. Both check conditions and ranges in the same way.

use std::io::SeekFrom;
use std::ops::Range;

use http::{HeaderValue, StatusCode, header};
use s3s::dto::{
    ChecksumMode, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::attributes::DEFAULT_CONTENT_TYPE;
use crate::checksum::copy_sums;
use crate::clock::{timestamp, timestamp_seconds};
use crate::error::{StoreError, refuse, refuse_as};
use crate::index::Object;
use crate::store::Store;

const READ_BUFFER: usize = 256 * 1024;

/// Conditions on the object that is read.
#[expect(clippy::struct_field_names, reason = "these are the names of the headers")]
pub(super) struct ReadConditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// Checks the conditions in the order of RFC 9110: a date is ignored if there is an entity
    /// tag. `not_modified` is the error if the object is unchanged.
    pub(super) fn check(&self, object: &Object, not_modified: S3ErrorCode) -> S3Result<()> {
        let etag = ETag::Strong(object.etag.clone());
        let modified = timestamp_seconds(object.modified_ms);
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(given) => given.weak_cmp(&etag),
        };
        let holds = match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => is(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !holds {
            return Err(StoreError::PreconditionFailed.into());
        }
        let unchanged = match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => is(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if unchanged {
            let mut error = refuse(not_modified, "The object was not modified.");
            let mut headers = http::HeaderMap::new();
            if let Ok(etag) = etag.to_http_header() {
                headers.insert(header::ETAG, etag);
            }
            error.set_headers(headers);
            return Err(error);
        }
        Ok(())
    }
}

/// The requested bytes of an object.
struct Slice {
    bytes: Range<u64>,
    content_range: Option<String>,
    parts: Option<i32>,
}

fn slice(object: &Object, range: Option<s3s::dto::Range>, part: Option<i32>) -> S3Result<Slice> {
    let size = object.size;
    let (bytes, parts) = match (range, part) {
        (Some(_), Some(_)) => {
            let message = "Cannot specify both Range header and partNumber query parameter";
            return Err(refuse(S3ErrorCode::InvalidRequest, message));
        }
        (None, None) => return Ok(Slice { bytes: 0..size, content_range: None, parts: None }),
        (Some(range), None) => (range.check(size).map_err(|_| bad_range(size))?, None),
        (None, Some(number)) => {
            let sizes = object.part_sizes.as_deref().unwrap_or(std::slice::from_ref(&size));
            let (at, length) = usize::try_from(number)
                .ok()
                .and_then(|number| number.checked_sub(1))
                .and_then(|at| Some((at, *sizes.get(at)?)))
                .ok_or_else(|| {
                    let message = "The requested partnumber is not satisfiable";
                    refuse_as("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, message)
                })?;
            let start = sizes[..at].iter().sum::<u64>();
            let count = object.part_sizes.as_ref().and_then(|s| i32::try_from(s.len()).ok());
            (start..start + length, count)
        }
    };
    let content_range = (!bytes.is_empty())
        .then(|| format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1)));
    Ok(Slice { bytes, content_range, parts })
}

fn bad_range(size: u64) -> S3Error {
    let mut error = refuse(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
    let mut headers = http::HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Ok(value) = format!("bytes */{size}").parse() {
        headers.insert(header::CONTENT_RANGE, value);
    }
    error.set_headers(headers);
    error
}

/// Refuses every version id except `null`, because this server does not support versions.
pub(super) fn check_version(version_id: Option<&str>) -> S3Result<()> {
    match version_id {
        None | Some("null" | "") => Ok(()),
        Some(_) => {
            let message = "The specified version does not exist.";
            Err(refuse(S3ErrorCode::NoSuchVersion, message))
        }
    }
}

/// The conditions in the input of a GET or a HEAD.
macro_rules! read_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.if_match,
            if_none_match: $input.if_none_match,
            if_modified_since: $input.if_modified_since,
            if_unmodified_since: $input.if_unmodified_since,
        }
    };
}

/// Sets the fields that the outputs of GET and HEAD have in common.
macro_rules! describe {
    ($output:expr, $object:expr, $slice:expr, $checksum_mode:expr) => {{
        let attributes = $object.attributes;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = attributes.cache_control;
        $output.content_disposition = attributes.content_disposition;
        $output.content_encoding = attributes.content_encoding;
        $output.content_language = attributes.content_language;
        $output.content_length = i64::try_from($slice.bytes.end - $slice.bytes.start).ok();
        $output.content_type =
            Some(attributes.content_type.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()));
        $output.e_tag = Some(ETag::Strong($object.etag));
        $output.expires = attributes.expires;
        $output.last_modified = Some(timestamp($object.modified_ms));
        $output.metadata = Some(attributes.metadata.into_iter().collect());
        $output.parts_count = $slice.parts;
        let enabled = $checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        if enabled
            && $slice.content_range.is_none()
            && let Some(sum) = $object.sum
        {
            let sums = sum.to_dto();
            $output.checksum_type.clone_from(&sums.checksum_type);
            copy_sums!(sums => $output);
        }
        $output.content_range = $slice.content_range;
    }};
}

pub(super) async fn get_object(
    store: &Store,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let (object, mut file) = store.open_object(&input.bucket, &input.key).await?;
    let conditions = read_conditions!(input);
    conditions.check(&object, S3ErrorCode::NotModified)?;
    let slice = slice(&object, input.range, input.part_number)?;
    if slice.bytes.start > 0 {
        file.seek(SeekFrom::Start(slice.bytes.start)).await.map_err(StoreError::from)?;
    }
    let reader = file.take(slice.bytes.end - slice.bytes.start);
    let mut output = GetObjectOutput::default();
    describe!(output, object, slice, input.checksum_mode);
    output.body = Some(StreamingBlob::wrap(ReaderStream::with_capacity(reader, READ_BUFFER)));
    Ok(S3Response::new(output))
}

pub(super) async fn head_object(
    store: &Store,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = request.input;
    check_version(input.version_id.as_deref())?;
    let object = store.index().object(&input.bucket, &input.key).await?;
    let conditions = read_conditions!(input);
    conditions.check(&object, S3ErrorCode::NotModified)?;
    let slice = slice(&object, input.range, input.part_number)?;
    let mut output = HeadObjectOutput::default();
    describe!(output, object, slice, input.checksum_mode);
    // `s3s` applies the `response-*` parameters of a GET, but not those of a HEAD.
    output.cache_control = input.response_cache_control.or(output.cache_control);
    output.content_disposition = input.response_content_disposition.or(output.content_disposition);
    output.content_encoding = input.response_content_encoding.or(output.content_encoding);
    output.content_language = input.response_content_language.or(output.content_language);
    output.content_type = input.response_content_type.or(output.content_type);
    output.expires = input.response_expires.or(output.expires);
    let partial = output.content_range.is_some();
    let mut response = S3Response::new(output);
    response.status = partial.then_some(StatusCode::PARTIAL_CONTENT);
    Ok(response)
}
