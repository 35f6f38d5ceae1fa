//! PNG, JPEG, GIF and `WebP`: reads the dimensions, and finds Exif and XMP.

use super::exif::{self, read_xmp};
use super::facts::{Media, Unscannable};
use super::isobmff::Fields;
use super::source::Source;

/// The maximum number of chunks or segments of a file that are read.
const MAX_CHUNKS: usize = 4096;

/// The number of bytes at the end of a PNG file that are searched for metadata after the picture.
const TAIL_LEN: u64 = 32 * 1024;

/// The maximum number of occurrences of the name of the Exif chunk that are checked at the end of a
/// PNG file. The name can occur in the picture by chance.
const MAX_TAIL_EXIF: usize = 4;

/// Reads a PNG file (PNG, 3rd edition: 11.2.1 for `IHDR`, 11.3.4.4 for `eXIf`).
pub(super) fn read_png(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let (width, height) = (source.array(16)?, source.array(20)?);
    media.set_size(u32::from_be_bytes(width), u32::from_be_bytes(height));
    let mut at = 8;
    for _ in 0..MAX_CHUNKS {
        let [a, b, c, d, kind @ ..] = source.array::<8>(at)?;
        let len = u64::from(u32::from_be_bytes([a, b, c, d]));
        match &kind {
            b"eXIf" => exif::read(source.bytes(at + 8..at + 8 + len.min(exif::MAX_LEN))?, media),
            b"iTXt" => read_xmp(&source.bytes(at + 8..at + 8 + len.min(exif::MAX_LEN))?, media),
            // The picture can have thousands of chunks, so the chunks after it are searched from
            // the end of the file.
            b"IDAT" | b"IEND" => break,
            _ => {}
        }
        at += 12 + len;
    }
    let tail = source.tail(TAIL_LEN)?;
    read_xmp(&tail, media);
    let names = (0..tail.len()).filter(|at| tail[*at..].starts_with(b"eXIf"));
    for name in names.take(MAX_TAIL_EXIF) {
        let len = name.checked_sub(4).and_then(|at| tail.get(at..)?.first_chunk());
        let len = len.map_or(0, |len| u32::from_be_bytes(*len) as usize);
        if let Some(content) = tail.get(name + 4..).and_then(|remaining| remaining.get(..len)) {
            exif::read(content.to_vec(), media);
        }
    }
    media.has_gps.get_or_insert(false);
    Ok(())
}

/// Reads a JPEG file (ISO/IEC 10918-1, B.1; Exif 3.0, 4.7.2).
pub(super) fn read_jpeg(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    const EXIF: &[u8] = b"Exif\0\0";
    let mut at = 2;
    for _ in 0..MAX_CHUNKS {
        let [ff, marker] = source.array(at)?;
        if ff != 0xff {
            return Err(Unscannable::Damaged("a segment has no marker".to_owned()));
        }
        match marker {
            // Fill bytes.
            0xff => {
                at += 1;
                continue;
            }
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => {
                at += 2;
                continue;
            }
            // The picture starts here, or the file ends.
            0xd9 | 0xda => break,
            _ => {}
        }
        let len = u64::from(u16::from_be_bytes(source.array(at + 2)?));
        if len < 2 {
            return Err(Unscannable::Damaged("a segment has an invalid size".to_owned()));
        }
        let content = at + 4..at + 2 + len;
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, a, b, c, d] = source.array(content.start)?;
                let (height, width) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                media.set_size(width.into(), height.into());
            }
            0xe1 => {
                let content = source.bytes(content)?;
                match content.strip_prefix(EXIF) {
                    Some(tiff) => exif::read(tiff.to_vec(), media),
                    None => read_xmp(&content, media),
                }
            }
            _ => {}
        }
        at += 2 + len;
    }
    media.has_gps.get_or_insert(false);
    Ok(())
}

/// Reads a GIF file. GIF has no Exif. XMP can be anywhere between the pictures, so only the first
/// bytes are searched for it.
pub(super) fn read_gif(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let [a, b, c, d] = source.array(6)?;
    media.set_size(u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into());
    media.has_gps = Some(false);
    read_xmp(source.head(), media);
    Ok(())
}

/// Reads a `WebP` file (RFC 9649, 2.5 to 2.7; for the size of lossy pictures RFC 6386, 9.1).
pub(super) fn read_webp(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    const EXIF: u8 = 1 << 3;
    const XMP: u8 = 1 << 2;
    let first = Fields(source.bytes(12..12 + 18)?);
    let u24 = |at| first.array(at).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
    let kind = first.array::<4>(0).unwrap_or_default();
    let size = match &kind {
        b"VP8X" => u24(12).zip(u24(15)).map(|(width, height)| (width + 1, height + 1)),
        b"VP8L" => first.array(9).map(u32::from_le_bytes).map(|bits| {
            let (width, height) = (bits & 0x3fff, bits >> 14 & 0x3fff);
            (width + 1, height + 1)
        }),
        b"VP8 " => {
            let u14 = |at| first.array(at).map(|it| u32::from(u16::from_le_bytes(it) & 0x3fff));
            u14(14).zip(u14(16))
        }
        _ => None,
    };
    let Some((width, height)) = size else {
        return Err(Unscannable::Damaged("it has no picture".to_owned()));
    };
    media.set_size(width, height);
    let flags = if kind == *b"VP8X" { first.u8(8).unwrap_or_default() } else { 0 };
    if flags & (EXIF | XMP) != 0 {
        webp_metadata(source, media)?;
    }
    media.has_gps.get_or_insert(false);
    Ok(())
}

fn webp_metadata(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        if at + 8 > source.size() {
            break;
        }
        let [a, b, c, d, len @ ..] = source.array::<8>(at)?;
        let len = u64::from(u32::from_le_bytes(len));
        let content = at + 8..at + 8 + len.min(exif::MAX_LEN);
        match &[a, b, c, d] {
            b"EXIF" => {
                let content = source.bytes(content)?;
                // Some writers copy the name of JPEG's segment into the chunk.
                let tiff = content.strip_prefix(b"Exif\0\0").unwrap_or(&content);
                exif::read(tiff.to_vec(), media);
            }
            b"XMP " => read_xmp(&source.bytes(content)?, media),
            _ => {}
        }
        at += 8 + len + len % 2;
    }
    Ok(())
}
