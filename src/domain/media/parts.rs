//! The parts of a file that have been read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

/// The recommended length of a file's first part, in bytes: enough for a tag of 64 KiB and the
/// first frames of sound after it.
pub const HEAD_LEN: u64 = 80 * 1024;

/// The maximum number of parts that are read after the first one. Together they have at most
/// [`MAX_READ_BYTES`].
pub const MAX_READS: usize = 10;

/// The maximum number of bytes of all parts except the first one.
pub const MAX_READ_BYTES: u64 = 1024 * 1024;

/// The size of a part in bytes. Parts after the first [`SMALL_PARTS`] are larger, because the
/// parser then reads through a long structure.
const SMALL: u64 = 64 * 1024;
const LARGE: u64 = 128 * 1024;
const SMALL_PARTS: usize = 4;

/// Stops an inspection whose result is no longer needed.
#[derive(Debug, Default, Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Makes every further read of the inspection fail.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The parts of a file that have been read so far.
#[derive(Debug, Clone)]
pub struct Parts {
    size: u64,
    /// In ascending order, without overlaps and without empty parts.
    known: Vec<(u64, Bytes)>,
    /// The number of parts that were read after the first one.
    reads: usize,
    stop: Stop,
}

impl Parts {
    /// A file of `size` bytes, and its first bytes.
    pub fn new(size: u64, head: Bytes) -> Self {
        let known = if head.is_empty() { vec![] } else { vec![(0, head)] };
        Self { size, known, reads: 0, stop: Stop::default() }
    }

    /// Adds the bytes at `start` that [`super::Step::Read`] requested.
    pub fn add(&mut self, start: u64, bytes: Bytes) {
        self.reads += 1;
        if !bytes.is_empty() {
            let at = self.known.partition_point(|(other, _)| *other < start);
            self.known.insert(at, (start, bytes));
        }
    }

    /// Returns a handle that stops an inspection of these parts.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.0.load(Ordering::Relaxed)
    }

    /// The number of parts that were read after the first one.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// The first bytes of the file.
    pub(super) fn head(&self) -> &[u8] {
        self.known.first().map_or(&[], |(_, bytes)| bytes)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` to the end of the part that contains `at`.
    pub(super) fn bytes_from(&self, at: u64) -> Option<&[u8]> {
        let next = self.known.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.known.get(next.checked_sub(1)?)?;
        bytes.get(usize::try_from(at - start).ok()?..).filter(|remaining| !remaining.is_empty())
    }

    /// The range to read next if the byte at `at` is needed. `None` if the limits are reached.
    pub(super) fn next(&self, at: u64) -> Option<Range<u64>> {
        // Without these limits, a store that returns too few bytes would cause an endless loop.
        if self.reads >= MAX_READS || at >= self.size {
            return None;
        }
        let len = if self.reads < SMALL_PARTS { SMALL } else { LARGE };
        let end = at.saturating_add(len).min(self.size);
        // Bytes at the end of a file are often read backwards.
        let start = if end == self.size { self.size.saturating_sub(len).min(at) } else { at };
        let next = self.known.partition_point(|(start, _)| *start <= at);
        let before = next.checked_sub(1).and_then(|it| self.known.get(it));
        let after = self.known.get(next);
        let known = before.map_or(0, |(start, bytes)| start + bytes.len() as u64);
        let end = after.map_or(end, |(start, _)| end.min(*start));
        Some(start.max(known)..end)
    }
}
