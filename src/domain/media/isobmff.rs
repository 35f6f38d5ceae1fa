//! Reads the boxes of ISO/IEC 14496-12. MP4, `QuickTime`, HEIF and AVIF files consist of them.

use std::ops::Range;

use super::facts::Unscannable;
use super::source::Source;

/// The maximum number of boxes of one container that are read.
const MAX_BOXES: usize = 4096;

/// A box.
#[derive(Debug, Clone)]
pub(super) struct Atom {
    /// The type of the box.
    pub kind: [u8; 4],
    /// The range of its content in the file.
    pub content: Range<u64>,
}

/// The boxes in a range of the file.
pub(super) struct Atoms {
    at: u64,
    end: u64,
    seen: usize,
}

impl Atoms {
    pub(super) fn new(range: Range<u64>) -> Self {
        Self { at: range.start, end: range.end, seen: 0 }
    }

    /// Reads the next box. The range ends if too few bytes for a box are left.
    pub(super) fn next(&mut self, source: &mut Source<'_>) -> Result<Option<Atom>, Unscannable> {
        self.seen += 1;
        if self.end.saturating_sub(self.at) < 8 || self.seen > MAX_BOXES {
            return Ok(None);
        }
        let [a, b, c, d, kind @ ..] = source.array::<8>(self.at)?;
        let (header, len) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, self.end - self.at),
            1 => (16, u64::from_be_bytes(source.array(self.at + 8)?)),
            len => (8, u64::from(len)),
        };
        if len < header {
            return Err(Unscannable::Damaged("a box has an invalid size".to_owned()));
        }
        let end = self.at.saturating_add(len).min(self.end);
        let start = (self.at + header).min(end);
        self.at = end;
        Ok(Some(Atom { kind, content: start..end }))
    }
}

/// The first box of this type in a range.
pub(super) fn find(
    source: &mut Source<'_>,
    range: Range<u64>,
    kind: [u8; 4],
) -> Result<Option<Atom>, Unscannable> {
    let mut atoms = Atoms::new(range);
    while let Some(atom) = atoms.next(source)? {
        if atom.kind == kind {
            return Ok(Some(atom));
        }
    }
    Ok(None)
}

/// The fields of a box, read by their offset.
pub(super) struct Fields(pub(super) Vec<u8>);

impl Fields {
    /// The first `len` bytes of the content.
    pub(super) fn read(
        source: &mut Source<'_>,
        atom: &Atom,
        len: u64,
    ) -> Result<Self, Unscannable> {
        let Range { start, end } = atom.content;
        Ok(Self(source.bytes(start..end.min(start.saturating_add(len)))?))
    }

    pub(super) fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    pub(super) fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
}
