//! The file of a direct upload while its bytes arrive.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use crate::app::{AppError, Result};
use crate::domain::Policy;
use crate::domain::checksum::{Algorithm, Checksum, Hasher};
use crate::domain::limits::MAX_PARTS;
use crate::domain::rules::{Pass, ReceivedObject};
use crate::domain::sniff::SNIFF_LEN;
use crate::domain::upload::Declared;

/// Divides the body into parts, and counts and hashes its bytes.
pub(super) struct File<'a, B> {
    body: B,
    policy: &'a Policy,
    part_size: usize,
    /// The length in bytes that the client declared.
    length: Option<u64>,
    /// The largest size in bytes that the upload's token allows.
    max_size: Option<u64>,
    remaining: Bytes,
    pub(super) ended: bool,
    pub(super) size: u64,
    pub(super) media_type: Option<String>,
    /// Whether the store keeps the CRC-64/NVME of an object made of parts.
    checked_parts: bool,
    /// The hash of the bytes so far, set with the first part, which decides the algorithm.
    sum: Option<Hasher>,
    /// The checksums that the client sent, and the hashes of the bytes so far.
    digests: Vec<(Checksum, Hasher)>,
}

impl<'a, B> File<'a, B> {
    pub(super) fn new(
        body: B,
        policy: &'a Policy,
        part_size: usize,
        length: Option<u64>,
        digests: Vec<Checksum>,
        checked_parts: bool,
    ) -> Self {
        // The parts are larger if the file would have too many parts of the usual size.
        let least = length.unwrap_or(0).div_ceil(u64::from(MAX_PARTS));
        let part_size = part_size.max(usize::try_from(least).unwrap_or(usize::MAX));
        let hashed = |sum: Checksum| {
            let hasher = Hasher::new(sum.algorithm());
            (sum, hasher)
        };
        Self {
            digests: digests.into_iter().map(hashed).collect(),
            body,
            policy,
            part_size,
            length,
            max_size: None,
            remaining: Bytes::new(),
            ended: false,
            size: 0,
            media_type: None,
            checked_parts,
            sum: None,
        }
    }

    /// Adds another limit of the size to the policy's limit.
    pub(super) fn with_max_size(self, max_size: Option<u64>) -> Self {
        Self { max_size, ..self }
    }

    /// The hash of the bytes so far.
    pub(super) fn hash(&self) -> Option<Checksum> {
        self.sum.clone().map(Hasher::finish)
    }

    /// The checksum to record: the client's if it sent one, otherwise the store's if it keeps one,
    /// otherwise the SHA-256.
    pub(super) fn checksum(self) -> Option<Checksum> {
        let sent = self.digests.into_iter().next().map(|(sum, _)| sum);
        sent.or_else(|| self.sum.map(Hasher::finish))
    }
}

impl<B> File<'_, B>
where
    B: Stream<Item = Result<Bytes>> + Unpin,
{
    /// Returns the next part. The last part may be smaller, and is empty if the body has ended.
    /// Afterwards, `ended` is true if no bytes follow this part.
    pub(super) async fn next_part(&mut self) -> Result<Bytes> {
        // Allocated in its final size: a growing buffer is copied and temporarily needs twice the
        // memory.
        let left = self.length.map_or(0, |length| length.saturating_sub(self.size));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let mut part = BytesMut::with_capacity(left.min(self.part_size));
        loop {
            let take = self.remaining.len().min(self.part_size - part.len());
            part.extend_from_slice(&self.remaining.split_to(take));
            if !self.remaining.is_empty() || self.ended {
                break;
            }
            match self.body.next().await {
                Some(chunk) => self.remaining = chunk?,
                None => self.ended = true,
            }
        }
        self.size += part.len() as u64;
        let limits = Declared { max_size: self.max_size, ..Declared::default() };
        if self.size > self.policy.max_size_of(&limits) {
            return Err(AppError::field("file", self.policy.too_large(&limits)));
        }
        let is_checked = self.checked_parts && !self.ended;
        let algorithm = if is_checked { Algorithm::Crc64nvme } else { Algorithm::Sha256 };
        let sum = self.sum.get_or_insert_with(|| Hasher::new(algorithm));
        let digests = self.digests.iter_mut().map(|(_, hasher)| hasher);
        for hasher in digests.chain([sum]) {
            hasher.update(&part);
        }
        Ok(part.freeze())
    }

    /// The checksum that the store must return for an object made of the parts so far, if the store
    /// keeps one.
    pub(super) fn checksum_of_parts(&self) -> Option<Checksum> {
        let sum = self.hash()?;
        (sum.algorithm() == Algorithm::Crc64nvme).then_some(sum)
    }

    /// Compares the whole file with the checksums that the client sent.
    pub(super) fn check_digests(&self) -> Result<()> {
        for (sum, hasher) in &self.digests {
            if hasher.clone().finish() != *sum {
                let sentence =
                    format!("File's {} differs from the checksum in the request", sum.algorithm());
                return Err(AppError::field("file", sentence));
            }
        }
        Ok(())
    }

    /// Validates the first part before anything is stored.
    pub(super) fn check_start(&mut self, declared: &Declared, first: &Bytes) -> Result<()> {
        let size = match declared.size {
            Some(size) if !self.ended => size,
            _ => self.size,
        };
        let head = &first[..first.len().min(SNIFF_LEN)];
        let received = ReceivedObject {
            size,
            content_type: None,
            content_encoding: None,
            head,
            checksum: None,
        };
        self.media_type = self.policy.media_type(&received);
        self.policy
            .validate(declared, &received, Pass::WithoutChecksum)
            .map_err(|violation| AppError::field("file", violation.message))
    }
}
