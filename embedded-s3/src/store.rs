//! Blobs and rows together: what makes a verified file an object.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::index::{CorsRule, Index, Object, Part, WriteConditions};
use crate::spool::Verified;
use crate::{EmbeddedS3Config, EmbeddedS3Error};

/// A server that was dropped lets its folder go once its last task has noticed; a start
/// right after it waits for that.
const LOCK_ATTEMPTS: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How many blobs the sweep looks up at once.
const SWEEP_BATCH: usize = 500;

/// How often a read begins again because the object was replaced in between.
const OPEN_ATTEMPTS: u32 = 16;

#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: Blobs,
    index: Index,
    region: String,
    /// All CORS configurations: they are asked for with every request of a browser.
    cors: RwLock<HashMap<String, Arc<[CorsRule]>>>,
    /// Held while anything of this server runs: a second one would sweep our blobs.
    _lock: File,
}

impl Store {
    pub(crate) async fn open(config: &EmbeddedS3Config) -> Result<Self, EmbeddedS3Error> {
        let dir = &config.data_dir;
        let io_error = |source| EmbeddedS3Error::DataDir { path: dir.clone(), source };
        std::fs::create_dir_all(dir).map_err(io_error)?;
        let lock = lock(dir).await?;
        let blobs = Blobs::open(dir).map_err(io_error)?;
        let index = Index::open(&dir.join("index.sqlite")).await.map_err(EmbeddedS3Error::Index)?;
        let inner = Inner {
            blobs,
            index,
            region: config.region.clone(),
            cors: RwLock::default(),
            _lock: lock,
        };
        let store = Self { inner: Arc::new(inner) };
        store.prepare(&config.buckets).await.map_err(|error| match error {
            StoreError::Index(source) => EmbeddedS3Error::Index(source),
            StoreError::Io(source) => io_error(source),
            other => io_error(io::Error::other(other)),
        })?;
        Ok(store)
    }

    async fn prepare(&self, buckets: &[String]) -> Result<(), StoreError> {
        self.sweep().await?;
        for bucket in buckets {
            match self.index().create_bucket(bucket).await {
                Ok(()) | Err(StoreError::BucketExists) => {}
                Err(error) => return Err(error),
            }
        }
        for (bucket, rules) in self.index().all_cors().await? {
            self.remember_cors(&bucket, Some(rules));
        }
        Ok(())
    }

    /// Removes the blobs that no row names: a crash came between file and row.
    async fn sweep(&self) -> Result<(), StoreError> {
        let mut removed = 0_usize;
        for shard in Blobs::shards() {
            let dir = self.blobs().shard_dir(&shard);
            let mut entries = tokio::fs::read_dir(&dir).await?;
            loop {
                let mut names = Vec::new();
                while names.len() < SWEEP_BATCH
                    && let Some(entry) = entries.next_entry().await?
                {
                    names.extend(entry.file_name().into_string());
                }
                if names.is_empty() {
                    break;
                }
                let in_use = self.index().named(&names).await?;
                names.retain(|name| {
                    !in_use.contains(name) || self.blobs().path(name) != dir.join(name)
                });
                removed += names.len();
                let orphans = names.iter().map(|name| dir.join(name)).collect();
                self.blobs().remove_files(orphans).await;
            }
        }
        if removed > 0 {
            tracing::info!(blobs = removed, "embedded S3 swept what a crash had left");
        }
        Ok(())
    }

    pub(crate) fn index(&self) -> &Index {
        &self.inner.index
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub(crate) fn region(&self) -> &str {
        &self.inner.region
    }

    pub(crate) async fn close(&self) {
        self.inner.index.close().await;
    }

    /// Runs a change to its end, even if the client hangs up meanwhile.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::spawn(change).await?
    }

    /// Makes a verified file the object of a key, if the conditions hold.
    pub(crate) async fn put(
        &self,
        bucket: String,
        key: String,
        file: Verified,
        mut object: Object,
        conditions: WriteConditions,
    ) -> Result<(), StoreError> {
        let store = self.clone();
        self.commit(async move {
            object.blob = file.adopt().await?;
            let put = store.index().put_object(&bucket, &key, &object, &conditions).await;
            let old = store.unless_refused(&object.blob, put).await?;
            store.blobs().remove(old.into_iter().collect()).await;
            Ok(())
        })
        .await
    }

    /// Makes a verified file a part of an upload.
    pub(crate) async fn put_part(
        &self,
        upload_id: String,
        file: Verified,
        mut part: Part,
    ) -> Result<(), StoreError> {
        let store = self.clone();
        self.commit(async move {
            part.blob = file.adopt().await?;
            let put = store.index().put_part(&upload_id, &part).await;
            let old = store.unless_refused(&part.blob, put).await?;
            store.blobs().remove(old.into_iter().collect()).await;
            Ok(())
        })
        .await
    }

    /// Makes a verified file, made of `parts`, the object of a key and ends the upload.
    pub(crate) async fn complete(
        &self,
        (bucket, key, upload_id): (String, String, String),
        parts: Vec<Part>,
        file: Verified,
        mut object: Object,
        conditions: WriteConditions,
    ) -> Result<(), StoreError> {
        let store = self.clone();
        self.commit(async move {
            object.blob = file.adopt().await?;
            let index = store.index();
            let put = index
                .complete_upload(&bucket, &key, &upload_id, &parts, &object, &conditions)
                .await;
            let old = store.unless_refused(&object.blob, put).await?;
            store.blobs().remove(old).await;
            Ok(())
        })
        .await
    }

    /// Removes the new blob of a change that was surely not made. After a failure of the
    /// index that is not sure; the next start's sweep will know.
    async fn unless_refused<T>(
        &self,
        blob: &str,
        put: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &put
            && !matches!(error, StoreError::Index(_) | StoreError::Io(_) | StoreError::Lost(_))
        {
            self.blobs().remove(vec![blob.to_owned()]).await;
        }
        put
    }

    /// An object with its file open: it can be read to the end whatever happens to the
    /// key meanwhile.
    pub(crate) async fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<(Object, tokio::fs::File), StoreError> {
        let mut attempt = 1;
        loop {
            let object = self.index().object(bucket, key).await?;
            match tokio::fs::File::open(self.blobs().path(&object.blob)).await {
                Ok(file) => return Ok((object, file)),
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && attempt < OPEN_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn cors(&self, bucket: &str) -> Option<Arc<[CorsRule]>> {
        self.inner.cors.read().unwrap_or_else(PoisonError::into_inner).get(bucket).cloned()
    }

    pub(crate) fn remember_cors(&self, bucket: &str, rules: Option<Vec<CorsRule>>) {
        let mut all = self.inner.cors.write().unwrap_or_else(PoisonError::into_inner);
        match rules {
            Some(rules) => all.insert(bucket.to_owned(), rules.into()),
            None => all.remove(bucket),
        };
    }
}

async fn lock(dir: &Path) -> Result<File, EmbeddedS3Error> {
    let path = dir.join("lock");
    let io_error = |source| EmbeddedS3Error::DataDir { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(io_error)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
    }
    Err(EmbeddedS3Error::DataDirInUse { path: dir.to_owned() })
}
