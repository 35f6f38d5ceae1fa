//! Reads a file from its parts.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::facts::Unscannable;
use super::parts::Parts;

/// Ranges of a file that are read as zeros.
#[derive(Debug, Default)]
pub(super) struct Holes(pub(super) Vec<Range<u64>>);

impl Holes {
    /// Returns whether the byte at `at` is in a hole, and the end of that hole. If the byte is not
    /// in a hole, returns the start of the next hole instead.
    fn at(&self, at: u64) -> (bool, u64) {
        match self.0.iter().find(|hole| at < hole.end) {
            Some(hole) if hole.contains(&at) => (true, hole.end),
            Some(hole) => (false, hole.start),
            None => (false, u64::MAX),
        }
    }
}

/// Reads a file from its parts. The first read of bytes that are in no part fails, and every later
/// read fails too. The parser's result is then ignored, because the parser is called again.
pub(super) struct Source<'a> {
    parts: &'a Parts,
    holes: Holes,
    position: u64,
    missing: Option<u64>,
}

impl<'a> Source<'a> {
    pub(super) fn new(parts: &'a Parts) -> Self {
        Self { parts, holes: Holes::default(), position: 0, missing: None }
    }

    /// Starts again at the first byte, and reads these ranges as zeros.
    pub(super) fn restart_with(&mut self, holes: Holes) {
        (self.holes, self.position) = (holes, 0);
    }

    /// The first byte that the parser needed and that is in no part.
    pub(super) fn missing(&self) -> Option<u64> {
        self.missing
    }

    pub(super) fn head(&self) -> &'a [u8] {
        self.parts.head()
    }

    pub(super) fn size(&self) -> u64 {
        self.parts.size()
    }

    /// The bytes of `range`, or fewer if the file ends earlier. The caller limits the length.
    pub(super) fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>, Unscannable> {
        self.position = range.start;
        let mut bytes = Vec::new();
        self.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The `N` bytes that start at `at`.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Unscannable> {
        self.position = at;
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The last `len` bytes, or the whole file if it is smaller.
    pub(super) fn tail(&mut self, len: u64) -> Result<Vec<u8>, Unscannable> {
        let size = self.size();
        self.bytes(size.saturating_sub(len)..size)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.missing.is_some() || self.parts.is_stopped() {
            return Err(io::Error::other("not read yet"));
        }
        if self.position >= self.size() || buffer.is_empty() {
            return Ok(0);
        }
        let (hole, until) = self.holes.at(self.position);
        let remaining = until.min(self.size()) - self.position;
        let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
        let len = if hole {
            let len = buffer.len().min(remaining);
            buffer[..len].fill(0);
            len
        } else if let Some(bytes) = self.parts.bytes_from(self.position) {
            let len = buffer.len().min(bytes.len()).min(remaining);
            buffer[..len].copy_from_slice(&bytes[..len]);
            len
        } else {
            self.missing = Some(self.position);
            return Err(io::Error::other("not read yet"));
        };
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size().checked_add_signed(by),
        };
        self.position =
            position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "out of range"))?;
        Ok(self.position)
    }
}

impl From<io::Error> for Unscannable {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged("it ends early".to_owned())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}
