//! HEIF and AVIF (ISO/IEC 23008-12): reads the dimensions and the rotation of the primary item, and
//! searches Exif and XMP for coordinates. The orientation in Exif is ignored, because it must not
//! change the rotation (7.2).

use std::ops::Range;

use super::exif::{self, read_xmp};
use super::facts::{Media, Unscannable};
use super::isobmff::{Atom, Atoms, Fields, find};
use super::source::Source;

/// The maximum number of bytes that are read from a box inside the `meta` box.
const MAX_BOX: u64 = 128 * 1024;

/// The maximum number of entries of a table that are read.
const MAX_ENTRIES: usize = 4096;

pub(super) fn read(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let size = source.size();
    let Some(meta) = find(source, 0..size, *b"meta")? else {
        return Err(Unscannable::Damaged("it has no meta box".to_owned()));
    };
    // This is a full box: version and flags precede its boxes.
    let meta = meta.content.start.saturating_add(4)..meta.content.end;
    let mut child = |kind| find(source, meta.clone(), kind);
    let (pitm, iprp, iinf) = (child(*b"pitm")?, child(*b"iprp")?, child(*b"iinf")?);
    let (iloc, idat) = (child(*b"iloc")?, child(*b"idat")?);
    let primary = match pitm {
        Some(pitm) => Fields::read(source, &pitm, 8)?.item(4),
        None => None,
    };
    if let (Some(primary), Some(iprp)) = (primary, iprp) {
        properties(source, &iprp, primary, media)?;
    }
    let orientation = media.orientation;
    if let (Some(iinf), Some(iloc)) = (iinf, iloc) {
        let locations = Fields::read(source, &iloc, MAX_BOX)?;
        for (item, kind) in metadata_items(source, &iinf)? {
            let Some(range) = location(&locations, item, idat.as_ref()) else { continue };
            let end = range.end.min(range.start.saturating_add(exif::MAX_LEN));
            let content = source.bytes(range.start..end)?;
            if kind == *b"Exif" {
                // The first field is the number of bytes that precede the TIFF header.
                let skip = content.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
                let tiff = content
                    .get(4..)
                    .and_then(|remaining| remaining.get(skip..))
                    .unwrap_or_default();
                exif::read(tiff.to_vec(), media);
            } else {
                read_xmp(&content, media);
            }
        }
    }
    media.orientation = orientation;
    media.has_gps.get_or_insert(false);
    if media.width.is_none() {
        return Err(Unscannable::Damaged("it has no primary picture".to_owned()));
    }
    Ok(())
}

impl Fields {
    /// The id of an item, which follows version and flags. In version 0 it has 16 bits.
    fn item(&self, at: usize) -> Option<u32> {
        if self.u8(0)? == 0 { self.u16(at).map(u32::from) } else { self.u32(at) }
    }
}

