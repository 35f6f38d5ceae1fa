//! Transfers between two servers: the bytes pass through this process.

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{
    Checksum, Destination, Hasher, Original, PartPlan, Result, Sizes, StoreError, TransferError,
    abort_after_error, compare, differs, options, read_error,
};
use crate::domain::checksum::Algorithm;
use crate::storage::{ByteStream, Part, PartIntegrity, PutOptions, Written};

/// How many parts of an object are in memory at the same time.
const PARTS_AT_ONCE: usize = 2;

/// The bytes that a transfer holds in memory.
pub(super) fn memory_of(size: u64, sizes: &Sizes) -> u64 {
    if size <= sizes.part {
        return size;
    }
    let plan = PartPlan::new(size, sizes.part);
    plan.map_or(size, |plan| plan.part_size() * PARTS_AT_ONCE as u64)
}

/// Writes the copy, and returns the checksums of the bytes.
pub(super) async fn stream(
    from: &Original<'_>,
    to: &Destination<'_>,
    known: &[Checksum],
    sizes: &Sizes,
) -> Result<Vec<Checksum>> {
    let bytes = from.store.objects.read_all(from.key, &from.meta.etag).await.map_err(read_error)?;
    let reader = Reader { bytes, buffer: BytesMut::new(), left: from.meta.size };
    if from.meta.size <= sizes.part {
        put(from, to, known, reader).await
    } else {
        send_parts(from, to, known, reader, sizes).await
    }
}

/// The original's bytes, cut into parts.
struct Reader {
    bytes: ByteStream,
    /// Bytes that were read and are not in a part yet.
    buffer: BytesMut,
    /// How many bytes of the object were not returned yet.
    left: u64,
}

impl Reader {
    /// The next `size` bytes, or fewer at the end; `None` after the end.
    async fn next(&mut self, size: u64) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let len = usize::try_from(size.min(self.left)).unwrap_or(usize::MAX);
        self.buffer.reserve(len.saturating_sub(self.buffer.len()));
        while self.buffer.len() < len {
            let Some(chunk) = self.bytes.try_next().await.map_err(read_error)? else {
                return Err(StoreError::Protocol(
                    "an object has fewer bytes than its HEAD reported".to_owned(),
                )
                .into());
            };
            self.buffer.extend_from_slice(&chunk);
        }
        self.left -= len as u64;
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

/// Hashes the bytes of the original before they are sent.
struct Sums(Vec<Hasher>);

impl Sums {
    /// Hashes with the algorithm by which the copy is compared, and with that of the first known
    /// checksum, if it is another one.
    fn new(known: &[Checksum], compared: Option<Algorithm>) -> Self {
        let recorded = known.first().map(Checksum::algorithm);
        let first = compared.or(recorded).unwrap_or(Algorithm::Crc64nvme);
        let second = recorded.filter(|recorded| *recorded != first);
        Self([Some(first), second].into_iter().flatten().map(Hasher::new).collect())
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.update(bytes));
    }

    /// The checksums of the bytes. The first is the one for the comparison.
    ///
    /// # Errors
    /// If the bytes do not have a known checksum.
    fn finish(self, known: &[Checksum]) -> Result<Vec<Checksum>> {
        let sums: Vec<_> = self.0.into_iter().map(Hasher::finish).collect();
        let other = |known: &&Checksum| {
            sums.iter().any(|sum| sum.algorithm() == known.algorithm() && sum != *known)
        };
        match known.iter().find(other) {
            Some(known) => {
                Err(differs(format!("the bytes do not have the expected checksum {known:?}")))
            }
            None => Ok(sums),
        }
    }
}

/// The algorithm by which the copy is compared: one that `is_returned` accepts. Algorithms of known
/// checksums come first, and then the others, the cheapest first.
fn choose(known: &[Checksum], is_returned: impl Fn(Algorithm) -> bool) -> Option<Algorithm> {
    use Algorithm::{Crc32, Crc32c, Crc64nvme, Md5, Sha256};
    let known = known.iter().map(Checksum::algorithm);
    let cheap = [Crc64nvme, Crc32c, Crc32, Md5, Sha256];
    known.chain(cheap).find(|algorithm| is_returned(*algorithm))
}

/// Sends a small object with one PUT.
async fn put(
    from: &Original<'_>,
    to: &Destination<'_>,
    known: &[Checksum],
    mut reader: Reader,
) -> Result<Vec<Checksum>> {
    let capabilities = &to.store.capabilities;
    let compared = choose(known, |algorithm| {
        capabilities.returns_checksum(algorithm)
            || (algorithm == Algorithm::Md5 && capabilities.etag_md5)
    });
    let body = reader.next(from.meta.size).await?.unwrap_or_default();
    let mut sums = Sums::new(known, compared);
    sums.update(&body);
    let sums = sums.finish(known)?;
    let checksum = sums.first().filter(|sum| capabilities.enforces_checksum(sum.algorithm()));
    let once = !to.may_exist && capabilities.write_once_is_effective();
    let options =
        PutOptions { checksum: checksum.cloned(), if_none_match: once, ..options(from, to) };
    match to.store.objects.put(to.key, body.clone(), &options).await {
        // The object exists with other bytes: it is left of an earlier attempt, or another process
        // wrote it. It is replaced.
        Err(StoreError::PreconditionFailed) if !is_copied(from, to, &sums).await? => {
            let options = PutOptions { if_none_match: false, ..options };
            to.store.objects.put(to.key, body, &options).await?;
        }
        Err(StoreError::PreconditionFailed) => {}
        written => drop(written?),
    }
    Ok(sums)
}

