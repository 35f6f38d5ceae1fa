//! Rebuilds the index from the blobs and their metadata, after it was lost or replaced by an older
//! copy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::blobs::{Blobs, Shard};
use crate::error::StoreError;
use crate::index::{Index, Object};
use crate::metadata::Metadata;
use crate::store::{self, Store};
use crate::{EmbeddedS3Error, clock};

/// The number of objects that one transaction restores.
const BATCH: usize = 500;

/// The result of [`rebuild`].
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Objects that were missing in the index, or for which it had an older version.
    pub restored: u64,
    /// Objects and parts whose row and blob were already correct.
    pub unchanged: u64,
    /// Rows that were removed because their blob does not exist.
    pub dropped: u64,
    /// The new path of a damaged index.
    pub damaged_index: Option<PathBuf>,
    /// Files in the quarantine that do not belong to an object of the new index.
    pub not_restored: Vec<NotRestored>,
}

/// A file in the quarantine that was not restored.
#[derive(Debug)]
pub struct NotRestored {
    /// The file. It remains there until an operator deletes it.
    pub path: PathBuf,
    /// Why it was not restored.
    pub reason: &'static str,
}

/// A blob in the quarantine with valid metadata.
struct Candidate {
    path: PathBuf,
    modified_ms: i64,
}

/// Brings the index of a data folder up to date with its blobs. Fails with
/// [`EmbeddedS3Error::DataDirInUse`] if a server uses the folder. Multipart uploads and CORS rules
/// are only in the index, so they are lost if the index is missing or damaged.
pub async fn rebuild(data_dir: &Path) -> Result<Rebuilt, EmbeddedS3Error> {
    let io_error = |source| EmbeddedS3Error::DataDir { path: data_dir.to_owned(), source };
    // A wrong path must not create a folder.
    std::fs::metadata(data_dir).map_err(io_error)?;
    let lock = store::lock(data_dir).await?;
    let damaged_index = set_damaged_index_aside(data_dir).await?;
    let store = Store::open_locked(data_dir, String::new(), lock).await?;
    let mut rebuilt =
        restore(&store).await.map_err(|error| EmbeddedS3Error::from_store(error, data_dir))?;
    store.close().await;
    rebuilt.damaged_index = damaged_index;
    Ok(rebuilt)
}

/// Renames the files of an index that SQLite cannot read.
async fn set_damaged_index_aside(data_dir: &Path) -> Result<Option<PathBuf>, EmbeddedS3Error> {
    let index = store::index_path(data_dir);
    if !index.exists() || Index::is_sound(&index).await {
        return Ok(None);
    }
    let moved = data_dir.join(format!("index.damaged-{}.sqlite", clock::now_ms()));
    for suffix in ["", "-wal", "-shm"] {
        let with_suffix = |path: &Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        match std::fs::rename(with_suffix(&index), with_suffix(&moved)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(EmbeddedS3Error::DataDir { path: index, source });
            }
            _ => {}
        }
    }
    Ok(Some(moved))
}

async fn restore(store: &Store) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt::default();
    // After this, every blob that is not in the index is in the quarantine.
    store.recover().await?;
    rebuilt.dropped = drop_missing(store).await?;
    rebuilt.unchanged = store.index().count_blobs().await?;

    let (newest, mut not_restored) = store.blocking(|blobs| read_quarantine(&blobs)).await?;
    let mut newest = newest.into_iter().peekable();
    while newest.peek().is_some() {
        let mut batch = Vec::new();
        for ((bucket, key), candidate) in newest.by_ref().take(BATCH) {
            match store.index().object(&bucket, &key).await {
                Ok(current) if current.modified_ms >= candidate.modified_ms => {
                    let reason = "the key has a newer object";
                    not_restored.push(NotRestored { path: candidate.path, reason });
                    continue;
                }
                Ok(_) | Err(StoreError::NoSuchKey | StoreError::NoSuchBucket) => {}
                Err(error) => return Err(error),
            }
            batch.push(candidate);
        }
        let objects = store.blocking(move |blobs| release(&blobs, batch)).await?;
        rebuilt.restored += objects.len() as u64;
        let replaced = store.index().restore_objects(objects).await?;
        let moved = replaced.clone();
        let moved = store
            .blocking(move |blobs| {
                moved.iter().map(|name| blobs.quarantine(&blobs.path(name))).collect()
            })
            .await?;
        let moved: Vec<PathBuf> = moved;
        store.index().forget_removals(&replaced).await?;
        rebuilt.unchanged = rebuilt.unchanged.saturating_sub(moved.len() as u64);
        let reason = "the key has a newer object";
        not_restored.extend(moved.into_iter().map(|path| NotRestored { path, reason }));
    }
    not_restored.sort_by(|a, b| a.path.cmp(&b.path));
    rebuilt.not_restored = not_restored;
    Ok(rebuilt)
}

