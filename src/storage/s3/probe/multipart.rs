//! Checks of multipart uploads, with the requests that clients send.

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};

use super::response::S3Response as _;
use super::{Check, EXPIRES_IN, Prober, Step};
use crate::domain::{Algorithm, Checksum};
use crate::storage::signer::{Operation, PartRequest, PutRequest};
use crate::storage::{PartIntegrity, PutOptions, StoreError};
use crate::telemetry::chain;

const PART: &[u8] = b"the only part";
/// Has the same length as [`PART`], so only the bytes differ.
const OTHER: &[u8] = b"THE ONLY PART";

impl Prober<'_> {
    pub(super) async fn multipart(&self) -> Step<Check> {
        self.learn(|can| can.multipart = false);
        let mend = "Set multipart_threshold above max_size: uploads in parts will fail.";
        let key = self.key("multipart");
        match self.in_parts(&key).await? {
            Ok(()) => {}
            Err(saw) => return Ok(Check::warn("multipart", saw, mend)),
        }
        self.learn(|can| can.multipart = true);
        let (once, listed) = self.second_upload(&key).await?;
        self.learn(|can| can.multipart_write_once = once);
        self.learn(|can| can.list_multiparts = listed);
        let (returned, checked) = self.checksums_of_parts().await?;
        self.learn(|can| (can.multipart_checksums, can.checked_parts) = (returned, checked));
        let of_parts = try_join_all(Algorithm::ALL.map(|algorithm| self.checks_parts(algorithm)));
        let of_parts = Algorithm::ALL.into_iter().zip(of_parts.await?);
        let of_parts: Vec<_> = of_parts.filter(|(_, checks)| *checks).map(|(sum, _)| sum).collect();
        let names: Vec<_> = of_parts.iter().map(|algorithm| algorithm.name()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.learn(|can| can.part_checksums = of_parts);
        let once = if once { "is write-once" } else { "overwrites the object" };
        let listed = if listed { "are" } else { "are not" };
        Ok(Check::pass(
            "multipart",
            format!(
                "uploads in presigned parts work; completion {once}; unfinished ones {listed} \
                 listed; checksums of parts: {names}"
            ),
        ))
    }

    /// Creates, sends and completes an upload with presigned requests. The parts are listed by the
    /// same request that the service uses.
    async fn in_parts(&self, key: &str) -> Step<Result<(), String>> {
        let (signer, now) = (&self.store.signer, self.clock.now());
        let presign = PutRequest::default();
        let creation = Operation::CreateMultipart(&presign);
        let creation = signer.sign(key, creation, now, EXPIRES_IN).await?;
        let begun = self.send(&creation, b"").await?;
        let Some(upload_id) = begun.xml("UploadId").filter(|_| begun.is_success()) else {
            return Ok(Err(format!("the creation returns {}", begun.summary())));
        };
        let presign = PartRequest { content_length: Some(PART.len() as u64), checksum: None };
        let part = Operation::UploadPart { upload_id: &upload_id, number: 1, request: &presign };
        let part = signer.sign(key, part, now, EXPIRES_IN).await?;
        let sent = self.send(&part, PART).await?;
        let parts = match self.store.objects.list_parts(key, &upload_id).await {
            Ok(parts) if sent.is_success() && parts.len() == 1 => parts,
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            other => {
                self.store.objects.abort_multipart(key, &upload_id).await?;
                let listed = other.map_or_else(|e| e.to_string(), |p| format!("{} parts", p.len()));
                return Ok(Err(format!(
                    "a part returns {}, and the list of parts: {listed}",
                    sent.summary()
                )));
            }
        };
        let xml = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part>\
             <PartNumber>1</PartNumber><ETag>\"{}\"</ETag></Part></CompleteMultipartUpload>",
            parts[0].etag
        );
        let end = Operation::CompleteMultipart { upload_id: &upload_id, write_once: false };
        let end = signer.sign(key, end, now, EXPIRES_IN).await?;
        let ended = self.send_bytes(&end, Bytes::from(xml)).await?;
        let size = self.store.objects.head(key).await?.map(|meta| meta.size);
        if ended.is_success() && size == Some(PART.len() as u64) {
            return Ok(Ok(()));
        }
        self.store.objects.abort_multipart(key, &upload_id).await?;
        Ok(Err(format!("the completion returns {}; HEAD shows {size:?}", ended.summary())))
    }

    /// Tests two properties of multipart objects: for which algorithms the store returns a checksum
    /// of the whole object if the parts have none, and whether it returns CRC-64/NVME if each part
    /// has one.
    async fn checksums_of_parts(&self) -> Step<(Vec<Algorithm>, bool)> {
        let algorithms = [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme];
        let plain = algorithms.map(|algorithm| self.keeps(algorithm, PartIntegrity::Signature));
        let checked = self.keeps(Algorithm::Crc64nvme, PartIntegrity::Checksum);
        let (plain, checked) = try_join(try_join_all(plain), checked).await?;
        let returned = algorithms.into_iter().zip(plain).filter(|(_, returned)| *returned);
        Ok((returned.map(|(algorithm, _)| algorithm).collect(), checked))
    }

    async fn keeps(&self, algorithm: Algorithm, integrity: PartIntegrity) -> Step<bool> {
        let name = match integrity {
            PartIntegrity::Signature => "multipart",
            PartIntegrity::Checksum => "checked-parts",
        };
        let key = self.key(&format!("{name}-{algorithm}"));
        match self.with_checksum(&key, &Checksum::of(algorithm, PART), integrity).await {
            Ok(returned) => Ok(returned),
            Err(error @ StoreError::Unavailable(_)) => Err(error.into()),
            Err(error) => {
                tracing::debug!(%algorithm, ?integrity, error = %chain(&error),
                    "the store accepts no checksum of the whole object");
                Ok(false)
            }
        }
    }

    /// Whether HEAD shows the checksum of a multipart object. The parts have no checksums, like the
    /// parts that clients send, or have checksums, like the parts that the service sends.
    async fn with_checksum(
        &self,
        key: &str,
        whole: &Checksum,
        integrity: PartIntegrity,
    ) -> Result<bool, StoreError> {
        let objects = &self.store.objects;
        let options = PutOptions { checksum: Some(whole.clone()), ..PutOptions::default() };
        let upload_id = objects.create_multipart(key, &options).await?;
        let part =
            objects.upload_part(key, &upload_id, 1, Bytes::from_static(PART), integrity).await;
        let made = match part {
            Ok(part) => objects.complete_multipart(key, &upload_id, &[part], false).await,
            Err(error) => Err(error),
        };
        objects.abort_multipart(key, &upload_id).await?;
        made?;
        Ok(objects.head(key).await?.is_some_and(|meta| meta.checksums.contains(whole)))
    }

    /// Whether a presigned part with this checksum is accepted, and a part with other bytes is
    /// refused. Some stores check an algorithm for whole objects but not for parts.
    async fn checks_parts(&self, algorithm: Algorithm) -> Step<bool> {
        let key = self.key(&format!("part-{algorithm}"));
        let (objects, checksum) = (&self.store.objects, Checksum::of(algorithm, PART));
        let options = PutOptions { checksum: Some(checksum.clone()), ..PutOptions::default() };
        let upload_id = match objects.create_multipart(&key, &options).await {
            Ok(upload_id) => upload_id,
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            Err(_) => return Ok(false),
        };
        let presign = PartRequest { content_length: None, checksum: Some(checksum) };
        let part = Operation::UploadPart { upload_id: &upload_id, number: 1, request: &presign };
        let part = self.store.signer.sign(&key, part, self.clock.now(), EXPIRES_IN).await?;
        let right = self.send(&part, PART).await?;
        let wrong = self.send(&part, OTHER).await?;
        objects.abort_multipart(&key, &upload_id).await?;
        Ok(right.is_success() && wrong.is_refusal())
    }

    /// Whether a write-once completion of a second upload leaves the first object unchanged, and
    /// whether the upload was listed before its completion.
    async fn second_upload(&self, key: &str) -> Step<(bool, bool)> {
        let objects = &self.store.objects;
        let before = self.etag(key).await?;
        let upload_id = objects.create_multipart(key, &PutOptions::default()).await?;
        let listed = match objects.list_multiparts(&self.base, None).await {
            Ok((open, _)) => open.iter().any(|upload| upload.upload_id == upload_id),
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            Err(_) => false,
        };
        let part = objects
            .upload_part(
                key,
                &upload_id,
                1,
                Bytes::from_static(b"another"),
                PartIntegrity::Signature,
            )
            .await?;
        let completed = objects.complete_multipart(key, &upload_id, &[part], true).await;
        objects.abort_multipart(key, &upload_id).await?;
        let refused = matches!(completed, Err(StoreError::PreconditionFailed));
        Ok((refused && self.etag(key).await? == before, listed))
    }
}
