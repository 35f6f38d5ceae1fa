//! Containers with one magic number for several formats. They are distinguished by their tracks, if
//! the description of the tracks was read.

use super::detected::Detected;

/// The kinds of tracks that a file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tracks {
    /// At least one video track.
    Video,
    /// Audio tracks and no others.
    Audio,
    /// Unknown: the description was not read, or only a part of it.
    Unknown,
}

/// Media types of OLE compound files, such as legacy office documents.
const OLE: &[&str] = &[
    "application/x-ole-storage",
    "application/x-cfb",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-outlook",
    "application/vnd.ms-project",
    "application/vnd.ms-publisher",
    "application/vnd.visio",
    "application/vnd.ms-works",
    "application/x-msi",
];

/// Names that [`refine`] returns and that have no entry in `file-format`.
const OWN: &[&str] = &[
    "audio/webm",
    "video/webm",
    "audio/matroska",
    "video/matroska",
    "audio/3gpp",
    "audio/3gpp2",
    "application/ogg",
    "video/ogg",
    "audio/mp4",
    "video/mp4",
];

/// Whether [`refine`] returns this type.
pub(super) fn knows(media_type: &str) -> bool {
    OWN.contains(&media_type) || OLE.contains(&media_type)
}

/// The types that fit bytes with the magic number of `name`.
pub(super) fn refine(name: &'static str, head: &[u8]) -> Detected {
    let names: &[&str] = match name {
        "application/mp4" | "video/mp4" => match mp4_tracks(head) {
            Tracks::Video => &["video/mp4", "application/mp4"],
            Tracks::Audio => &["audio/mp4", "video/mp4", "application/mp4"],
            Tracks::Unknown => &["video/mp4", "audio/mp4", "application/mp4"],
        },
        "audio/mp4" => &["audio/mp4", "video/mp4", "application/mp4"],
        "video/x-m4v" => &["video/x-m4v", "video/mp4"],
        "video/3gpp" => match mp4_tracks(head) {
            Tracks::Video => &["video/3gpp"],
            _ => &["video/3gpp", "audio/3gpp"],
        },
        "video/3gpp2" => match mp4_tracks(head) {
            Tracks::Video => &["video/3gpp2"],
            _ => &["video/3gpp2", "audio/3gpp2"],
        },
        "application/x-ebml" | "video/webm" | "video/matroska" => {
            match (is_webm(head), ebml_tracks(head)) {
                (true, Tracks::Video) => &["video/webm"],
                (true, Tracks::Audio) => &["audio/webm", "video/webm"],
                (true, Tracks::Unknown) => &["video/webm", "audio/webm"],
                (false, Tracks::Video) => &["video/matroska"],
                (false, Tracks::Audio) => &["audio/matroska", "video/matroska"],
                (false, Tracks::Unknown) => &["video/matroska", "audio/matroska"],
            }
        }
        "audio/opus" => &["audio/ogg", "audio/opus", "application/ogg"],
        "video/ogg" => &["video/ogg", "application/ogg"],
        "application/ogg" | "audio/ogg" => match ogg_tracks(head) {
            Tracks::Video => &["video/ogg", "application/ogg"],
            _ => &["audio/ogg", "application/ogg", "audio/vorbis", "audio/speex"],
        },
        "video/x-ms-asf" | "audio/x-ms-wma" | "video/x-ms-wmv" => {
            &["video/x-ms-asf", "audio/x-ms-wma", "video/x-ms-wmv"]
        }
        "application/x-cfb" => OLE,
        "image/heic" | "image/heif" => &["image/heic", "image/heif"],
        "image/apng" => &["image/png", "image/apng"],
        _ => return Detected::new([name]),
    };
    Detected::new(names)
}

/// Formats that the crate `file-format` does not know.
pub(super) fn detect(head: &[u8]) -> Option<Detected> {
    match (head.get(..4)?, head.get(8..12)?) {
        // EBU Tech 3306 and ITU-R BS.2088: WAV files over 4 GiB.
        (b"RF64" | b"BW64", b"WAVE") => Some(Detected::new(["audio/wav"])),
        (b"FORM", b"AIFC") => Some(Detected::new(["audio/aiff"])),
        _ => None,
    }
}

/// Reads the handlers in the `moov` box (ISO/IEC 14496-12, 8.4.3), if the box was read.
fn mp4_tracks(head: &[u8]) -> Tracks {
    let mut remaining = head;
    while let Some((size, kind)) = box_header(remaining) {
        if kind == b"moov" {
            let moov = &remaining[..remaining.len().min(size)];
            let handler = |expected: &[u8]| {
                // `hdlr`, version and flags, four reserved bytes, then the kind of track.
                moov.windows(16).any(|part| part.starts_with(b"hdlr") && &part[12..] == expected)
            };
            let whole = remaining.len() >= size;
            return match (handler(b"vide"), handler(b"soun")) {
                (true, _) => Tracks::Video,
                (false, true) if whole => Tracks::Audio,
                _ => Tracks::Unknown,
            };
        }
        remaining = remaining.get(size..).unwrap_or_default();
    }
    Tracks::Unknown
}

fn box_header(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let size = u32::from_be_bytes(*bytes.first_chunk()?);
    let size = usize::try_from(size).ok().filter(|size| *size >= 8)?;
    Some((size, bytes.get(4..8)?))
}

/// How many bytes at the start of a Matroska file contain its `DocType`.
const EBML_HEADER_LEN: usize = 64;

fn is_webm(head: &[u8]) -> bool {
    let header = &head[..head.len().min(EBML_HEADER_LEN)];
    header.windows(4).any(|part| part == b"webm")
}

/// Reads the `CodecID` elements (RFC 9559, 5.1.4.1.21): `V_` is video, `A_` is audio. The track
/// list precedes the first cluster.
fn ebml_tracks(head: &[u8]) -> Tracks {
    const CODEC_ID: u8 = 0x86;
    const CLUSTER: &[u8] = b"\x1f\x43\xb6\x75";
    let end = head.windows(4).position(|part| part == CLUSTER);
    let tracks = &head[..end.unwrap_or(head.len())];
    let codec = |kind: u8| {
        tracks.windows(4).any(|part| part[0] == CODEC_ID && part[2] == kind && part[3] == b'_')
    };
    match (codec(b'V'), codec(b'A')) {
        (true, _) => Tracks::Video,
        (false, true) if end.is_some() => Tracks::Audio,
        _ => Tracks::Unknown,
    }
}

/// The first pages of an Ogg file name the codecs (RFC 3533, 4).
fn ogg_tracks(head: &[u8]) -> Tracks {
    let video = [&b"\x80theora"[..], b"BBCD\0", b"OVP80"];
    let has = |codec: &&[u8]| head.windows(codec.len()).any(|part| part == *codec);
    if video.iter().any(has) { Tracks::Video } else { Tracks::Unknown }
}
