//! The files of the store. A blob has a random name in one of 256 folders and never changes.
//!
//! | path | content |
//! | --- | --- |
//! | `blobs/ab/ab..` | the bytes of an object or a part |
//! | `blobs/ab/ab...json` | the metadata of that object, see `metadata.rs` |
//! | `tmp/` | bodies that are being received |
//! | `quarantine/` | blobs that a start found and that are not in the index |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::random_name;

const METADATA_SUFFIX: &str = ".json";

/// The folders of blobs and unfinished files.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    root: Arc<Path>,
}

/// The files in one blob folder.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// The names of blobs, and of files that do not belong in the folder.
    pub blobs: Vec<String>,
    /// The names of blobs with a metadata file that is not empty.
    pub described: std::collections::HashSet<String>,
}

impl Blobs {
    /// Creates the folders and removes every unfinished file. No request is running yet, so all of
    /// them are left from a crash.
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

    /// Whether there is any file in the folders of blobs below `data_dir`.
    pub(crate) fn any(data_dir: &Path) -> io::Result<bool> {
        let mut files =
            Self::shards().map(|shard| fs::read_dir(data_dir.join("blobs").join(shard)));
        files.try_fold(false, |found, files| match files {
            Ok(mut files) => Ok(found || files.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(found),
            Err(error) => Err(error),
        })
    }

    /// The names of the folders: the first two hex digits of a blob's name.
    pub(crate) fn shards() -> impl Iterator<Item = String> {
        (0..=u8::MAX).map(|n| format!("{n:02x}"))
    }

    pub(crate) fn shard_dir(&self, shard: &str) -> PathBuf {
        self.root.join("blobs").join(shard)
    }

    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    fn temp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn temp_path(&self, name: &str) -> PathBuf {
        self.temp_dir().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        // A name has 32 hex digits. A shorter name could only come from a damaged row,
        // and then the file is not found.
        self.shard_dir(name.get(..2).unwrap_or("00")).join(name)
    }

    /// Moves a synced temporary file to its final path, and makes the move durable.
    pub(crate) fn adopt(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        fs::rename(self.temp_path(name), &path)?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Reads the names in a folder of blobs or in the quarantine.
    pub(crate) fn read_shard(dir: &Path) -> io::Result<Shard> {
        let mut shard = Shard::default();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shard),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match name.strip_suffix(METADATA_SUFFIX) {
                None => shard.blobs.push(name),
                Some(blob) if entry.metadata()?.len() > 0 => {
                    shard.described.insert(blob.to_owned());
                }
                Some(_) => {}
            }
        }
        Ok(shard)
    }

    /// The path of the metadata file that belongs to the blob at a path.
    pub(crate) fn metadata_path(blob: &Path) -> PathBuf {
        let mut path = blob.as_os_str().to_owned();
        path.push(METADATA_SUFFIX);
        path.into()
    }

    /// Writes the metadata file of a blob. The file is complete or missing, but not synced.
    pub(crate) fn write_metadata(&self, name: &str, json: &[u8]) -> io::Result<()> {
        let fresh = self.temp_path(&random_name());
        fs::write(&fresh, json)?;
        fs::rename(fresh, Self::metadata_path(&self.path(name)))
    }

    /// Moves a file, with its metadata, into the quarantine. Returns its new path.
    pub(crate) fn quarantine(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = self.quarantine_dir();
        fs::create_dir_all(&dir)?;
        let name = path.file_name().unwrap_or_default();
        let mut target = dir.join(name);
        if target.try_exists()? {
            let mut other = name.to_owned();
            other.push(format!(".{}", random_name()));
            target = dir.join(other);
        }
        move_with_metadata(path, &target)?;
        Ok(target)
    }

    /// Moves a blob from the quarantine to its final path.
    pub(crate) fn release(&self, from: &Path, name: &str) -> io::Result<()> {
        move_with_metadata(from, &self.path(name))
    }

    /// Makes the renames in a folder durable.
    pub(crate) fn sync(dir: &Path) -> io::Result<()> {
        sync_dir(dir)
    }

    /// Removes blobs and their metadata. Returns the names of the removed blobs. A failure is
    /// logged, and the next start removes the blob.
    pub(crate) async fn remove(&self, names: Vec<String>) -> Vec<String> {
        if names.is_empty() {
            return names;
        }
        let blobs = self.clone();
        let removal = tokio::task::spawn_blocking(move || {
            let mut names = names;
            names.retain(|name| {
                let path = blobs.path(name);
                remove_if_present(&path) && remove_if_present(&Self::metadata_path(&path))
            });
            names
        });
        removal.await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "embedded S3 could not remove blobs");
            Vec::new()
        })
    }
}

fn move_with_metadata(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(Blobs::metadata_path(from), Blobs::metadata_path(to)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(from, to)
}

fn remove_if_present(path: &Path) -> bool {
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            let path = path.display();
            tracing::warn!(path = %path, error = %error, "embedded S3 could not remove a file");
            false
        }
    }
}

/// A rename is durable only after its folder was synced.
fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
