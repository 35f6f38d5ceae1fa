use proptest::prelude::*;

use super::*;

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/files/", $name)).as_slice()
    };
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(SNIFF_LEN)]
}

fn fits(bytes: &[u8], media_type: &str) -> bool {
    detect(head(bytes)).is_some_and(|found| !found.is_weak() && found.fits(media_type))
}

/// An `ID3v2.4` tag with `len` bytes of content.
fn id3(len: u8) -> Vec<u8> {
    assert!(len < 0x80);
    let mut tag = vec![b'I', b'D', b'3', 4, 0, 0, 0, 0, 0, len];
    tag.resize(10 + usize::from(len), b'x');
    tag
}

fn frames(count: usize) -> Vec<u8> {
    // MPEG 1 Layer III, 128 kbit/s, 44.1 kHz: 417 bytes.
    let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
    frame.resize(417, 0x55);
    frame.repeat(count)
}

#[test]
fn files_of_real_clients_fit_their_type() {
    const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (name, bytes, media_type, others) in [
        ("plain.mp3", sample!("plain.mp3"), "audio/mpeg", &["audio/flac", "text/plain"][..]),
        ("leading-nul.mp3", sample!("leading-nul.mp3"), "audio/mpeg", &["audio/flac"]),
        ("leading-junk.mp3", sample!("leading-junk.mp3"), "audio/mpeg", &["audio/flac"]),
        ("flac_id3.flac", sample!("flac_id3.flac"), "audio/flac", &["audio/mpeg"]),
        ("flac-behind-id3.mp3", sample!("flac-behind-id3.mp3"), "audio/flac", &["audio/mpeg"]),
        ("audio-only.webm", sample!("audio-only.webm"), "audio/webm", &["audio/mpeg", "audio/mp4"]),
        ("aac-isom.m4a", sample!("aac-isom.m4a"), "audio/mp4", &["audio/mpeg", "audio/webm"]),
        ("declared.svg", sample!("declared.svg"), "image/svg+xml", &["text/html", "image/png"]),
        ("x.xml", sample!("x.xml"), "application/xml", &["image/svg+xml", "text/html"]),
        ("python-docx.docx", sample!("python-docx.docx"), DOCX, &["application/epub+zip"]),
        ("rf64-head.wav", sample!("rf64-head.wav"), "audio/wav", &["audio/mpeg"]),
    ] {
        assert!(fits(bytes, media_type), "{name}: {:?}", detect(head(bytes)));
        for other in others {
            assert!(!fits(bytes, other), "{name} fits {other}: {:?}", detect(head(bytes)));
        }
    }
}

#[test]
fn aliases_of_one_format_are_one_type() {
    for (one, other) in [
        ("audio/mpg", "audio/mpeg"),
        ("audio/x-mpg", "audio/mp3"),
        ("audio/x-mpeg-3", "audio/mpeg"),
        ("audio/x-mpegaudio", "audio/mpeg"),
        ("audio/x-wav", "audio/vnd.wave"),
        ("audio/m4a", "audio/x-m4a"),
        ("application/x-zip-compressed", "application/zip"),
        ("application/x-gzip", "application/gzip"),
        ("image/jpg", "image/jpeg"),
        ("text/xml", "application/xml"),
    ] {
        assert_eq!(canonical(one), canonical(other), "{one}");
    }
    assert_ne!(canonical("audio/mpeg"), canonical("audio/mp4"));
}

#[test]
fn mpeg_audio_is_detected_by_its_frames_in_every_layer_and_version() {
    for start in [
        &b"\xff\xfb\x90\x64"[..],
        b"\xff\xfa\x90\x00",
        b"\xff\xe3\x40\xc4",
        // Layer II.
        b"\xff\xfd\x80\x04",
    ] {
        assert_eq!(media_type(start), Some("audio/mpeg"), "{start:02x?}");
    }
    // A UTF-16 byte order mark, a reserved bit rate, a reserved sample rate, Layer I, too short.
    for other in
        [&b"\xff\xfeh\0"[..], b"\xff\xea\xf0\0", b"\xff\xea\x9c\0", b"\xff\xff\x90\0", b"\xff\xea"]
    {
        assert_eq!(media_type(other), None, "{other:02x?}");
    }
}

