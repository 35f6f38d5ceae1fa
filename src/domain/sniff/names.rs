//! Media types that have several names.

/// Each row: the canonical name, then its aliases.
const ALIASES: &[&[&str]] = &[
    &[
        "audio/mpeg",
        "audio/mp3",
        "audio/x-mp3",
        "audio/mpeg3",
        "audio/x-mpeg",
        "audio/x-mpeg-3",
        "audio/x-mpegaudio",
        "audio/mpg",
        "audio/x-mpg",
        "audio/mp2",
        "audio/x-mp2",
        "audio/mpa",
    ],
    &["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/x-pn-wav"],
    &["audio/flac", "audio/x-flac"],
    &["audio/aiff", "audio/x-aiff", "audio/aifc", "audio/x-aifc"],
    &["audio/mp4", "audio/m4a", "audio/x-m4a", "audio/x-m4b", "audio/x-m4p", "audio/mp4a-latm"],
    &["audio/aac", "audio/aacp", "audio/x-aac", "audio/x-hx-aac-adts"],
    &["audio/ac3", "audio/x-ac3"],
    &["audio/midi", "audio/x-midi", "audio/mid", "application/x-midi"],
    &["audio/ogg", "audio/x-ogg"],
    &["application/ogg", "application/x-ogg"],
    &["audio/basic", "audio/au", "audio/x-au"],
    &["audio/amr", "audio/amr-nb", "audio/x-amr"],
    &["audio/matroska", "audio/x-matroska"],
    &["audio/wavpack", "audio/x-wavpack"],
    &["audio/x-ape", "audio/ape", "audio/x-monkeys-audio"],
    &["audio/x-musepack", "audio/musepack"],
    &["video/mp4", "video/x-mp4"],
    &["video/x-m4v", "video/m4v"],
    &["video/matroska", "video/x-matroska"],
    &["video/x-msvideo", "video/avi", "video/msvideo", "video/vnd.avi"],
    &["video/x-ms-asf", "application/vnd.ms-asf"],
    &["video/mp2t", "video/vnd.dlna.mpeg-tts"],
    &["image/jpeg", "image/jpg", "image/pjpeg"],
    &["image/png", "image/x-png"],
    &["image/bmp", "image/x-bmp", "image/x-ms-bmp"],
    &["image/tiff", "image/x-tiff"],
    &["image/x-icon", "image/vnd.microsoft.icon"],
    &["image/vnd.adobe.photoshop", "image/x-photoshop", "application/x-photoshop"],
    &["application/pdf", "application/x-pdf"],
    &["application/rtf", "text/rtf"],
    &["application/xml", "text/xml"],
    &["text/javascript", "application/javascript", "application/x-javascript"],
    &["application/zip", "application/x-zip", "application/x-zip-compressed"],
    &["application/gzip", "application/x-gzip", "application/x-gunzip"],
    &["application/x-bzip2", "application/bzip2"],
    &["application/vnd.rar", "application/x-rar", "application/x-rar-compressed"],
    &["application/x-7z-compressed", "application/7z"],
    &["application/x-tar", "application/tar", "application/x-gtar"],
    &["application/zstd", "application/x-zstd"],
    &["application/java-archive", "application/x-java-archive", "application/x-jar"],
    &["application/java-vm", "application/java", "application/x-java"],
    &["application/x-archive", "application/x-unix-archive"],
    &["font/woff", "application/font-woff", "application/x-font-woff"],
    &["font/ttf", "application/x-font-ttf", "application/font-sfnt"],
    &["font/otf", "application/x-font-otf"],
];

/// The canonical name of a type that has several names.
pub fn canonical(media_type: &str) -> &str {
    row(media_type).map_or(media_type, |row| row[0])
}

/// Every name of a type, including the given one.
pub(super) fn all_of(media_type: &str) -> impl Iterator<Item = &str> {
    row(media_type).into_iter().flatten().copied().chain([media_type])
}

fn row(media_type: &str) -> Option<&'static [&'static str]> {
    ALIASES.iter().find(|row| row.contains(&media_type)).copied()
}
