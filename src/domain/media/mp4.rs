//! MP4 and `QuickTime` files (ISO/IEC 14496-12, `QuickTime` File Format Specification): reads a few
//! fields of the `moov` box, and skips the tables of samples.

use super::facts::{Kind, Media, Tags, Unscannable, clean_text};
use super::isobmff::{Atom, Atoms, Fields, find};
use super::source::Source;

/// The number of bytes that are read from a box with a sample description. Real descriptions are
/// shorter.
const DESCRIPTION_LEN: u64 = 256;

/// The number of bytes that are read from the names of `QuickTime` metadata.
const KEYS_LEN: u64 = 4096;

/// The fields of a track that the result needs.
#[derive(Default)]
struct Track {
    handler: [u8; 4],
    codec: Option<String>,
    size: Option<(u32, u32)>,
    orientation: Option<u32>,
    sample_rate: Option<u32>,
    channels: Option<u16>,
    seconds: Option<f64>,
}

pub(super) fn read(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let size = source.size();
    let Some(moov) = find(source, 0..size, *b"moov")? else {
        return Err(Unscannable::Damaged("it has no moov box".to_owned()));
    };
    media.has_gps = Some(false);
    let (mut tracks, mut seconds) = (Vec::new(), None);
    let mut atoms = Atoms::new(moov.content);
    while let Some(atom) = atoms.next(source)? {
        match &atom.kind {
            b"mvhd" => seconds = Fields::read(source, &atom, 32)?.seconds(),
            b"trak" => tracks.push(track(source, &atom)?),
            b"udta" => user_data(source, &atom, media)?,
            b"meta" => quicktime_keys(source, &atom, media)?,
            _ => {}
        }
    }
    let of = |handler: &[u8; 4]| tracks.iter().find(|track| track.handler == *handler);
    let (video, audio) = (of(b"vide"), of(b"soun"));
    media.kind = match (video, audio) {
        (Some(_), _) => Kind::Video,
        (None, Some(_)) => Kind::Audio,
        (None, None) => return Err(Unscannable::Damaged("it has no track".to_owned())),
    };
    let main = video.or(audio);
    let longest = tracks.iter().filter_map(|track| track.seconds).reduce(f64::max);
    media.codec = main.and_then(|track| track.codec.clone());
    media.set_duration(seconds.or(longest).unwrap_or_default());
    if let Some((width, height)) = video.and_then(|track| track.size) {
        media.set_size(width, height);
    }
    if let Some(orientation) = video.and_then(|track| track.orientation) {
        media.set_orientation(orientation);
    }
    media.sample_rate = audio.and_then(|track| track.sample_rate);
    media.channels = audio.and_then(|track| track.channels);
    media.estimate_bitrate(source.size());
    Ok(())
}

impl Fields {
    /// Reads the duration of an `mvhd` or `mdhd` box, in seconds.
    fn seconds(&self) -> Option<f64> {
        let (scale, duration) = if self.u8(0)? == 1 {
            (self.u32(20)?, self.u64(24).filter(|it| *it != u64::MAX)?)
        } else {
            (self.u32(12)?, self.u32(16).filter(|it| *it != u32::MAX)?.into())
        };
        #[expect(clippy::cast_precision_loss)] // Durations are far below 2^53 units.
        let duration = duration as f64;
        (scale > 0 && duration > 0.0).then(|| duration / f64::from(scale))
    }

    /// Reads the time scale of an `mdhd` box, in Hz.
    fn scale(&self) -> Option<u32> {
        if self.u8(0)? == 1 { self.u32(20) } else { self.u32(12) }
    }
}

fn track(source: &mut Source<'_>, of: &Atom) -> Result<Track, Unscannable> {
    let mut track = Track::default();
    let mut atoms = Atoms::new(of.content.clone());
    while let Some(atom) = atoms.next(source)? {
        match &atom.kind {
            b"tkhd" => track.orientation = orientation(&Fields::read(source, &atom, 96)?),
            b"mdia" => media_of(source, &atom, &mut track)?,
            _ => {}
        }
    }
    Ok(track)
}

