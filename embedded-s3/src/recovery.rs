//! The cleanup at a start: it finishes removals, writes missing metadata, and moves each blob that
//! is not in the index to the quarantine.
//!
//! A start deletes only blobs that the index has marked for removal, and unfinished bodies. An
//! unknown blob may be the only copy of an object, because the index may be older than the blobs.
//! `rebuild.rs` restores such blobs.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::blobs::{Blobs, Shard};
use crate::error::StoreError;
use crate::metadata::Metadata;
use crate::store::Store;

/// The number of blobs in one query.
const BATCH: usize = 500;

/// The result of the cleanup.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    /// Blobs that were moved into the quarantine.
    pub quarantined: usize,
    /// Rows whose blob does not exist.
    pub missing: u64,
}

impl Store {
    /// Makes the files and the index consistent. No other task uses the store yet.
    pub(crate) async fn recover(&self) -> Result<Recovery, StoreError> {
        self.finish_removals().await?;
        let mut recovery = Recovery::default();
        let (mut known, mut described) = (0, 0);
        for shard in Blobs::shards() {
            let dir = self.blobs().shard_dir(&shard);
            let found = self.known_blobs(&dir).await?;
            known += found.known.len() as u64;
            described += self.describe(&found.undescribed).await?;
            recovery.quarantined += self.quarantine(found.unknown).await?;
            self.blocking(move |_| found.stray_metadata.iter().try_for_each(std::fs::remove_file))
                .await?;
        }
        recovery.missing = self.index().count_blobs().await?.saturating_sub(known);
        if described > 0 {
            tracing::info!(objects = described, "embedded S3 wrote metadata that was missing");
        }
        Ok(recovery)
    }

    /// Logs what an operator must know.
    pub(crate) fn report(&self, recovery: Recovery) {
        if recovery.quarantined > 0 {
            let folder = self.blobs().quarantine_dir();
            tracing::warn!(
                blobs = recovery.quarantined,
                folder = %folder.display(),
                "embedded S3 moved blobs that are not in its index to the quarantine: after a \
                crash, a few blobs are unfinished requests; many blobs mean that the index is too old \
                and must be rebuilt",
            );
        }
        if recovery.missing > 0 {
            tracing::warn!(
                objects = recovery.missing,
                "the index of embedded S3 contains blobs that do not exist: these objects cannot \
                be read",
            );
        }
    }

    /// Removes the blobs that a request could not remove because of a crash.
    async fn finish_removals(&self) -> Result<(), StoreError> {
        loop {
            let names = self.index().removals(BATCH).await?;
            let last = names.len() < BATCH;
            let before = names.len();
            let removed = self.blobs().remove(names).await;
            self.index().forget_removals(&removed).await?;
            if last || removed.len() < before {
                return Ok(());
            }
        }
    }

    async fn known_blobs(&self, dir: &std::path::Path) -> Result<Sorted, StoreError> {
        let folder = dir.to_owned();
        let Shard { blobs, mut described } =
            self.blocking(move |_| Blobs::read_shard(&folder)).await?;
        let mut sorted = Sorted::default();
        for names in blobs.chunks(BATCH) {
            let in_index: HashSet<String> = self.index().named(names).await?.into_iter().collect();
            for name in names {
                let path = dir.join(name);
                let is_described = described.remove(name);
                if !in_index.contains(name) || self.blobs().path(name) != path {
                    sorted.unknown.push(path);
                    continue;
                }
                if !is_described {
                    sorted.undescribed.push(name.clone());
                }
                sorted.known.push(name.clone());
            }
        }
        let stray = described.into_iter().map(|name| Blobs::metadata_path(&dir.join(name)));
        sorted.stray_metadata = stray.collect();
        Ok(sorted)
    }

    /// Writes the metadata of objects. Blobs of parts have none and are left out.
    async fn describe(&self, names: &[String]) -> Result<usize, StoreError> {
        let mut written = 0;
        for names in names.chunks(BATCH) {
            let objects = self.index().objects_in(names).await?;
            written += objects.len();
            self.blocking(move |blobs| {
                for (bucket, key, object) in objects {
                    let blob = object.blob.clone();
                    let json = Metadata::new(bucket, key, object).to_json();
                    blobs.write_metadata(&blob, &json.map_err(std::io::Error::other)?)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(written)
    }

    async fn quarantine(&self, paths: Vec<PathBuf>) -> Result<usize, StoreError> {
        let count = paths.len();
        self.blocking(move |blobs| {
            for path in &paths {
                blobs.quarantine(path)?;
            }
            if paths.is_empty() { Ok(()) } else { Blobs::sync(&blobs.quarantine_dir()) }
        })
        .await?;
        Ok(count)
    }
}

/// The files of one folder, by their state in the index.
#[derive(Default)]
struct Sorted {
    known: Vec<String>,
    /// Known, but without metadata.
    undescribed: Vec<String>,
    unknown: Vec<PathBuf>,
    /// Metadata without a blob, after a crash or an unfinished removal.
    stray_metadata: Vec<PathBuf>,
}
