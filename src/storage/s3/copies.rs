//! Copies within a server.

use std::ops::Range;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{MetadataDirective, StorageClass, TaggingDirective};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::conversions::{etag, sdk_algorithm, sdk_sse};
use super::errors::{status, store_error};
use super::multipart::multipart_error;
use super::{S3, S3Credentials, S3Settings, object_headers, versions};
use crate::storage::{CopySource, Part, PutOptions, Result, StoreError, Written};

/// The bucket and the key of a source are encoded in its header (S3 API reference, `CopyObject`).
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The text for [`copy_domain`](crate::storage::ObjectStore::copy_domain). It does not contain the
/// secret.
pub(super) fn domain_of(settings: &S3Settings) -> String {
    let S3Settings { endpoint, region, credentials, .. } = settings;
    let endpoint = endpoint.as_ref().map_or("aws", |endpoint| endpoint.as_str());
    let account = match credentials {
        S3Credentials::Static { access_key_id, .. } => access_key_id,
        S3Credentials::Chain => "",
    };
    format!("{endpoint} {region} {account}")
}

impl S3 {
    pub(super) async fn copy_object(
        &self,
        source: &CopySource<'_>,
        key: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        // Only the algorithm of the checksum is sent, because the store computes the value. The
        // conditions apply only to writes with a body.
        let PutOptions {
            content_type,
            content_encoding,
            metadata,
            object,
            checksum,
            if_none_match: _,
            if_match: _,
        } = options;
        let mut copy = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(key)
            .copy_source(name_of(source))
            .copy_source_if_match(quoted(source))
            .metadata_directive(MetadataDirective::Replace)
            .set_content_type(content_type.clone())
            .set_content_encoding(content_encoding.clone())
            .set_checksum_algorithm(checksum.as_ref().and_then(|c| sdk_algorithm(c.algorithm())))
            .set_server_side_encryption(sdk_sse(object))
            .set_ssekms_key_id(object.kms_key_id.clone())
            .set_storage_class(object.storage_class.as_deref().map(StorageClass::from))
            .set_cache_control(object.cache_control.clone());
        if let Some(tagging) = object_headers::tagging(object) {
            copy = copy.tagging_directive(TaggingDirective::Replace).tagging(tagging);
        }
        for (name, value) in metadata {
            copy = copy.metadata(name, value);
        }
        let copied = copy.customize().config_override(self.for_transfers()).send().await;
        let copied = copied.map_err(|error| source_error(error, store_error))?;
        let result = copied.copy_object_result();
        Ok(Written {
            etag: etag(result.and_then(|result| result.e_tag()))?,
            version_id: versions::id(copied.version_id),
        })
    }

    pub(super) async fn copy_range(
        &self,
        source: &CopySource<'_>,
        range: Range<u64>,
        (key, upload_id, number): (&str, &str, u16),
    ) -> Result<Part> {
        let size = range.end.saturating_sub(range.start);
        let copied = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(i32::from(number))
            .copy_source(name_of(source))
            .copy_source_if_match(quoted(source))
            .copy_source_range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
            .customize()
            .config_override(self.for_transfers())
            .send()
            .await
            .map_err(|error| source_error(error, multipart_error))?;
        let etag = etag(copied.copy_part_result().and_then(|result| result.e_tag()))?;
        Ok(Part { number, etag, size, last_modified: None, checksum: None })
    }
}

fn name_of(source: &CopySource<'_>) -> String {
    let name = format!("{}/{}", source.bucket, source.key);
    utf8_percent_encode(&name, ENCODED).to_string()
}

fn quoted(source: &CopySource<'_>) -> String {
    format!("\"{}\"", source.etag)
}

/// If the source was deleted or replaced, the precondition of the copy has failed.
fn source_error<E>(
    error: SdkError<E, HttpResponse>,
    other: impl FnOnce(SdkError<E, HttpResponse>) -> StoreError,
) -> StoreError
where
    E: ProvideErrorMetadata,
{
    match (status(&error), error.code()) {
        (Some(412), _) | (_, Some("NoSuchKey")) => StoreError::PreconditionFailed,
        _ => other(error),
    }
}
