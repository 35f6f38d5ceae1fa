//! Multipart uploads.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::primitives::ByteStream as SdkStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType,
    StorageClass,
};
use bytes::Bytes;

use super::conversions::{decode, etag, sdk_algorithm, sdk_sse, size, timestamp};
use super::errors::{is_not_found, store_error};
use super::{S3, object_headers, versions};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::storage::{OpenMultipart, Part, PartIntegrity, PutOptions, Result, StoreError, Written};

/// Separates the upload id from the key in a marker. No upload id contains it. The key may contain
/// it, because it comes last.
const MARKER_SEPARATOR: char = '\n';

impl S3 {
    pub(super) async fn begin(&self, key: &str, options: &PutOptions) -> Result<String> {
        // The condition is sent with the completion.
        let PutOptions {
            content_type,
            content_encoding,
            metadata,
            object,
            checksum,
            if_none_match: _,
            if_match: _,
        } = options;
        let mut create = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(content_type.clone())
            .set_content_encoding(content_encoding.clone())
            .set_server_side_encryption(sdk_sse(object))
            .set_ssekms_key_id(object.kms_key_id.clone())
            .set_storage_class(object.storage_class.as_deref().map(StorageClass::from))
            .set_cache_control(object.cache_control.clone())
            .set_tagging(object_headers::tagging(object));
        for (name, value) in metadata {
            create = create.metadata(name, value);
        }
        if let Some(algorithm) = checksum.as_ref().and_then(|c| sdk_algorithm(c.algorithm())) {
            // S3 has no SHA-256 of a whole object made of parts.
            let whole = algorithm != ChecksumAlgorithm::Sha256;
            create = create
                .checksum_algorithm(algorithm)
                .set_checksum_type(whole.then_some(ChecksumType::FullObject));
        }
        let created = create.send().await.map_err(store_error)?;
        created.upload_id.ok_or_else(|| {
            StoreError::Protocol("the store returned no id for a multipart upload".into())
        })
    }

    pub(super) async fn send_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        integrity: PartIntegrity,
    ) -> Result<Part> {
        let size = body.len() as u64;
        let algorithm = Algorithm::Crc64nvme;
        let checksum =
            (integrity == PartIntegrity::Checksum).then(|| Checksum::of(algorithm, &body));
        let call = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(i32::from(number))
            .set_checksum_algorithm(checksum.as_ref().and_then(|_| sdk_algorithm(algorithm)))
            .set_checksum_crc64_nvme(checksum.as_ref().map(Checksum::value))
            .body(SdkStream::from(body))
            .customize()
            .config_override(self.for_transfers());
        let call = match integrity {
            PartIntegrity::Signature => call,
            PartIntegrity::Checksum => call.disable_payload_signing(),
        };
        let sent = call.send().await.map_err(multipart_error)?;
        Ok(Part { number, etag: etag(sent.e_tag())?, size, last_modified: None, checksum })
    }

    pub(super) async fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        let mut parts = PartList::default();
        let mut marker = None;
        loop {
            let call = self.client.list_parts().bucket(&self.bucket).key(key).upload_id(upload_id);
            let page = call.set_part_number_marker(marker.clone()).send().await;
            let page = page.map_err(multipart_error)?;
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u16::try_from(number).ok());
                let number = number
                    .ok_or_else(|| StoreError::Protocol("a listed part has no number".into()))?;
                let last_modified = part.last_modified().and_then(timestamp);
                let etag = etag(part.e_tag())?;
                let size = size(part.size());
                parts.add(Part { number, etag, size, last_modified, checksum: None });
            }
            let next = page.next_part_number_marker;
            if page.is_truncated != Some(true) {
                return parts.finish();
            }
            if next.is_none() || next == marker {
                return Err(StoreError::Protocol("a list of parts is incomplete".into()));
            }
            marker = next;
        }
    }

    pub(super) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        let list = parts.iter().map(|part| {
            let number = i32::from(part.number);
            let sum = part.checksum.as_ref().map(Checksum::value);
            let named = CompletedPart::builder().part_number(number).e_tag(&part.etag);
            named.set_checksum_crc64_nvme(sum).build()
        });
        let list = CompletedMultipartUpload::builder().set_parts(Some(list.collect())).build();
        let done = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(list)
            .set_if_none_match(if_none_match.then(|| "*".to_owned()))
            .customize()
            .config_override(self.for_transfers())
            .send()
            .await
            .map_err(multipart_error)?;
        Ok(Written { etag: etag(done.e_tag())?, version_id: versions::id(done.version_id) })
    }

    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<()> {
        let call = self.client.abort_multipart_upload().bucket(&self.bucket).key(key);
        match call.upload_id(upload_id).send().await.map_err(multipart_error) {
            Ok(_) | Err(StoreError::NoSuchMultipart) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn open_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        let (id_marker, key_marker) =
            marker.and_then(|marker| marker.split_once(MARKER_SEPARATOR)).unzip();
        let page = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(prefix)
            .encoding_type(EncodingType::Url)
            .set_key_marker(key_marker.map(str::to_owned))
            .set_upload_id_marker(id_marker.map(str::to_owned))
            .send()
            .await
            .map_err(store_error)?;
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let plain = |key: &str| if encoded { decode(key) } else { Ok(key.to_owned()) };
        let mut open = Vec::with_capacity(page.uploads().len());
        for upload in page.uploads() {
            let (Some(key), Some(upload_id)) = (upload.key(), upload.upload_id()) else {
                return Err(StoreError::Protocol(
                    "a listed multipart upload has no key or no id".into(),
                ));
            };
            let initiated = upload.initiated().and_then(timestamp);
            open.push(OpenMultipart {
                key: plain(key)?,
                upload_id: upload_id.to_owned(),
                initiated,
            });
        }
        if page.is_truncated() != Some(true) {
            return Ok((open, None));
        }
        // SeaweedFS omits the markers. In S3 they name the last upload of the page.
        let key = page.next_key_marker().filter(|key| !key.is_empty()).map(plain).transpose()?;
        let last = open.last();
        let next = match (key, page.next_upload_id_marker(), last) {
            (Some(key), id, _) => Some((id.unwrap_or_default().to_owned(), key)),
            (None, _, Some(last)) => Some((last.upload_id.clone(), last.key.clone())),
            (None, _, None) => None,
        };
        let next = next.map(|(id, key)| format!("{id}{MARKER_SEPARATOR}{key}"));
        if next.is_none() || next.as_deref() == marker {
            return Err(StoreError::Protocol("a list of multipart uploads is incomplete".into()));
        }
        Ok((open, next))
    }
}

