//! Implements [`ObjectStore`] for S3.

use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as SdkStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, ChecksumMode, CreateBucketConfiguration, Delete, EncodingType,
    ObjectIdentifier, StorageClass,
};
use bytes::{Bytes, BytesMut};
use chrono::TimeDelta;

use super::conversions::{etag, listed, meta, sdk_algorithm, sdk_sse};
use super::errors::{is_not_found, status, store_error};
use super::{S3, object_headers, versions};
use crate::domain::checksum::Algorithm;
use crate::domain::limits::MAX_PAGE;
use crate::storage::{
    ByteStream, CopySource, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part,
    PartIntegrity, PutOptions, Result, StoreError, Written,
};

#[async_trait]
impl ObjectStore for S3 {
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let head = self.client.head_object().bucket(&self.bucket).key(key);
        match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(head) => meta(head).map(Some),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn head_version(&self, key: &str, version_id: &str) -> Result<Option<ObjectMeta>> {
        self.head_one_version(key, version_id).await
    }

    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes> {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(Bytes::new());
        };
        let header = format!("bytes={}-{last}", range.start);
        let Some(mut response) = self.get(key, Some(header), if_match).await? else {
            return Ok(Bytes::new());
        };
        if response.content_range().is_none() && range.start > 0 {
            return Err(StoreError::Protocol("the store ignored a Range header".into()));
        }
        // At most the requested bytes, even if the store sends the whole object.
        let requested = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::new();
        while bytes.len() < requested {
            let Some(chunk) = response.body.next().await else { break };
            let chunk = chunk.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
            if bytes.is_empty() && chunk.len() >= requested {
                return Ok(chunk.slice(..requested));
            }
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(requested);
        Ok(bytes.freeze())
    }

    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream> {
        let Some(response) = self.get(key, None, if_match).await? else {
            return Ok(Box::pin(futures_util::stream::empty()));
        };
        Ok(Box::pin(futures_util::stream::unfold(response.body, |mut body| async {
            let chunk = body.next().await?;
            Some((chunk.map_err(|error| StoreError::Unavailable(Box::new(error))), body))
        })))
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let PutOptions {
            content_type,
            content_encoding,
            metadata,
            object,
            checksum,
            if_none_match,
            if_match,
        } = options;
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(content_type.clone())
            .set_content_encoding(content_encoding.clone())
            .set_if_none_match(if_none_match.then(|| "*".to_owned()))
            .set_if_match(if_match.as_ref().map(|etag| format!("\"{etag}\"")))
            .set_server_side_encryption(sdk_sse(object))
            .set_ssekms_key_id(object.kms_key_id.clone())
            .set_storage_class(object.storage_class.as_deref().map(StorageClass::from))
            .set_cache_control(object.cache_control.clone())
            .set_tagging(object_headers::tagging(object))
            .body(SdkStream::from(body));
        for (name, value) in metadata {
            put = put.metadata(name, value);
        }
        if let Some(checksum) = checksum {
            let value = Some(checksum.value());
            put = match checksum.algorithm() {
                Algorithm::Sha256 => put.set_checksum_sha256(value),
                Algorithm::Crc32 => put.set_checksum_crc32(value),
                Algorithm::Crc32c => put.set_checksum_crc32_c(value),
                Algorithm::Crc64nvme => put.set_checksum_crc64_nvme(value),
                Algorithm::Md5 => put.set_content_md5(value),
            };
            put = put.set_checksum_algorithm(sdk_algorithm(checksum.algorithm()));
        }
        let put = put.customize().config_override(self.for_transfers());
        let written = match put.send().await {
            Ok(written) => written,
            // The object of the condition does not exist any more.
            Err(error) if if_match.is_some() && is_not_found(&error) => {
                return Err(StoreError::PreconditionFailed);
            }
            // For other calls a 501 is a temporary failure. Here it means that the store does not
            // support the condition.
            Err(error) if (if_match.is_some() || *if_none_match) && status(&error) == Some(501) => {
                return Err(refused("NotImplemented", error));
            }
            Err(error) => return Err(store_error(error)),
        };
        Ok(Written { etag: etag(written.e_tag())?, version_id: versions::id(written.version_id) })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.client.delete_object().bucket(&self.bucket).key(key).send().await {
            Ok(deleted) if versions::are_left(&deleted) => self.delete_versions(key).await,
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let mut failed = Vec::new();
        for keys in keys.chunks(MAX_PAGE) {
            let mut delete = Delete::builder().quiet(true);
            for key in keys {
                let id = ObjectIdentifier::builder().key(key).build();
                delete = delete.objects(id.map_err(|e| refused("InvalidRequest", e))?);
            }
            let delete = delete.build().map_err(|e| refused("InvalidRequest", e))?;
            let call = self.client.delete_objects().bucket(&self.bucket).delete(delete);
            let response = call.send().await.map_err(store_error)?;
            for error in response.errors() {
                let code = error.code().unwrap_or("Unknown");
                if code != "NoSuchKey" {
                    let why = refused(code, error.message().unwrap_or_default().to_owned());
                    failed.push((error.key().unwrap_or_default().to_owned(), why));
                }
            }
        }
        Ok(failed)
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let ListRequest { prefix, start_after, token, limit } = request;
        let limit = if *limit == 0 { MAX_PAGE } else { (*limit).min(MAX_PAGE) };
        let response = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(start_after.clone().filter(|_| token.is_none()))
            .set_continuation_token(token.clone())
            // XML cannot contain control characters: without an encoding, one such key would break
            // every listing.
            .encoding_type(EncodingType::Url)
            .max_keys(i32::try_from(limit).unwrap_or(1000))
            .send()
            .await
            .map_err(store_error)?;
        let encoded = response.encoding_type() == Some(&EncodingType::Url);
        let objects = response.contents().iter().map(|object| listed(object, encoded));
        let objects = objects.collect::<Result<Vec<_>>>()?;
        let next = match (response.is_truncated(), response.next_continuation_token) {
            (Some(true), None) => {
                return Err(StoreError::Protocol(
                    "an incomplete listing has no continuation token".into(),
                ));
            }
            (Some(true), next) if next == *token => {
                return Err(StoreError::Protocol(
                    "the store's listing of objects does not advance".into(),
                ));
            }
            (Some(true), next) => next,
            _ => None,
        };
        Ok(ListPage { objects, next })
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String> {
        self.begin(key, options).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        integrity: PartIntegrity,
    ) -> Result<Part> {
        self.send_part(key, upload_id, number, body, integrity).await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.parts(key, upload_id).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        self.complete(key, upload_id, parts, if_none_match).await
    }

    fn copy_domain(&self) -> Option<&str> {
        Some(&self.copy_domain)
    }

    async fn copy(
        &self,
        source: &CopySource<'_>,
        key: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.copy_object(source, key, options).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        range: Range<u64>,
        key: &str,
        upload_id: &str,
        number: u16,
    ) -> Result<Part> {
        self.copy_range(source, range, (key, upload_id, number)).await
    }

    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()> {
        self.abort(key, upload_id).await
    }

    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        self.open_multiparts(prefix, marker).await
    }

    async fn check_bucket(&self) -> Result<()> {
        let head = self.client.head_bucket().bucket(&self.bucket).send().await;
        let Err(error) = head else { return Ok(()) };
        match status(&error) {
            Some(404) => Err(StoreError::NoSuchBucket),
            // A HEAD response has no body and so no error code. A second request finds the cause.
            Some(400..=499) => {
                let list = self.client.list_objects_v2().bucket(&self.bucket).max_keys(1);
                list.send().await.map(drop).map_err(store_error)
            }
            _ => Err(store_error(error)),
        }
    }

    fn clock_offset(&self) -> Option<TimeDelta> {
        self.clock_offset.get()
    }

    async fn create_bucket(&self) -> Result<()> {
        // AWS refuses a constraint that names us-east-1 (S3 API reference, `CreateBucket`).
        let location = (self.region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()))
                .build()
        });
        let create = self.client.create_bucket().bucket(&self.bucket);
        match create.set_create_bucket_configuration(location).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            // Several stores also return this error for a bucket of the same owner.
            Err(error) if error.code() == Some("BucketAlreadyExists") => self.check_bucket().await,
            Err(error) => Err(store_error(error)),
        }
    }
}

impl S3 {
    /// Sends a GET. `None` if the range is after the end of the object.
    async fn get(
        &self,
        key: &str,
        range: Option<String>,
        if_match: &str,
    ) -> Result<Option<GetObjectOutput>> {
        let get = self.client.get_object().bucket(&self.bucket).key(key).set_range(range);
        match get.if_match(format!("\"{if_match}\"")).send().await {
            Ok(response) => Ok(Some(response)),
            Err(error) if status(&error) == Some(416) => Ok(None),
            Err(error) if is_not_found(&error) => Err(StoreError::PreconditionFailed),
            Err(error) => Err(store_error(error)),
        }
    }
}

pub(super) fn refused(
    code: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Refused { code: code.to_owned(), source: source.into() }
}