#[test]
fn the_bytes_behind_a_tag_decide() {
    let behind = |bytes: &[u8]| [&id3(100), bytes].concat();
    let ape = [&b"APETAGEX\xd0\x07\0\0\x08\0\0\0"[..], &[0; 16], b"12345678"].concat();
    for (bytes, media_type) in [
        (behind(&frames(1)), "audio/mpeg"),
        (behind(&[&[0; 64][..], &frames(3)].concat()), "audio/mpeg"),
        (behind(&[&id3(5)[..], &frames(1)].concat()), "audio/mpeg"),
        (behind(b"fLaC\0\0\0\x22"), "audio/flac"),
        (behind(b"\xff\xf1\x50\x80"), "audio/aac"),
        ([ape, frames(1)].concat(), "audio/mpeg"),
        // No bytes after the tag were read, or only padding.
        (id3(100), "audio/mpeg"),
        (behind(&[0; 300]), "audio/mpeg"),
    ] {
        assert!(fits(&bytes, media_type), "{}", bytes.escape_ascii());
    }
    for other in [&b"<!DOCTYPE html><p>"[..], b"just some text", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"] {
        let bytes = behind(other);
        assert!(!fits(&bytes, "audio/mpeg"), "{}", bytes.escape_ascii());
    }
    let long = [b"ID3\x04\0\0\0\x7f\x7f\x7f".to_vec(), vec![1; SNIFF_LEN]].concat();
    assert!(
        fits(&long, "audio/mpeg") && fits(&long, "audio/flac"),
        "the end of the tag was not read"
    );
}

#[test]
fn a_frame_behind_unknown_bytes_must_be_confirmed_by_the_next_one() {
    let junk = |len: usize| vec![0x11; len];
    assert!(fits(&[junk(417), frames(3)].concat(), "audio/mpeg"));
    assert!(fits(&[b"TAG".to_vec(), junk(125), frames(2)].concat(), "audio/mpeg"), "ID3v1");
    assert!(!fits(&[junk(417), frames(1)].concat(), "audio/mpeg"), "no second header");
    let mut broken = [junk(10), frames(3)].concat();
    broken[10 + 417] = 0;
    broken[10 + 2 * 417] = 0;
    assert!(!fits(&broken, "audio/mpeg"), "the second header is missing");
}

#[test]
fn containers_with_a_video_track_do_not_fit_audio_types() {
    let mp4 = |handlers: &[&[u8; 4]]| {
        let hdlr =
            |kind: &&[u8; 4]| [&b"\0\0\0\x20hdlr\0\0\0\0\0\0\0\0"[..], *kind, &[0; 12]].concat();
        let moov = handlers.iter().flat_map(hdlr).collect::<Vec<_>>();
        let size = u32::try_from(moov.len() + 8).unwrap().to_be_bytes();
        [&b"\0\0\0\x18ftypisom\0\0\x02\0isommp41"[..], &size, b"moov", &moov].concat()
    };
    let webm = |codecs: &[&str]| {
        let start = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm";
        let mut file = start.to_vec();
        for codec in codecs {
            file.extend([0x86, 0x80 | u8::try_from(codec.len()).unwrap()]);
            file.extend(codec.as_bytes());
        }
        [file, b"\x1f\x43\xb6\x75\xff".to_vec()].concat()
    };
    for (bytes, audio, video) in [
        (mp4(&[b"soun"]), "audio/mp4", "video/mp4"),
        (webm(&["A_OPUS"]), "audio/webm", "video/webm"),
    ] {
        assert!(fits(&bytes, audio) && fits(&bytes, video), "{:?}", detect(&bytes));
        assert_eq!(media_type(&bytes), Some(audio));
    }
    for (bytes, audio, video) in [
        (mp4(&[b"soun", b"vide"]), "audio/mp4", "video/mp4"),
        (webm(&["V_VP9", "A_OPUS"]), "audio/webm", "video/webm"),
    ] {
        assert!(!fits(&bytes, audio) && fits(&bytes, video), "{:?}", detect(&bytes));
    }
}

/// The local header of a ZIP entry with stored content.
fn zip_entry(name: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap().to_le_bytes();
    let name_len = u16::try_from(name.len()).unwrap().to_le_bytes();
    let fixed = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0";
    [&fixed[..], &size, &size, &name_len, b"\0\0", name.as_bytes(), content].concat()
}