/// Removes the rows of objects whose blob does not exist.
async fn drop_missing(store: &Store) -> Result<u64, StoreError> {
    let mut dropped = 0;
    let mut above = String::new();
    loop {
        let names = store.index().object_blobs(&above, BATCH).await?;
        let Some(last) = names.last() else { return Ok(dropped) };
        above.clone_from(last);
        let missing = store
            .blocking(move |blobs| {
                let mut names = names;
                names.retain(|name| !blobs.path(name).exists());
                Ok(names)
            })
            .await?;
        dropped += store.index().drop_objects(&missing).await?;
    }
}

type Newest = HashMap<(String, String), Candidate>;

/// The newest blob of each key in the quarantine, and the files that cannot be restored.
fn read_quarantine(blobs: &Blobs) -> std::io::Result<(Newest, Vec<NotRestored>)> {
    let dir = blobs.quarantine_dir();
    let Shard { blobs: names, .. } = Blobs::read_shard(&dir)?;
    let mut newest: Newest = HashMap::new();
    let mut not_restored = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let metadata = match read_metadata(&path, &name) {
            Ok(metadata) => metadata,
            Err(reason) => {
                not_restored.push(NotRestored { path, reason });
                continue;
            }
        };
        let candidate = Candidate { path, modified_ms: metadata.modified_ms };
        let name = (metadata.bucket, metadata.key);
        let older = match newest.get(&name) {
            Some(other) if other.modified_ms >= candidate.modified_ms => Some(candidate),
            _ => newest.insert(name, candidate),
        };
        let reason = "the key has a newer object";
        not_restored.extend(older.map(|older| NotRestored { path: older.path, reason }));
    }
    Ok((newest, not_restored))
}

fn read_metadata(path: &Path, name: &str) -> Result<Metadata, &'static str> {
    if name.len() != 32 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("its name is not the name of a blob");
    }
    let json = std::fs::read(Blobs::metadata_path(path)).map_err(|_| {
        "it has no metadata: a part of a multipart upload, a request that did not finish, or an \
         object of version 0.1.0 that no later version has seen"
    })?;
    let metadata = Metadata::parse(&json).ok_or("its metadata file is damaged")?;
    let size = std::fs::metadata(path).map_err(|_| "it cannot be read")?.len();
    if size != metadata.size {
        return Err("its size differs from the size in its metadata");
    }
    if !s3s::path::check_bucket_name(&metadata.bucket) {
        return Err("its metadata does not name a valid bucket");
    }
    Ok(metadata)
}

/// Moves blobs to their final paths, and returns their objects with bucket and key.
fn release(blobs: &Blobs, batch: Vec<Candidate>) -> std::io::Result<Vec<(String, String, Object)>> {
    let mut objects = Vec::with_capacity(batch.len());
    for Candidate { path, .. } in batch {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let json = std::fs::read(Blobs::metadata_path(&path))?;
        let Some(metadata) = Metadata::parse(&json) else { continue };
        blobs.release(&path, &name)?;
        let target = blobs.path(&name);
        target.parent().map_or(Ok(()), Blobs::sync)?;
        objects.push(metadata.into_object(name));
    }
    Ok(objects)
}