/// Reads the size, the rotation and the codec of the primary item from its properties (9.3, 6.5.3,
/// 6.5.10).
fn properties(
    source: &mut Source<'_>,
    iprp: &Atom,
    primary: u32,
    media: &mut Media,
) -> Result<(), Unscannable> {
    let Some(ipco) = find(source, iprp.content.clone(), *b"ipco")? else { return Ok(()) };
    let Some(ipma) = find(source, iprp.content.clone(), *b"ipma")? else { return Ok(()) };
    let numbers = associated(&Fields::read(source, &ipma, MAX_BOX)?, primary).unwrap_or_default();
    let mut atoms = Atoms::new(ipco.content);
    let mut number = 0;
    while let Some(atom) = atoms.next(source)? {
        number += 1;
        if !numbers.contains(&number) {
            continue;
        }
        match &atom.kind {
            b"ispe" => {
                let fields = Fields::read(source, &atom, 12)?;
                if let Some((width, height)) = fields.u32(4).zip(fields.u32(8)) {
                    media.set_size(width, height);
                }
            }
            b"irot" => {
                // The rotation is counter-clockwise, in units of 90 degrees.
                let angle = Fields::read(source, &atom, 1)?.u8(0).unwrap_or_default() & 3;
                media.orientation = Some([1, 8, 3, 6][usize::from(angle)]);
            }
            b"av1C" => media.codec = Some("av1".to_owned()),
            b"hvcC" => media.codec = Some("hevc".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// The numbers of an item's properties. They start at 1.
fn associated(ipma: &Fields, item: u32) -> Option<Vec<u16>> {
    let (version, wide) = (ipma.u8(0)?, ipma.u8(3)? & 1 == 1);
    let entries = ipma.u32(4)? as usize;
    let mut at = 8;
    for _ in 0..entries.min(MAX_ENTRIES) {
        let (number, len) =
            if version == 0 { (u32::from(ipma.u16(at)?), 2) } else { (ipma.u32(at)?, 4) };
        let count = usize::from(ipma.u8(at + len)?);
        at += len + 1;
        // The highest bit is set if a reader must understand the property.
        let property = |it: usize| {
            if wide {
                Some(ipma.u16(at + 2 * it)? & 0x7fff)
            } else {
                Some(u16::from(ipma.u8(at + it)? & 0x7f))
            }
        };
        if number == item {
            return (0..count).map(property).collect();
        }
        at += count * if wide { 2 } else { 1 };
    }
    None
}

/// The items with Exif or XMP.
fn metadata_items(
    source: &mut Source<'_>,
    iinf: &Atom,
) -> Result<Vec<(u32, [u8; 4])>, Unscannable> {
    let header = Fields::read(source, iinf, 8)?;
    let entries = if header.u8(0) == Some(0) { 6 } else { 8 };
    let mut items = Vec::new();
    let mut atoms = Atoms::new(iinf.content.start.saturating_add(entries)..iinf.content.end);
    while let Some(atom) = atoms.next(source)? {
        let infe = Fields::read(source, &atom, 16)?;
        let (item, kind) = match infe.u8(0) {
            Some(2) => (infe.u16(4).map(u32::from), infe.array(8)),
            Some(3) => (infe.u32(4), infe.array(10)),
            _ => continue,
        };
        if let Some((item, kind)) = item.zip(kind).filter(|(_, kind)| is_metadata(*kind)) {
            items.push((item, kind));
        }
        // A picture has at most one item with Exif and one with XMP. Four items are enough for a
        // picture and a thumbnail.
        if items.len() == 4 {
            break;
        }
    }
    Ok(items)
}

fn is_metadata(kind: [u8; 4]) -> bool {
    matches!(&kind, b"Exif" | b"mime")
}

/// The range of an item in the file (ISO/IEC 14496-12, 8.11.3). `None` if the item has several
/// ranges.
fn location(iloc: &Fields, item: u32, idat: Option<&Atom>) -> Option<Range<u64>> {
    let version = iloc.u8(0)?;
    let sizes = iloc.u16(4)?;
    let size = |shift: u16| usize::from(sizes >> shift & 0xf);
    let (offset_size, length_size, base_size) = (size(12), size(8), size(4));
    let index_size = if version == 0 { 0 } else { size(0) };
    let number = |at: usize, size: usize| match size {
        0 => Some(0),
        4 => iloc.u32(at).map(u64::from),
        8 => iloc.u64(at),
        _ => None,
    };
    let (entries, mut at) =
        if version < 2 { (usize::from(iloc.u16(6)?), 8) } else { (iloc.u32(6)? as usize, 10) };
    for _ in 0..entries.min(MAX_ENTRIES) {
        let found = if version < 2 { u32::from(iloc.u16(at)?) } else { iloc.u32(at)? };
        at += if version < 2 { 2 } else { 4 };
        let method = if version == 0 { 0 } else { iloc.u16(at)? & 0xf };
        at += if version == 0 { 0 } else { 2 };
        // The index of the file's data reference is skipped.
        at += 2;
        let base = number(at, base_size)?;
        at += base_size;
        let extents = usize::from(iloc.u16(at)?);
        at += 2;
        if found == item {
            let offset = number(at + index_size, offset_size)?;
            let len = number(at + index_size + offset_size, length_size)?;
            let origin = match method {
                0 => 0,
                1 => idat?.content.start,
                _ => return None,
            };
            let start = origin.checked_add(base)?.checked_add(offset)?;
            return (extents == 1).then(|| start..start.saturating_add(len));
        }
        at += extents * (index_size + offset_size + length_size);
    }
    None
}
