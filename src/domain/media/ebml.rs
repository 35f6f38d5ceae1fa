//! `WebM` and Matroska files (RFC 8794, RFC 9559): reads the elements `Info` and `Tracks`, which
//! writers put before the media data (the clusters).

use std::ops::Range;

use super::facts::{Kind, Media, Unscannable, clean_text};
use super::source::Source;

/// The maximum number of elements of one parent that are read.
const MAX_ELEMENTS: usize = 1000;

/// The maximum number of bytes that are read from a text or a number.
const MAX_VALUE: u64 = 1024;

/// Element ids (RFC 9559, 5.1), with their length marker.
mod id {
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_a966;
    pub(super) const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub(super) const DURATION: u32 = 0x4489;
    pub(super) const TITLE: u32 = 0x7ba9;
    pub(super) const TRACKS: u32 = 0x1654_ae6b;
    pub(super) const TRACK_ENTRY: u32 = 0xae;
    pub(super) const TRACK_TYPE: u32 = 0x83;
    pub(super) const CODEC_ID: u32 = 0x86;
    pub(super) const VIDEO: u32 = 0xe0;
    pub(super) const PIXEL_WIDTH: u32 = 0xb0;
    pub(super) const PIXEL_HEIGHT: u32 = 0xba;
    pub(super) const AUDIO: u32 = 0xe1;
    pub(super) const SAMPLING_FREQUENCY: u32 = 0xb5;
    pub(super) const CHANNELS: u32 = 0x9f;
    pub(super) const CLUSTER: u32 = 0x1f43_b675;
}

struct Element {
    id: u32,
    content: Range<u64>,
}

/// The elements in a range of the file.
struct Elements {
    at: u64,
    end: u64,
    seen: usize,
}

impl Elements {
    fn new(range: &Range<u64>) -> Self {
        Self { at: range.start, end: range.end, seen: 0 }
    }

    fn next(&mut self, source: &mut Source<'_>) -> Result<Option<Element>, Unscannable> {
        self.seen += 1;
        if self.at >= self.end || self.seen > MAX_ELEMENTS {
            return Ok(None);
        }
        let header = source.bytes(self.at..self.end.min(self.at.saturating_add(12)))?;
        let damaged = || Unscannable::Damaged("an element has an invalid size".to_owned());
        let (id, id_len) = number(&header, 4).ok_or_else(damaged)?;
        let (len, len_len) =
            header.get(id_len..).and_then(|remaining| number(remaining, 8)).ok_or_else(damaged)?;
        // The value without the length marker. If all its bits are set, the size is unknown and the
        // element ends with its parent.
        let mask = (1 << (7 * len_len)) - 1;
        let start = self.at.saturating_add((id_len + len_len) as u64).min(self.end);
        let end = if len & mask == mask { self.end } else { start.saturating_add(len & mask) };
        let end = end.min(self.end);
        self.at = end;
        let id = u32::try_from(id).map_err(|_| damaged())?;
        Ok(Some(Element { id, content: start..end }))
    }
}

/// Reads a number whose first bits encode its length. Returns it with these bits, and its length in
/// bytes.
fn number(bytes: &[u8], max_len: usize) -> Option<(u64, usize)> {
    let len = bytes.first()?.leading_zeros() as usize + 1;
    let bytes = bytes.get(..len).filter(|_| len <= max_len)?;
    Some((bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), len))
}

pub(super) fn read(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let mut top = Elements::new(&(0..source.size()));
    let segment = loop {
        match top.next(source)? {
            Some(element) if element.id == id::SEGMENT => break element,
            Some(_) => {}
            None => return Err(Unscannable::Damaged("it has no segment".to_owned())),
        }
    };
    let mut has_tracks = false;
    let mut elements = Elements::new(&segment.content);
    while let Some(element) = elements.next(source)? {
        match element.id {
            id::INFO => info(source, &element, media)?,
            id::TRACKS => {
                tracks(source, &element, media)?;
                has_tracks = true;
            }
            id::CLUSTER => break,
            _ => {}
        }
    }
    if !has_tracks {
        return Err(Unscannable::Damaged("no tracks precede the content".to_owned()));
    }
    media.has_gps = Some(false);
    media.estimate_bitrate(source.size());
    Ok(())
}

fn info(source: &mut Source<'_>, info: &Element, media: &mut Media) -> Result<(), Unscannable> {
    // In nanoseconds.
    let (mut scale, mut duration) = (1_000_000, None);
    let mut elements = Elements::new(&info.content);
    while let Some(element) = elements.next(source)? {
        match element.id {
            id::TIMESTAMP_SCALE => scale = unsigned(source, &element)?,
            id::DURATION => duration = float(source, &element)?,
            id::TITLE => media.tags.title = text(source, &element)?,
            _ => {}
        }
    }
    #[expect(clippy::cast_precision_loss)] // Scales are far below 2^53.
    let scale = scale as f64;
    media.set_duration(duration.unwrap_or_default() * scale / 1e9);
    Ok(())
}