#[test]
fn formats_based_on_zip_are_distinguished_by_their_entries_in_any_order() {
    const ODT: &str = "application/vnd.oasis.opendocument.text";
    const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    let types = ("[Content_Types].xml", b"<Types/>".as_slice());
    let end = b"PK\x01\x02".as_slice();
    for (entries, fitting, other) in [
        (&[types, ("docProps/app.xml", b"x"), ("xl/workbook.xml", b"x")][..], XLSX, ODT),
        (&[("xl/workbook.xml", b"x"), types], XLSX, ODT),
        (&[("mimetype", ODT.as_bytes())], ODT, XLSX),
        (&[("content.xml", b"x"), ("mimetype", ODT.as_bytes())], ODT, XLSX),
        (&[("mimetype", b"application/epub+zip")], "application/epub+zip", ODT),
        (&[("META-INF/MANIFEST.MF", b"x")], "application/java-archive", XLSX),
        (&[("a.txt", b"x")], "application/x-zip-compressed", XLSX),
    ] {
        let mut bytes = entries.iter().flat_map(|(n, c)| zip_entry(n, c)).collect::<Vec<_>>();
        bytes.extend(end);
        assert!(fits(&bytes, fitting), "{fitting}: {:?}", detect(&bytes));
        assert!(fits(&bytes, "application/zip"), "every one is a ZIP archive");
        assert!(!fits(&bytes, other), "{other}: {:?}", detect(&bytes));
    }
    // The entry that identifies the format can be after the bytes that were read.
    let unread = zip_entry("media/cover.jpg", &[b'x'; 100])[..80].to_vec();
    assert!(fits(&unread, XLSX) && fits(&unread, "application/zip"));
}

#[test]
fn xml_formats_are_distinguished_by_their_root_element() {
    const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    let svg = "<!-- a --><!DOCTYPE svg [<!ENTITY a \"b\">]><svg:svg xmlns:svg=\"x\"/>";
    for (text, fitting, others) in [
        (format!("{DECLARATION}{svg}"), "image/svg+xml", &["text/html", "application/rss+xml"][..]),
        (svg.to_owned(), "image/svg+xml", &["text/html"]),
        (format!("\u{feff}{DECLARATION}<a/>"), "text/xml", &["image/svg+xml"]),
        (format!("{DECLARATION}<rss/>"), "application/rss+xml", &["image/svg+xml"]),
        (format!("{DECLARATION}<html/>"), "application/xhtml+xml", &["image/svg+xml"]),
        (" <HTML><svg/>".to_owned(), "text/html", &["image/svg+xml", "application/xml"]),
        ("<script>alert(1)</script>".to_owned(), "text/html", &["image/svg+xml"]),
    ] {
        assert!(fits(text.as_bytes(), fitting), "{text}: {:?}", detect(text.as_bytes()));
        for other in others {
            assert!(!fits(text.as_bytes(), other), "{text} fits {other}");
        }
    }
}

#[test]
fn text_that_starts_like_a_binary_format_stays_text() {
    for text in ["BM,a\n", "MZ,b", "OggS", "GIF89a is a format", "RIFF", "ID3 tags", "fLaC"] {
        assert!(detect(text.as_bytes()).is_none_or(|found| found.is_weak()), "{text}");
    }
    let header = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0";
    let bmp = [&header[..], &[0; 24]].concat();
    assert!(fits(&bmp, "image/bmp"));
    assert!(fits(b"%PDF-1.7\n1 0 obj\n", "application/pdf"));
    assert!(!has_magic("text/csv") && !has_magic("image/svg+xml") && has_magic("audio/mpeg"));
    for known in ["image/png", "audio/wav", "audio/webm", "application/msword", "audio/m4a"] {
        assert!(has_magic(known), "{known}");
    }
}

#[test]
fn generic_and_form_types_do_not_name_the_content() {
    for silent in
        [None, Some(""), Some("application/octet-stream"), Some("Multipart/Form-Data; boundary=x")]
    {
        assert_eq!(informative(silent), None);
    }
    assert_eq!(informative(Some("Audio/MPEG; rate=1")).as_deref(), Some("audio/mpeg"));
}

proptest! {
    #[test]
    fn any_bytes_are_examined_without_a_panic(
        start in prop::sample::select(vec![
            &b""[..], b"PK\x03\x04", b"ID3\x04\0\0", b"APETAGEX", b"<?xml", b"<!", b"\0\0\0\x18ftypisom",
            b"\x1a\x45\xdf\xa3", b"OggS", b"RF64", b"\xff\xfb\x90\x64",
        ]),
        remaining in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let bytes = [start, &remaining].concat();
        let found = detect(&bytes);
        prop_assert_eq!(found.clone(), detect(&bytes));
        if let Some(found) = found {
            prop_assert!(found.fits(found.best()));
        }
    }
}
