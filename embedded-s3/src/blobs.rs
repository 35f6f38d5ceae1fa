//! The files. A blob has a random name below one of 256 folders and never changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where blobs and unfinished files live.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    root: Arc<Path>,
}

impl Blobs {
    /// Prepares the folders and removes every unfinished file: nothing is being written
    /// yet, so all of them are a crash's.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let blobs = Self { root: data_dir.into() };
        fs::create_dir_all(blobs.temp_dir())?;
        fs::create_dir_all(data_dir.join("blobs"))?;
        for shard in Self::shards() {
            fs::create_dir_all(blobs.shard_dir(&shard))?;
        }
        sync_dir(&data_dir.join("blobs"))?;
        sync_dir(data_dir)?;
        for entry in fs::read_dir(blobs.temp_dir())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(blobs)
    }

    /// The names of the folders: the first two hex digits of a blob's name.
    pub(crate) fn shards() -> impl Iterator<Item = String> {
        (0..=u8::MAX).map(|n| format!("{n:02x}"))
    }

    pub(crate) fn shard_dir(&self, shard: &str) -> PathBuf {
        self.root.join("blobs").join(shard)
    }

    fn temp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn temp_path(&self, name: &str) -> PathBuf {
        self.temp_dir().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        // A name is 32 hex digits of ours; a shorter one could only be a damaged row,
        // and then the file is simply not there.
        self.shard_dir(name.get(..2).unwrap_or("00")).join(name)
    }

    /// Gives a synced temporary file its place, and makes that durable.
    pub(crate) fn adopt(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        fs::rename(self.temp_path(name), &path)?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Removes blobs that no row names any more. A failure costs space only: the sweep
    /// at the next start finds them.
    pub(crate) async fn remove(&self, names: Vec<String>) {
        self.remove_files(names.iter().map(|name| self.path(name)).collect()).await;
    }

    /// The same for files wherever they are.
    pub(crate) async fn remove_files(&self, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        let removal = tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    let path = path.display();
                    tracing::warn!(path = %path, error = %error, "a blob could not be removed");
                }
            }
        });
        if let Err(error) = removal.await {
            tracing::warn!(error = %error, "blobs could not be removed");
        }
    }
}

/// A rename is durable only once its folder is.
fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
