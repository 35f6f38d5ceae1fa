//! Copies an object from one store to another, and proves that the copy has the same bytes.
//!
//! If both buckets are on one server, the server copies the object. Otherwise the bytes are
//! streamed through this process: small objects with one PUT, and larger ones in parts. The
//! streamed bytes are hashed, and must have the recorded checksum. Then the checksum of the copy is
//! compared. If the store returns none, the copy is read back.

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::streaming::stream;
use super::{CopySource, ObjectMeta, PutOptions, Store, StoreError};
use crate::domain::checksum::{Algorithm, Checksum, Hasher};
use crate::domain::limits::MAX_PUT_SIZE;
use crate::domain::object_settings::ObjectSettings;
use crate::domain::parts::PartPlan;

mod streaming;

/// The unit of [`Memory`], in bytes.
const UNIT: u64 = 1024;

/// How many parts of an object are copied within a server at the same time.
const COPIES_AT_ONCE: usize = 4;

/// The bytes that all transfers of a process may hold.
#[derive(Debug)]
pub struct Memory {
    free: Semaphore,
    units: u32,
}

impl Memory {
    /// At most `bytes` at the same time, but always enough for one transfer.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { free: Semaphore::new(units as usize), units }
    }

    /// Waits until that many bytes are free. They are free again when the permit is dropped.
    async fn hold(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.free.acquire_many(units.min(self.units)).await.ok()
    }
}

/// The sizes at which a transfer changes its method, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The largest object that the server copies with one request.
    pub copy: u64,
    /// The size of a part of a streamed object. Smaller objects are sent with one PUT.
    pub part: u64,
    /// The size of a part that the server copies.
    pub copied_part: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { copy: MAX_PUT_SIZE, part: 8 << 20, copied_part: 512 << 20 }
    }
}

/// The object to copy.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its store.
    pub store: &'a Store,
    /// Its key.
    pub key: &'a str,
    /// The response of its HEAD. If the object has changed since then, the copy fails.
    pub meta: &'a ObjectMeta,
    /// The checksum on record.
    pub recorded: Option<&'a Checksum>,
}

/// Where the copy is written.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// Its store.
    pub store: &'a Store,
    /// Its key.
    pub key: &'a str,
    /// The settings with which it is stored.
    pub object: &'a ObjectSettings,
    /// Whether an earlier attempt may have written the copy.
    pub may_exist: bool,
}

/// A copy that has the bytes of its original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The response of its HEAD.
    pub meta: ObjectMeta,
    /// The checksum that the copy and its original have in common.
    pub checksum: Checksum,
    /// Whether an earlier attempt had written it.
    pub reused: bool,
}

/// Why an object was not copied.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The original was deleted or replaced.
    #[error("the object was deleted or replaced while it was copied")]
    Changed,
    /// The original does not have its recorded checksum, or the copy has other bytes.
    #[error("{0}")]
    Differs(String),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// Whether the copy is made as a multipart upload. If the process crashes during the transfer, the
/// parts stay in the store.
pub fn is_multipart(from: &Original<'_>, to: &Destination<'_>, sizes: &Sizes) -> bool {
    from.meta.size > if is_within_server(from, to) { sizes.copy } else { sizes.part }
}

fn is_within_server(from: &Original<'_>, to: &Destination<'_>) -> bool {
    let domain = from.store.objects.copy_domain();
    domain.is_some() && domain == to.store.objects.copy_domain()
}

/// Copies an object and compares the copy with it.
///
/// # Errors
/// If the object has changed since its HEAD, the bytes differ, or a store fails.
pub async fn transfer(
    from: &Original<'_>,
    to: &Destination<'_>,
    memory: &Memory,
    sizes: &Sizes,
) -> Result<Copied> {
    let mut known: Vec<Checksum> = from.recorded.cloned().into_iter().collect();
    known.extend(from.store.checksums_of(from.meta));
    if to.may_exist
        && !known.is_empty()
        && let Some(meta) = to.store.objects.head(to.key).await?
        && let Ok(checksum) = compare(to, &meta, from.meta.size, &known).await
    {
        return Ok(Copied { meta, checksum, reused: true });
    }
    if is_within_server(from, to) {
        copy_within_server(from, to, &known, sizes).await?;
        if known.is_empty() {
            let algorithm = Algorithm::Crc64nvme;
            known.push(read_back(from.store, from.key, from.meta, algorithm).await?);
        }
    } else {
        let _held = memory.hold(streaming::memory_of(from.meta.size, sizes)).await;
        known.extend(stream(from, to, &known, sizes).await?);
    }
    let meta = to.store.objects.head(to.key).await?;
    let meta = meta.ok_or_else(|| differs("the copy is not in the store".to_owned()))?;
    let checksum = compare(to, &meta, from.meta.size, &known).await?;
    Ok(Copied { meta, checksum, reused: false })
}

