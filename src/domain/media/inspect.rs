//! Selects the parser of a file and runs it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::facts::{Inspected, Kind, Media, Step, Unscannable};
use super::parts::Parts;
use super::source::Source;
use super::{audio, ebml, heif, image, mp4};
use crate::domain::sniff;

type Read = fn(&mut Source<'_>, &mut Media) -> Result<(), Unscannable>;

struct Parser {
    kind: Kind,
    container: &'static str,
    read: Read,
}

/// The parser for a media type, which is a canonical name of [`sniff`].
fn parser_of(media_type: &str) -> Option<Parser> {
    use Kind::{Audio, Image, Video};
    let (kind, container, read): (_, _, Read) = match media_type {
        "audio/mpeg" => (Audio, "mp3", audio::read_mpeg),
        "audio/wav" => (Audio, "wav", audio::read_wav),
        "audio/flac" => (Audio, "flac", audio::read_flac),
        "audio/ogg" | "audio/opus" => (Audio, "ogg", audio::read_ogg),
        "audio/aiff" => (Audio, "aiff", audio::read_aiff),
        "audio/aac" => (Audio, "aac", audio::read_aac),
        "audio/mp4" => (Audio, "mp4", mp4::read),
        "video/mp4" | "video/x-m4v" | "application/mp4" => (Video, "mp4", mp4::read),
        "video/quicktime" => (Video, "mov", mp4::read),
        "video/3gpp" | "audio/3gpp" | "video/3gpp2" | "audio/3gpp2" => (Video, "3gp", mp4::read),
        "audio/webm" => (Audio, "webm", ebml::read),
        "video/webm" => (Video, "webm", ebml::read),
        "audio/matroska" => (Audio, "matroska", ebml::read),
        "video/matroska" => (Video, "matroska", ebml::read),
        "image/png" => (Image, "png", image::read_png),
        "image/jpeg" => (Image, "jpeg", image::read_jpeg),
        "image/gif" => (Image, "gif", image::read_gif),
        "image/webp" => (Image, "webp", image::read_webp),
        "image/avif" => (Image, "avif", heif::read),
        "image/heic" | "image/heif" | "image/heic-sequence" | "image/heif-sequence" => {
            (Image, "heif", heif::read)
        }
        _ => return None,
    };
    Some(Parser { kind, container, read })
}

/// Inspects the parts of a file that were read so far. The first part must start at the first byte
/// of the file, and should have [`HEAD_LEN`] bytes.
pub fn inspect(parts: &Parts) -> Step {
    let done = |media, problem| Step::Done(Inspected { media, problem });
    let Some(detected) = sniff::detect(parts.head()).filter(|found| !found.is_weak()) else {
        return done(None, None);
    };
    let media_type = detected.best();
    let Some(parser) = parser_of(media_type) else {
        let is_media = ["audio/", "video/", "image/"].iter().any(|it| media_type.starts_with(it));
        // SVG has no fixed size, no coordinates and no duration.
        let unsupported = is_media && media_type != "image/svg+xml";
        return done(None, unsupported.then_some(Unscannable::Unsupported(media_type)));
    };
    let mut media = Media { kind: parser.kind, container: parser.container, ..Media::default() };
    let mut source = Source::new(parts);
    // Some calculations of `lofty` overflow, which panics in debug builds. The facts that were read
    // before a panic are valid.
    let result = catch_unwind(AssertUnwindSafe(|| (parser.read)(&mut source, &mut media)))
        .unwrap_or(Err(Unscannable::Panicked));
    let problem = match source.missing().map(|at| parts.next(at)) {
        Some(Some(range)) => return Step::Read(range),
        Some(None) => Some(Unscannable::TooLarge),
        None => result.err(),
    };
    done(Some(media), problem)
}
