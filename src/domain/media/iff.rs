//! Counts the frames of the `ID3v2` tags in the chunks of WAV and AIFF files. `lofty` parses all
//! frames of a chunk, which takes too long for very many frames.
//!
//! The walk over the chunks takes the same steps as `lofty` (`iff/chunk.rs`), in damaged files too.
//! Otherwise `lofty` could find a tag that the walk did not find.

use super::facts::Unscannable;
use super::id3;
use super::source::Source;

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Little-endian, as in RIFF (WAV).
    Little,
    /// Big-endian, as in IFF (AIFF).
    Big,
}

/// Refuses a file whose tags have too many frames.
///
/// # Errors
/// [`Unscannable::TooLarge`]. Other errors are left to the parser.
pub(super) fn check_tags(source: &mut Source<'_>, order: Order) -> Result<(), Unscannable> {
    let walk = Walk { at: 12, remaining: source.size().saturating_sub(12), order };
    match walk.check(source) {
        Err(Unscannable::TooLarge) => Err(Unscannable::TooLarge),
        _ => Ok(()),
    }
}

struct Walk {
    /// The position of the next byte.
    at: u64,
    /// How many bytes follow, as `lofty` counts them.
    remaining: u64,
    order: Order,
}

impl Walk {
    fn check(mut self, source: &mut Source<'_>) -> Result<(), Unscannable> {
        let mut frames = id3::Budget::default();
        while let Some((name, size)) = self.next(source)? {
            match &name {
                b"ID3 " | b"id3 " => {
                    frames.take(source, self.at..self.at.saturating_add(size))?;
                }
                b"LIST" if self.order == Order::Little && size >= 4 => {
                    let kind = source.array::<4>(self.at)?;
                    if &kind == b"INFO" {
                        self.skip_list(source, size)?;
                        continue;
                    }
                }
                _ => {}
            }
            self.skip(source, size)?;
        }
        Ok(())
    }

    /// Reads the name and the size of the next chunk. Its content then begins at `self.at`.
    fn next(&mut self, source: &mut Source<'_>) -> Result<Option<([u8; 4], u64)>, Unscannable> {
        if self.remaining < 8 {
            return Ok(None);
        }
        let name = source.array::<4>(self.at)?;
        self.at += 4;
        if !is_name(name) {
            self.remaining = 0;
            return Ok(None);
        }
        let size = source.array::<4>(self.at)?;
        self.at += 4;
        let size = u64::from(match self.order {
            Order::Little => u32::from_le_bytes(size),
            Order::Big => u32::from_be_bytes(size),
        });
        if size > self.remaining {
            self.remaining = 0;
            return Ok(None);
        }
        self.remaining -= 8;
        Ok(Some((name, size)))
    }

    fn skip(&mut self, source: &mut Source<'_>, size: u64) -> Result<(), Unscannable> {
        self.at = self.at.saturating_add(size);
        self.remaining = self.remaining.saturating_sub(size);
        self.skip_padding(source, size)
    }

    /// Skips a list, whose items are chunks. A damaged item ends the list early: the walk then
    /// continues after the header of that item, as `lofty` does.
    fn skip_list(&mut self, source: &mut Source<'_>, size: u64) -> Result<(), Unscannable> {
        let behind = self.remaining.saturating_sub(size);
        (self.at, self.remaining) = (self.at + 4, size - 4);
        while let Some((_, size)) = self.next(source)? {
            self.skip(source, size)?;
        }
        self.at = self.at.saturating_add(self.remaining);
        self.remaining = behind;
        self.skip_padding(source, size)
    }

    /// Skips the zero that follows a chunk of odd size. Some writers omit it.
    fn skip_padding(&mut self, source: &mut Source<'_>, size: u64) -> Result<(), Unscannable> {
        if size.is_multiple_of(2) || self.remaining == 0 {
            return Ok(());
        }
        let [byte] = source.array::<1>(self.at)?;
        if byte != 0 && self.remaining > 4 && is_name(source.array::<4>(self.at)?) {
            return Ok(());
        }
        self.at += 1;
        self.remaining -= 1;
        Ok(())
    }
}

/// Whether four bytes can be the name of a chunk: printable, with spaces only at the end.
fn is_name(name: [u8; 4]) -> bool {
    let end = name.iter().position(|byte| *byte == b' ').unwrap_or(4);
    name[..end].iter().all(u8::is_ascii_graphic) && name[end..].iter().all(|byte| *byte == b' ')
}