/// Compares a copy with the size and the checksums of its original. Uses a checksum that the store
/// returns if it can, otherwise reads the copy. Returns the checksum that both have.
async fn compare(
    to: &Destination<'_>,
    meta: &ObjectMeta,
    size: u64,
    known: &[Checksum],
) -> Result<Checksum> {
    if meta.size != size {
        return Err(differs(format!("the copy has {} bytes instead of {size}", meta.size)));
    }
    let stored = to.store.checksums_of(meta);
    let of_both = known.iter().find_map(|known| {
        let found = stored.iter().find(|sum| sum.algorithm() == known.algorithm())?;
        Some((known, found.clone()))
    });
    let (known, found) = if let Some(both) = of_both {
        both
    } else {
        let known = known.first().ok_or_else(|| differs("no checksum is known".to_owned()))?;
        (known, read_back(to.store, to.key, meta, known.algorithm()).await?)
    };
    if *known == found {
        Ok(found)
    } else {
        Err(differs(format!("the copy has the checksum {found:?} instead of {known:?}")))
    }
}

/// The checksum of an object, computed from its bytes.
async fn read_back(
    store: &Store,
    key: &str,
    meta: &ObjectMeta,
    algorithm: Algorithm,
) -> Result<Checksum> {
    let mut bytes = store.objects.read_all(key, &meta.etag).await.map_err(read_error)?;
    let mut hasher = Hasher::new(algorithm);
    while let Some(chunk) = bytes.try_next().await.map_err(read_error)? {
        hasher.update(&chunk);
    }
    Ok(hasher.finish())
}

async fn copy_within_server(
    from: &Original<'_>,
    to: &Destination<'_>,
    known: &[Checksum],
    sizes: &Sizes,
) -> Result<()> {
    let source = CopySource { bucket: &from.store.bucket, key: from.key, etag: &from.meta.etag };
    let is_returned = |sum: &&Checksum| to.store.capabilities.returns_checksum(sum.algorithm());
    let checksum = known.iter().find(is_returned).cloned();
    let options = PutOptions { checksum, ..options(from, to) };
    let objects = &to.store.objects;
    if from.meta.size <= sizes.copy {
        objects.copy(&source, to.key, &options).await.map_err(read_error)?;
        return Ok(());
    }
    let plan = PartPlan::new(from.meta.size, sizes.copied_part);
    let plan = plan.ok_or_else(|| differs("the object is too large to copy".to_owned()))?;
    let options = PutOptions { checksum: None, ..options };
    let id = objects.create_multipart(to.key, &options).await?;
    let copied = async {
        let parts = (1..=plan.part_count()).map(|number| {
            let start = plan.part_size() * u64::from(number - 1);
            let range = start..start + plan.len_of(number).unwrap_or_default();
            objects.copy_part(&source, range, to.key, &id, number)
        });
        let parts = futures_util::stream::iter(parts).buffered(COPIES_AT_ONCE);
        let parts: Vec<_> = parts.try_collect().await.map_err(read_error)?;
        objects.complete_multipart(to.key, &id, &parts, false).await?;
        Ok(())
    };
    let copied = copied.await;
    abort_after_error(to, &id, copied.is_err()).await;
    copied
}

/// Deletes the parts of a transfer that failed. If that fails too, a run deletes them later.
async fn abort_after_error(to: &Destination<'_>, id: &str, failed: bool) {
    if failed && let Err(error) = to.store.objects.abort_multipart(to.key, id).await {
        tracing::warn!(
            store = to.store.name,
            error = &error as &dyn std::error::Error,
            "the parts of a copy were not deleted; a run deletes them later"
        );
    }
}

/// The options for writing the copy: the content type, encoding and metadata of the original, and
/// the object settings of the destination.
fn options(from: &Original<'_>, to: &Destination<'_>) -> PutOptions {
    PutOptions {
        content_type: from.meta.content_type.clone(),
        content_encoding: from.meta.content_encoding.clone(),
        metadata: from.meta.metadata.clone(),
        object: to.object.clone(),
        ..PutOptions::default()
    }
}

/// Reads have the original's ETag as a precondition, so a failed precondition means that the
/// original has changed.
fn read_error(error: StoreError) -> TransferError {
    match error {
        StoreError::PreconditionFailed => TransferError::Changed,
        error => error.into(),
    }
}

fn differs(what: String) -> TransferError {
    TransferError::Differs(what)
}