/// Keeps the newest of the parts with the same number. If a part was sent several times, SeaweedFS
/// lists all of them, in no order, with times in whole seconds.
#[derive(Default)]
struct PartList {
    newest: BTreeMap<u16, Part>,
    /// Parts with two ETags of the same time, so that it is unknown which one is the newest.
    unclear: BTreeSet<u16>,
}

impl PartList {
    fn add(&mut self, part: Part) {
        let number = part.number;
        match self.newest.get(&number) {
            Some(known) if known.last_modified > part.last_modified => {}
            Some(known) if known.last_modified == part.last_modified => {
                if known.etag != part.etag {
                    self.unclear.insert(number);
                }
            }
            _ => {
                self.unclear.remove(&number);
                self.newest.insert(number, part);
            }
        }
    }

    /// An error is better than an object with old bytes. Sending the part again fixes it.
    fn finish(self) -> Result<Vec<Part>> {
        match self.unclear.first() {
            Some(number) => Err(StoreError::Protocol(format!(
                "part {number} is listed twice with the same time; send it again"
            ))),
            None => Ok(self.newest.into_values().collect()),
        }
    }
}

/// Converts an error of a call about one multipart upload. If the bucket exists, a 404 means that
/// the upload does not exist, even without an error code, which some stores omit.
pub(super) fn multipart_error<E>(
    error: aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> StoreError
where
    E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + Send + Sync + 'static,
{
    if is_not_found(&error) { StoreError::NoSuchMultipart } else { store_error(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(parts: &[(u16, &str, i64)]) -> Result<Vec<String>> {
        let mut list = PartList::default();
        for (number, etag, second) in parts {
            let last_modified = crate::domain::clock::Timestamp::from_timestamp(*second, 0);
            let etag = (*etag).to_owned();
            list.add(Part { number: *number, etag, size: 1, last_modified, checksum: None });
        }
        Ok(list.finish()?.into_iter().map(|part| part.etag).collect())
    }

    #[test]
    fn if_a_part_is_listed_twice_the_newest_is_used_in_any_order() {
        assert_eq!(list(&[(2, "c", 0), (1, "a", 5), (1, "b", 6)]).unwrap(), ["b", "c"]);
        assert_eq!(list(&[(1, "b", 6), (1, "a", 5)]).unwrap(), ["b"]);
        assert_eq!(list(&[(1, "a", 5), (1, "a", 5)]).unwrap(), ["a"], "the same bytes again");
    }

    #[test]
    fn a_list_of_parts_fails_if_the_newest_upload_of_a_part_is_unknown() {
        let twice = [(1, "a", 5), (1, "b", 5), (1, "c", 6)];
        assert!(matches!(list(&twice[..2]), Err(StoreError::Protocol(_))));
        assert_eq!(list(&twice).unwrap(), ["c"]);
        assert_eq!(list(&[(1, "c", 6), (1, "a", 5), (1, "b", 5)]).unwrap(), ["c"]);
    }
}
