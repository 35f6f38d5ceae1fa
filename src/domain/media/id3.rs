//! Finds the pictures in the `ID3v2` tag of an audio file. They can be megabytes long, and the tag
//! parser would read them only to ignore them. It gets zeros instead, so that the service need not
//! read them from the store.

use std::ops::Range;

use super::facts::Unscannable;
use super::source::{Holes, Source};

/// Frames of at most this many bytes are not skipped, because one part of the file contains several
/// of them.
const MIN_LEN: u64 = 16 * 1024;

/// The maximum total size of the skipped frames, in bytes. They cause no request to the store, but
/// the parser needs time to read the zeros.
pub(super) const MAX_TOTAL: u64 = 64 * 1024 * 1024;

/// The maximum number of frames in a tag. The time of the parser grows with the square of this
/// number, and tens of thousands of frames would take many seconds.
const MAX_FRAMES: usize = 1000;

/// The maximum size in bytes of a tag whose frames can't be counted.
const MAX_UNCOUNTED: u64 = 64 * 1024;

/// The contents of the large picture frames of the tag at the start of the file (`ID3v2.2` to
/// `2.4`, section 3). If the tag is unsynchronised or has an extended header, the result is empty:
/// sizes in an unsynchronised tag are not sizes in the file, and extended headers are not parsed.
///
/// # Errors
/// [`Unscannable::TooLarge`] if the tag has more than [`MAX_FRAMES`] frames, or if its frames can't
/// be counted and it is larger than [`MAX_UNCOUNTED`].
pub(super) fn pictures(source: &mut Source<'_>) -> Result<Holes, Unscannable> {
    let mut holes = Holes::default();
    let Ok([b'I', b'D', b'3', version @ 2..=4, _, flags, size @ ..]) = source.array::<10>(0) else {
        return Ok(holes);
    };
    if flags & 0xc0 != 0 {
        let too_large = syncsafe(&size) > MAX_UNCOUNTED;
        return if too_large { Err(Unscannable::TooLarge) } else { Ok(holes) };
    }
    let end = (10 + syncsafe(&size)).min(source.size());
    let (mut at, mut total) = (10, 0);
    for _ in 0..MAX_FRAMES {
        let header_len = if version == 2 { 6 } else { 10 };
        if at + header_len > end {
            return Ok(holes);
        }
        let Ok(header) = source.array::<10>(at) else { return Ok(holes) };
        if header[0] == 0 {
            return Ok(holes);
        }
        let (is_picture, len) = frame(version, header);
        let start = at + header_len;
        at = start.saturating_add(len);
        if is_picture && len > MIN_LEN && at <= end && total + len <= MAX_TOTAL {
            total += len;
            holes.0.push(start..at);
        }
    }
    Err(Unscannable::TooLarge)
}

/// Counts the frames of all tags of a file.
#[derive(Debug, Default)]
pub(super) struct Budget {
    frames: usize,
    /// The bytes of tags whose frames can't be counted.
    uncounted: u64,
}

impl Budget {
    /// Counts the frames of the tag in a range.
    ///
    /// # Errors
    /// [`Unscannable::TooLarge`] if all tags together have more than [`MAX_FRAMES`] frames, or if
    /// those whose frames can't be counted have more than [`MAX_UNCOUNTED`] bytes. Another error if
    /// the tag is damaged or was not read yet.
    pub(super) fn take(
        &mut self,
        source: &mut Source<'_>,
        range: Range<u64>,
    ) -> Result<(), Unscannable> {
        let [b'I', b'D', b'3', version, _, flags, ..] = source.array::<10>(range.start)? else {
            return Ok(());
        };
        if flags & 0xc0 != 0 {
            self.uncounted = self.uncounted.saturating_add(range.end - range.start);
            return if self.uncounted > MAX_UNCOUNTED {
                Err(Unscannable::TooLarge)
            } else {
                Ok(())
            };
        }
        let mut at = range.start + 10;
        while at + 6 <= range.end.min(source.size()) {
            let header = source.array::<10>(at)?;
            if header[0] == 0 {
                break;
            }
            self.frames += 1;
            if self.frames > MAX_FRAMES {
                return Err(Unscannable::TooLarge);
            }
            let header_len = if version == 2 { 6 } else { 10 };
            at = at.saturating_add(header_len + frame(version, header).1);
        }
        Ok(())
    }
}

/// Whether the frame is a picture, and the length of its content.
fn frame(version: u8, header: [u8; 10]) -> (bool, u64) {
    let plain = |bytes: &[u8]| bytes.iter().fold(0, |len, byte| len << 8 | u64::from(*byte));
    match version {
        2 => (header.starts_with(b"PIC"), plain(&header[3..6])),
        3 => (header.starts_with(b"APIC"), plain(&header[4..8])),
        _ => (header.starts_with(b"APIC"), syncsafe(&header[4..8])),
    }
}

fn syncsafe(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}
