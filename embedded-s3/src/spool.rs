//! Writes a body to a temporary file with bounded memory, and hashes it at the same time.

use std::fs;
use std::io::Write as _;
use std::mem;

use bytes::Bytes;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::Checksum;

use crate::blobs::Blobs;
use crate::checksum::Algorithm;
use crate::clock::random_name;
use crate::error::StoreError;

/// The number of bytes that are collected before a blocking thread hashes and writes them. It is
/// large enough that thread switches cost little, and small enough to hold thousands of bodies in
/// memory.
const BATCH: usize = 1024 * 1024;

/// A temporary file that is being written. Dropping it removes the file.
pub(crate) struct Spool {
    temp: TempFile,
    work: Option<Work>,
    pending: Vec<Bytes>,
    pending_len: usize,
    len: u64,
}

struct Work {
    file: fs::File,
    md5: Md5,
    sums: ChecksumHasher,
}

struct TempFile {
    blobs: Blobs,
    name: String,
    armed: bool,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.armed {
            let _ = fs::remove_file(self.blobs.temp_path(&self.name));
        }
    }
}

/// The length and the hashes of a finished file.
#[derive(Debug)]
pub(crate) struct Finished {
    pub len: u64,
    pub md5: String,
    sums: Checksum,
}

impl Finished {
    pub(crate) fn sum(&self, algorithm: Algorithm) -> String {
        algorithm.pick(self.sums.clone())
    }
}

/// A verified temporary file that becomes a blob by [`Self::adopt`]. Dropping it removes the
/// file.
pub(crate) struct Verified {
    temp: TempFile,
    pub len: u64,
}

impl Spool {
    pub(crate) async fn create(blobs: &Blobs, sums: ChecksumHasher) -> Result<Self, StoreError> {
        let temp = TempFile { blobs: blobs.clone(), name: random_name(), armed: true };
        let path = blobs.temp_path(&temp.name);
        let file = tokio::task::spawn_blocking(move || fs::File::create_new(path)).await??;
        Ok(Self {
            temp,
            work: Some(Work { file, md5: Md5::new(), sums }),
            pending: Vec::new(),
            pending_len: 0,
            len: 0,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.len += chunk.len() as u64;
        self.pending_len += chunk.len();
        self.pending.push(chunk);
        if self.pending_len >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let chunks = mem::take(&mut self.pending);
        self.pending_len = 0;
        let Some(mut work) = self.work.take() else {
            return Err(failed_before());
        };
        let written = tokio::task::spawn_blocking(move || {
            for chunk in &chunks {
                work.md5.update(chunk);
                work.sums.update(chunk);
                work.file.write_all(chunk)?;
            }
            Ok::<_, std::io::Error>(work)
        });
        self.work = Some(written.await??);
        Ok(())
    }

    /// Writes the remaining bytes and syncs the file. The caller must verify it before
    /// [`Verified::adopt`].
    pub(crate) async fn finish(mut self) -> Result<(Verified, Finished), StoreError> {
        self.flush().await?;
        let Self { temp, work, len, .. } = self;
        let Some(Work { file, md5, sums }) = work else {
            return Err(failed_before());
        };
        tokio::task::spawn_blocking(move || file.sync_all()).await??;
        let finished = Finished { len, md5: hex::encode(md5.finalize()), sums: sums.finalize() };
        Ok((Verified { temp, len }, finished))
    }
}

fn failed_before() -> StoreError {
    std::io::Error::other("an earlier write to the temporary file failed").into()
}

impl Verified {
    /// Moves the file to its final path and returns its name. After this, dropping it does not
    /// remove the file: a transaction may refer to the file, and it is not always known whether the
    /// transaction was committed. The next start moves a file without a row to the quarantine.
    pub(crate) async fn adopt(mut self) -> Result<String, StoreError> {
        let (blobs, name) = (self.temp.blobs.clone(), self.temp.name.clone());
        tokio::task::spawn_blocking({
            let name = name.clone();
            move || blobs.adopt(&name)
        })
        .await??;
        self.temp.armed = false;
        Ok(name)
    }
}