/// The orientation that the matrix in a `tkhd` box describes, as an Exif value.
fn orientation(tkhd: &Fields) -> Option<u32> {
    let matrix = if tkhd.u8(0)? == 1 { 52 } else { 40 };
    let sign = |at: usize| tkhd.u32(matrix + at).map(|it| it.cast_signed().signum());
    match (sign(0)?, sign(4)?, sign(12)?, sign(16)?) {
        (1, 0, 0, 1) => Some(1),
        (-1, 0, 0, 1) => Some(2),
        (-1, 0, 0, -1) => Some(3),
        (1, 0, 0, -1) => Some(4),
        (0, 1, 1, 0) => Some(5),
        (0, 1, -1, 0) => Some(6),
        (0, -1, -1, 0) => Some(7),
        (0, -1, 1, 0) => Some(8),
        _ => None,
    }
}

fn media_of(source: &mut Source<'_>, mdia: &Atom, track: &mut Track) -> Result<(), Unscannable> {
    let mut part = |kind| find(source, mdia.content.clone(), kind);
    let (mdhd, hdlr, minf) = (part(*b"mdhd")?, part(*b"hdlr")?, part(*b"minf")?);
    if let Some(hdlr) = hdlr {
        track.handler = Fields::read(source, &hdlr, 12)?.array(8).unwrap_or_default();
    }
    if let Some(minf) = minf
        && let Some(stbl) = find(source, minf.content, *b"stbl")?
        && let Some(stsd) = find(source, stbl.content, *b"stsd")?
    {
        describe(&Fields::read(source, &stsd, DESCRIPTION_LEN)?, track);
    }
    if let Some(mdhd) = mdhd {
        let fields = Fields::read(source, &mdhd, 32)?;
        track.seconds = fields.seconds();
        if track.handler == *b"soun" {
            track.sample_rate = track.sample_rate.or(fields.scale());
        }
    }
    Ok(())
}

/// Reads the first sample entry of an `stsd` box. `track.handler` must be known.
fn describe(stsd: &Fields, track: &mut Track) {
    // Version, flags, the number of entries and the size of the first entry precede the type.
    const TYPE: usize = 12;
    const FIELDS: usize = 16;
    track.codec = stsd.array(TYPE).and_then(codec);
    match &track.handler {
        b"vide" => {
            let size = stsd.u16(FIELDS + 24).zip(stsd.u16(FIELDS + 26));
            track.size = size.map(|(width, height)| (width.into(), height.into()));
        }
        b"soun" => {
            // Sample rates are 16.16 fixed point. They are 0 if the rate is too large for this
            // format.
            track.channels = stsd.u16(FIELDS + 16).filter(|it| *it > 0);
            track.sample_rate = stsd.u32(FIELDS + 24).map(|it| it >> 16).filter(|it| *it > 0);
            // Version 2 of the `QuickTime` description has other fields.
            if stsd.u16(FIELDS + 8) == Some(2) {
                track.sample_rate = None;
                let channels = stsd.u32(FIELDS + 40).and_then(|it| u16::try_from(it).ok());
                track.channels = channels.filter(|it| *it > 0);
            }
            let _ = elementary_stream(stsd, track);
        }
        _ => {}
    }
}

/// Reads the `esds` box in a sample entry (ISO/IEC 14496-1, 7.2.6). Its codec and number of
/// channels are more reliable than those of the entry.
fn elementary_stream(stsd: &Fields, track: &mut Track) -> Option<()> {
    let at = stsd.0.windows(4).position(|part| part == b"esds")?;
    // Version and flags precede the descriptors. Each descriptor has a type and a length. In the
    // descriptors of the stream and of the decoder, 3 and 13 bytes precede the inner descriptor.
    let decoder = descriptor(stsd, at + 8, 3)? + 3;
    match stsd.u8(descriptor(stsd, decoder, 4)?)? {
        0x69 | 0x6b => track.codec = Some("mp3".to_owned()),
        0x40 | 0x66..=0x68 => {}
        _ => return None,
    }
    // ISO/IEC 14496-3, 1.6.2.1: object type, sampling frequency, channels. They rarely need more
    // than two bytes.
    let config = stsd.u16(descriptor(stsd, descriptor(stsd, decoder, 4)? + 13, 5)?)?;
    let [object_type, frequency, channels] = [config >> 11, config >> 7 & 0xf, config >> 3 & 0xf];
    if object_type != 31 && frequency != 15 && (1..=7).contains(&channels) {
        track.channels = Some(if channels == 7 { 8 } else { channels });
    }
    Some(())
}

