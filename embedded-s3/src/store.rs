//! The store. It makes a verified file an object, with a blob and a row, and opens objects.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::index::{CorsRule, Index, Object, Part, WriteConditions};
use crate::metadata::Metadata;
use crate::spool::Verified;
use crate::{EmbeddedS3Config, EmbeddedS3Error};

/// How often the lock of the folder is tried. A dropped server releases it only when its last task
/// has ended, so an immediate restart must wait.
const LOCK_ATTEMPTS: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How often an object is looked up again because it was replaced before its file was opened.
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
    /// All CORS configurations, because each request of a browser needs one.
    cors: RwLock<HashMap<String, Arc<[CorsRule]>>>,
    /// Held while any task of this server runs, because two servers must not use the same folder.
    _lock: File,
}

impl Store {
    /// Opens the data folder of a server and creates the configured buckets. Refuses a
    /// folder that has blobs but no index.
    pub(crate) async fn open(config: &EmbeddedS3Config) -> Result<Self, EmbeddedS3Error> {
        let dir = &config.data_dir;
        let io_error = |source| EmbeddedS3Error::DataDir { path: dir.clone(), source };
        std::fs::create_dir_all(dir).map_err(io_error)?;
        let lock = lock(dir).await?;
        // SQLite accepts an empty file as an index without rows.
        let has_index = std::fs::metadata(index_path(dir)).is_ok_and(|index| index.len() > 0);
        if !has_index && Blobs::any(dir).map_err(io_error)? {
            return Err(EmbeddedS3Error::IndexMissing { path: index_path(dir) });
        }
        let store = Self::open_locked(dir, config.region.clone(), lock).await?;
        let prepared = store.prepare(&config.buckets).await;
        prepared.map_err(|error| EmbeddedS3Error::from_store(error, dir))?;
        Ok(store)
    }

    /// Opens a locked data folder, without a recovery and without creating buckets.
    pub(crate) async fn open_locked(
        dir: &Path,
        region: String,
        lock: File,
    ) -> Result<Self, EmbeddedS3Error> {
        let io_error = |source| EmbeddedS3Error::DataDir { path: dir.to_owned(), source };
        let blobs = Blobs::open(dir).map_err(io_error)?;
        let index = Index::open(&index_path(dir)).await.map_err(EmbeddedS3Error::Index)?;
        let cors = RwLock::default();
        Ok(Self { inner: Arc::new(Inner { blobs, index, region, cors, _lock: lock }) })
    }

    async fn prepare(&self, buckets: &[String]) -> Result<(), StoreError> {
        let recovery = self.recover().await?;
        self.report(recovery);
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

    /// Runs a change to its end, even if the client disconnects.
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
            store.write_metadata(bucket, key, object).await;
            store.remove(old.into_iter().collect()).await;
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
            store.remove(old.into_iter().collect()).await;
            Ok(())
        })
        .await
    }

    /// Makes a verified file, which consists of `parts`, the object of a key and ends the upload.
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
            store.write_metadata(bucket, key, object).await;
            store.remove(old).await;
            Ok(())
        })
        .await
    }

    /// Runs file operations on a thread for blocking work.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Blobs) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let blobs = self.blobs().clone();
        Ok(tokio::task::spawn_blocking(move || work(blobs)).await??)
    }

    /// Removes blobs without a row. A failure costs only space: the next start finishes the
    /// removal.
    pub(crate) async fn remove(&self, blobs: Vec<String>) {
        let removed = self.blobs().remove(blobs).await;
        if let Err(error) = self.index().forget_removals(&removed).await {
            tracing::warn!(error = %error, "embedded S3 could not record a removal");
        }
    }

    /// Writes the metadata file of an object that is committed. A failure is only logged:
    /// the next start writes the file.
    async fn write_metadata(&self, bucket: String, key: String, object: Object) {
        let written = self.blocking(move |blobs| {
            let blob = object.blob.clone();
            let json = Metadata::new(bucket, key, object).to_json().map_err(io::Error::other)?;
            blobs.write_metadata(&blob, &json)
        });
        if let Err(error) = written.await {
            tracing::warn!(error = %error, "embedded S3 could not write an object's metadata");
        }
    }

    /// Removes the new blob if the change was refused. After other errors it is not known whether
    /// the change was committed, so the blob remains. If it has no row, the next start moves it to
    /// the quarantine.
    async fn unless_refused<T>(
        &self,
        blob: &str,
        put: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &put
            && !matches!(error, StoreError::Index(_) | StoreError::Io(_) | StoreError::Lost(_))
        {
            let _ = self.blobs().remove(vec![blob.to_owned()]).await;
        }
        put
    }

    /// An object with its open file. The file can be read to its end, even if the key changes in
    /// the meantime.
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

/// The file of the index. SQLite's additional files begin with the same name.
pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index.sqlite")
}

/// Locks a data folder for this process, or fails after a few seconds.
pub(crate) async fn lock(dir: &Path) -> Result<File, EmbeddedS3Error> {
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