fn tracks(source: &mut Source<'_>, tracks: &Element, media: &mut Media) -> Result<(), Unscannable> {
    const VIDEO: u64 = 1;
    const AUDIO: u64 = 2;
    let (mut has_video, mut has_audio) = (false, false);
    let mut entries = Elements::new(&tracks.content);
    while let Some(entry) = entries.next(source)? {
        if entry.id != id::TRACK_ENTRY {
            continue;
        }
        // The defaults of these elements are 8 kHz and one channel (RFC 9559).
        let mut track = Media { sample_rate: Some(8000), channels: Some(1), ..Media::default() };
        let mut kind = 0;
        let mut elements = Elements::new(&entry.content);
        while let Some(element) = elements.next(source)? {
            match element.id {
                id::TRACK_TYPE => kind = unsigned(source, &element)?,
                id::CODEC_ID => track.codec = text(source, &element)?.map(|name| codec(&name)),
                id::VIDEO | id::AUDIO => settings(source, &element, &mut track)?,
                _ => {}
            }
        }
        // Players choose the first track of each kind.
        if kind == VIDEO && !has_video {
            has_video = true;
            media.codec = track.codec;
            (media.width, media.height) = (track.width, track.height);
        } else if kind == AUDIO && !has_audio {
            has_audio = true;
            if !has_video {
                media.codec = track.codec;
            }
            (media.sample_rate, media.channels) = (track.sample_rate, track.channels);
        }
    }
    media.kind = match (has_video, has_audio) {
        (true, _) => Kind::Video,
        (false, true) => Kind::Audio,
        (false, false) => return Err(Unscannable::Damaged("it has no track".to_owned())),
    };
    Ok(())
}

/// Reads the settings of a video or an audio track.
fn settings(
    source: &mut Source<'_>,
    parent: &Element,
    track: &mut Media,
) -> Result<(), Unscannable> {
    let (mut width, mut height) = (0, 0);
    let mut elements = Elements::new(&parent.content);
    while let Some(element) = elements.next(source)? {
        match element.id {
            id::PIXEL_WIDTH => width = unsigned(source, &element)?,
            id::PIXEL_HEIGHT => height = unsigned(source, &element)?,
            id::SAMPLING_FREQUENCY => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // In range.
                let hertz = float(source, &element)?
                    .filter(|hertz| (1.0..4e9).contains(hertz))
                    .map(|hertz| hertz as u32);
                track.sample_rate = hertz;
            }
            id::CHANNELS => {
                track.channels = u16::try_from(unsigned(source, &element)?).ok();
            }
            _ => {}
        }
    }
    if let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) {
        track.set_size(width, height);
    }
    Ok(())
}

/// The common name of a codec (RFC 9559, "Codec Mappings").
fn codec(name: &str) -> String {
    match name {
        "V_MPEG4/ISO/AVC" => "h264".to_owned(),
        "V_MPEGH/ISO/HEVC" => "hevc".to_owned(),
        "A_MPEG/L3" => "mp3".to_owned(),
        name if name.starts_with("A_PCM/FLOAT") => "pcm_float".to_owned(),
        name if name.starts_with("A_PCM") => "pcm".to_owned(),
        name if name.starts_with("A_AAC") => "aac".to_owned(),
        name => name.trim_start_matches("V_").trim_start_matches("A_").to_ascii_lowercase(),
    }
}

fn value(source: &mut Source<'_>, element: &Element) -> Result<Vec<u8>, Unscannable> {
    let Range { start, end } = element.content;
    source.bytes(start..end.min(start.saturating_add(MAX_VALUE)))
}

fn unsigned(source: &mut Source<'_>, element: &Element) -> Result<u64, Unscannable> {
    let bytes = value(source, element)?;
    Ok(bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn float(source: &mut Source<'_>, element: &Element) -> Result<Option<f64>, Unscannable> {
    let bytes = value(source, element)?;
    let single = <[u8; 4]>::try_from(&bytes[..]).map(|bytes| f32::from_be_bytes(bytes).into());
    let double = || <[u8; 8]>::try_from(&bytes[..]).map(f64::from_be_bytes);
    Ok(single.or_else(|_| double()).ok().filter(|it: &f64| it.is_finite()))
}

fn text(source: &mut Source<'_>, element: &Element) -> Result<Option<String>, Unscannable> {
    Ok(clean_text(&String::from_utf8_lossy(&value(source, element)?)))
}