/// The offset of the content of the descriptor at `at`, if the descriptor has this type.
fn descriptor(fields: &Fields, at: usize, kind: u8) -> Option<usize> {
    let mut at = at + 1;
    fields.u8(at - 1).filter(|found| *found == kind)?;
    // The length has up to four bytes. The highest bit is set if another byte follows.
    for _ in 0..4 {
        at += 1;
        if fields.u8(at - 1)? & 0x80 == 0 {
            break;
        }
    }
    Some(at)
}

/// The common name of a codec, as registered at mp4ra.org.
fn codec(kind: [u8; 4]) -> Option<String> {
    let name = match &kind {
        b"avc1" | b"avc3" => "h264",
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "hevc",
        b"av01" => "av1",
        b"vp08" => "vp8",
        b"vp09" => "vp9",
        b"mp4v" => "mpeg4",
        b"mp4a" => "aac",
        b".mp3" => "mp3",
        b"ac-3" => "ac3",
        b"ec-3" => "eac3",
        b"fLaC" => "flac",
        b"lpcm" | b"sowt" | b"twos" | b"in24" | b"ipcm" | b"raw " => "pcm",
        b"fl32" | b"fl64" | b"fpcm" => "pcm_float",
        b"ap4h" | b"ap4x" | b"apch" | b"apcn" | b"apcs" | b"apco" => "prores",
        b"jpeg" | b"mjpa" | b"mjpb" => "mjpeg",
        _ => {
            let name = std::str::from_utf8(&kind).ok().and_then(clean_text)?;
            return Some(name.to_ascii_lowercase());
        }
    };
    Some(name.to_owned())
}

/// Reads the tags and the coordinates in a `udta` box.
fn user_data(source: &mut Source<'_>, udta: &Atom, media: &mut Media) -> Result<(), Unscannable> {
    let mut atoms = Atoms::new(udta.content.clone());
    while let Some(atom) = atoms.next(source)? {
        match &atom.kind {
            b"\xa9xyz" | b"loci" => media.has_gps = Some(true),
            b"meta" => {
                // This is a full box: version and flags precede its boxes.
                let content = atom.content.start.saturating_add(4)..atom.content.end;
                if let Some(ilst) = find(source, content, *b"ilst")? {
                    media.tags = tags(source, &ilst)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the texts in an `ilst` box. Cover pictures are skipped.
fn tags(source: &mut Source<'_>, ilst: &Atom) -> Result<Tags, Unscannable> {
    let mut tags = Tags::default();
    let mut items = Atoms::new(ilst.content.clone());
    while let Some(item) = items.next(source)? {
        let known_tags = [*b"\xa9nam", *b"\xa9ART", *b"\xa9alb", *b"\xa9day", *b"trkn"];
        if !known_tags.contains(&item.kind) {
            continue;
        }
        let Some(data) = find(source, item.content, *b"data")? else { continue };
        // The type and the language precede the value.
        let value = Fields::read(source, &data, 8 + 1024)?;
        let text = || {
            let bytes = value.0.get(8..)?;
            clean_text(&String::from_utf8_lossy(bytes))
        };
        match &item.kind {
            b"\xa9nam" => tags.title = text(),
            b"\xa9ART" => tags.artist = text(),
            b"\xa9alb" => tags.album = text(),
            b"\xa9day" => tags.year = text().and_then(|date| date.get(..4)?.parse().ok()),
            _ => tags.track = value.u16(10).map(u32::from).filter(|it| *it > 0),
        }
    }
    Ok(tags)
}

/// Searches the names of `QuickTime` metadata for coordinates. In `QuickTime` files the `meta` box
/// is not a full box, so both forms are accepted.
fn quicktime_keys(
    source: &mut Source<'_>,
    meta: &Atom,
    media: &mut Media,
) -> Result<(), Unscannable> {
    const LOCATION: &[u8] = b"com.apple.quicktime.location.";
    let full = source.array::<8>(meta.content.start)?[4..] != *b"hdlr";
    let start = meta.content.start.saturating_add(if full { 4 } else { 0 });
    let Some(keys) = find(source, start..meta.content.end, *b"keys")? else { return Ok(()) };
    let names = Fields::read(source, &keys, KEYS_LEN)?.0;
    if names.windows(LOCATION.len()).any(|part| part == LOCATION) {
        media.has_gps = Some(true);
    }
    Ok(())
}