/// Whether the destination already has these bytes.
async fn is_copied(from: &Original<'_>, to: &Destination<'_>, sums: &[Checksum]) -> Result<bool> {
    let Some(meta) = to.store.objects.head(to.key).await? else { return Ok(false) };
    match compare(to, &meta, from.meta.size, sums).await {
        Ok(_) => Ok(true),
        Err(TransferError::Differs(_) | TransferError::Changed) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends a large object in parts.
async fn send_parts(
    from: &Original<'_>,
    to: &Destination<'_>,
    known: &[Checksum],
    mut reader: Reader,
    sizes: &Sizes,
) -> Result<Vec<Checksum>> {
    let capabilities = &to.store.capabilities;
    let plan = PartPlan::new(from.meta.size, sizes.part);
    let plan = plan.ok_or_else(|| differs("the object is too large to copy".to_owned()))?;
    let mut compared = choose(known, |sum| capabilities.multipart_checksums.contains(&sum));
    let mut integrity = PartIntegrity::Signature;
    if compared.is_none_or(|sum| sum == Algorithm::Crc64nvme) && capabilities.checked_parts {
        (compared, integrity) = (Some(Algorithm::Crc64nvme), PartIntegrity::Checksum);
    }
    // `create_multipart` uses only the algorithm of the checksum.
    let checksum = compared.map(|algorithm| Checksum::of(algorithm, b""));
    let options = PutOptions { checksum, ..options(from, to) };
    let id = to.store.objects.create_multipart(to.key, &options).await?;
    let mut sums = Sums::new(known, compared);
    let mut sending = Sending { to, id: &id, integrity, in_flight: FuturesUnordered::new() };
    let sent = sending.all(&mut reader, plan, &mut sums).await;
    // Waits for the parts that are still being sent: a part that arrived after the abort would stay
    // in the store.
    while sending.in_flight.next().await.is_some() {}
    let done = async {
        let parts = sent?;
        let sums = sums.finish(known)?;
        let once = !to.may_exist && capabilities.multipart_write_once;
        complete(from, to, &id, &parts, once, &sums).await?;
        Ok(sums)
    };
    let done = done.await;
    abort_after_error(to, &id, done.is_err()).await;
    done
}

async fn complete(
    from: &Original<'_>,
    to: &Destination<'_>,
    id: &str,
    parts: &[Part],
    once: bool,
    sums: &[Checksum],
) -> Result<()> {
    let objects = &to.store.objects;
    let written: Result<Written, StoreError> =
        objects.complete_multipart(to.key, id, parts, once).await;
    match written {
        // The response was lost, or another process was faster.
        Err(StoreError::PreconditionFailed | StoreError::NoSuchMultipart)
            if is_copied(from, to, sums).await? =>
        {
            abort_after_error(to, id, true).await;
            Ok(())
        }
        Err(StoreError::PreconditionFailed) => {
            objects.complete_multipart(to.key, id, parts, false).await?;
            Ok(())
        }
        written => Ok(written.map(drop)?),
    }
}

/// The parts that are being sent.
struct Sending<'a> {
    to: &'a Destination<'a>,
    id: &'a str,
    integrity: PartIntegrity,
    in_flight: FuturesUnordered<BoxFuture<'a, Result<Part, StoreError>>>,
}

impl Sending<'_> {
    /// Reads and sends all parts, and returns them in order.
    async fn all(
        &mut self,
        reader: &mut Reader,
        plan: PartPlan,
        sums: &mut Sums,
    ) -> Result<Vec<Part>> {
        let mut stored = Vec::new();
        for number in 1..=plan.part_count() {
            if self.in_flight.len() >= PARTS_AT_ONCE {
                stored.extend(self.in_flight.next().await.transpose()?);
            }
            let body = self.read_while_sending(reader, plan.part_size(), &mut stored).await?;
            sums.update(&body);
            let (objects, key, id) = (&self.to.store.objects, self.to.key, self.id);
            self.in_flight.push(objects.upload_part(key, id, number, body, self.integrity));
        }
        while let Some(part) = self.in_flight.next().await {
            stored.push(part?);
        }
        stored.sort_unstable_by_key(|part| part.number);
        Ok(stored)
    }

    async fn read_while_sending(
        &mut self,
        reader: &mut Reader,
        size: u64,
        stored: &mut Vec<Part>,
    ) -> Result<Bytes> {
        let mut reading = std::pin::pin!(reader.next(size));
        loop {
            tokio::select! {
                biased;
                Some(part) = self.in_flight.next() => stored.push(part?),
                part = &mut reading => return Ok(part?.unwrap_or_default()),
            }
        }
    }
}
