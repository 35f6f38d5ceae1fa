//! The type of a file by its first bytes.
//!
//! The `infer` crate knows the magic numbers. It takes an MP3 for one only with an ID3
//! tag or with three of the frame headers that occur; [`is_mpeg_audio_frame`] reads the
//! header as ISO/IEC 11172-3, 2.4.1.3 lays it out, so that bare frames count too.

/// How many first bytes an object's type is judged by.
pub const SNIFF_LEN: usize = 4096;

/// The media type that the first bytes show, if any is known.
pub fn media_type(head: &[u8]) -> Option<&'static str> {
    infer::get(head)
        .map(|kind| canonical(kind.mime_type()))
        .or_else(|| is_mpeg_audio_frame(head).then_some("audio/mpeg"))
}

/// Whether files of this type carry a magic number that [`media_type`] knows.
pub fn has_magic(media_type: &str) -> bool {
    infer::is_mime_supported(canonical(media_type))
}

/// One spelling for types that go by several.
pub fn canonical(media_type: &str) -> &str {
    match media_type {
        "audio/mp3" | "audio/x-mp3" | "audio/mpeg3" | "audio/x-mpeg" => "audio/mpeg",
        "audio/wav" | "audio/wave" | "audio/vnd.wave" => "audio/x-wav",
        "audio/flac" => "audio/x-flac",
        "audio/aiff" => "audio/x-aiff",
        "audio/mp4" | "audio/x-m4a" => "audio/m4a",
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        other => other,
    }
}

/// The essence of a Content-Type value (no parameters, lower case), or `None` where the
/// value says nothing about the file: missing, the generic binary type, or a form's.
pub fn informative(content_type: Option<&str>) -> Option<String> {
    let essence = content_type?.split(';').next()?.trim().to_ascii_lowercase();
    let says_nothing = matches!(
        essence.as_str(),
        "" | "application/octet-stream"
            | "binary/octet-stream"
            | "application/x-www-form-urlencoded"
            | "multipart/form-data"
    );
    (!says_nothing).then_some(essence)
}

/// Sync word, then no reserved version, layer III, no reserved bit rate or sample rate.
fn is_mpeg_audio_frame(head: &[u8]) -> bool {
    let [0xff, second, third, ..] = *head else { return false };
    let (sync, version, layer) = (second >> 5, (second >> 3) & 0b11, (second >> 1) & 0b11);
    let (bit_rate, sample_rate) = (third >> 4, (third >> 2) & 0b11);
    sync == 0b111
        && version != 0b01
        && layer == 0b01
        && (1..=14).contains(&bit_rate)
        && sample_rate != 0b11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mp3_is_seen_with_a_tag_and_with_any_layer_three_frame() {
        for head in
            [&b"ID3\x04\x00\x00"[..], b"\xff\xfb\x90\x64", b"\xff\xfa\x90\x00", b"\xff\xe3\x40\xc4"]
        {
            assert_eq!(media_type(head), Some("audio/mpeg"), "{head:02x?}");
        }
    }

    #[test]
    fn other_bytes_are_not_taken_for_mp3() {
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Some("image/png"));
        // UTF-16 byte order mark, a reserved bit rate, a reserved sample rate, layer I, too short.
        for head in [
            &b"\xff\xfeh\0"[..],
            b"\xff\xea\xf0\0",
            b"\xff\xea\x9c\0",
            b"\xff\xff\x90\0",
            b"\xff\xea",
        ] {
            assert_eq!(media_type(head), None, "{head:02x?}");
        }
    }

    #[test]
    fn generic_and_form_types_say_nothing() {
        for silent in [
            None,
            Some(""),
            Some("application/octet-stream"),
            Some("Multipart/Form-Data; boundary=x"),
        ] {
            assert_eq!(informative(silent), None);
        }
        assert_eq!(informative(Some("Audio/MPEG; rate=1")).as_deref(), Some("audio/mpeg"));
    }
}
