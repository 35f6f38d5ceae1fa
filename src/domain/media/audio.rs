//! Audio files that `lofty` parses.

use lofty::config::{GlobalOptions, ParseOptions, ParsingMode, apply_global_options};
use lofty::file::{AudioFile, FileType, TaggedFile, TaggedFileExt};
use lofty::iff::wav::{WavFile, WavFormat};
use lofty::mpeg::{Layer, MpegFile};
use lofty::ogg::{OpusFile, SpeexFile, VorbisFile};
use lofty::probe::Probe;
use lofty::tag::{Accessor, ItemKey, Tag};

use super::facts::{Media, Tags, Unscannable, clean_text};
use super::source::{Holes, Source};
use super::{id3, iff};

/// The maximum size of one item of a tag, in bytes.
const MAX_ITEM_LEN: usize = 512 * 1024;

pub(super) fn read_mpeg(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let holes = id3::pictures(source)?;
    source.restart_with(holes);
    let file = MpegFile::read_from(source, options())?;
    let codec = match file.properties().layer() {
        Layer::Layer1 => "mp1",
        Layer::Layer2 => "mp2",
        Layer::Layer3 => "mp3",
    };
    record(file.into(), Some(codec), media);
    Ok(())
}

pub(super) fn read_wav(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    iff::check_tags(source, iff::Order::Little)?;
    source.restart_with(Holes::default());
    let file = WavFile::read_from(source, options())?;
    // The codes are listed in RFC 2361.
    let codec = match file.properties().format() {
        WavFormat::PCM => Some("pcm"),
        WavFormat::IEEE_FLOAT => Some("pcm_float"),
        WavFormat::Other(2 | 17) => Some("adpcm"),
        WavFormat::Other(6) => Some("alaw"),
        WavFormat::Other(7) => Some("mulaw"),
        WavFormat::Other(85) => Some("mp3"),
        WavFormat::Other(_) => None,
    };
    record(file.into(), codec, media);
    Ok(())
}

pub(super) fn read_flac(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let holes = id3::pictures(source)?;
    source.restart_with(holes);
    read(FileType::Flac, Some("flac"), source, media)
}

pub(super) fn read_aiff(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    iff::check_tags(source, iff::Order::Big)?;
    source.restart_with(Holes::default());
    read(FileType::Aiff, None, source, media)
}

pub(super) fn read_aac(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let holes = id3::pictures(source)?;
    source.restart_with(holes);
    read(FileType::Aac, Some("aac"), source, media)
}

/// The first packet starts after the header of the first page, and names the codec.
pub(super) fn read_ogg(source: &mut Source<'_>, media: &mut Media) -> Result<(), Unscannable> {
    let head = source.head();
    let has = |name: &[u8]| head.get(28..).is_some_and(|packet| packet.starts_with(name));
    if has(b"OpusHead") {
        record(OpusFile::read_from(source, options())?.into(), Some("opus"), media);
    } else if has(b"\x01vorbis") {
        record(VorbisFile::read_from(source, options())?.into(), Some("vorbis"), media);
    } else if has(b"Speex   ") {
        record(SpeexFile::read_from(source, options())?.into(), Some("speex"), media);
    } else {
        return Err(Unscannable::Unsupported("audio/ogg"));
    }
    Ok(())
}

fn read(
    file_type: FileType,
    codec: Option<&str>,
    source: &mut Source<'_>,
    media: &mut Media,
) -> Result<(), Unscannable> {
    let file = Probe::with_file_type(source, file_type).options(options()).read()?;
    record(file, codec, media);
    Ok(())
}

/// The options of `lofty`. The call also sets its limits for this thread.
fn options() -> ParseOptions {
    apply_global_options(
        GlobalOptions::new()
            .use_custom_resolvers(false)
            .preserve_format_specific_items(false)
            .allocation_limit(MAX_ITEM_LEN),
    );
    ParseOptions::new().parsing_mode(ParsingMode::Relaxed).read_cover_art(false)
}

fn record(file: TaggedFile, codec: Option<&str>, media: &mut Media) {
    let properties = file.properties();
    media.codec = codec.map(str::to_owned);
    media.set_duration(properties.duration().as_secs_f64());
    let kilobits = properties.audio_bitrate().or(properties.overall_bitrate());
    media.bitrate = kilobits.filter(|it| *it > 0).map(|kilobits| u64::from(kilobits) * 1000);
    media.sample_rate = properties.sample_rate().filter(|it| *it > 0);
    media.channels = properties.channels().filter(|it| *it > 0).map(u16::from);
    // A file can have several tags, and each may lack some items.
    for tag in file.primary_tag().into_iter().chain(file.tags()) {
        media.tags.fill(tag);
    }
}

impl Tags {
    /// Adds the items that are still unknown.
    fn fill(&mut self, tag: &Tag) {
        let add = |known: &mut Option<String>, text: Option<std::borrow::Cow<'_, str>>| {
            if known.is_none() {
                *known = text.and_then(|text| clean_text(&text));
            }
        };
        add(&mut self.title, tag.title());
        add(&mut self.artist, tag.artist());
        add(&mut self.album, tag.album());
        self.track = self.track.or_else(|| track_number(tag)).filter(|it| *it > 0);
        let year = || tag.date().map(|date| date.year);
        self.year = self.year.or_else(year).filter(|it| *it > 0);
    }
}

/// The track number. Some tags store it with the number of tracks: `3/9`.
fn track_number(tag: &Tag) -> Option<u32> {
    let text = || tag.get_string(ItemKey::TrackNumber)?.split('/').next()?.trim().parse().ok();
    tag.track().or_else(text)
}

impl From<lofty::error::LoftyError> for Unscannable {
    fn from(error: lofty::error::LoftyError) -> Self {
        Self::Damaged(clean_text(&error.to_string()).unwrap_or_default())
    }
}
