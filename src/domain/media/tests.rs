use bytes::Bytes;
use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::facts::clean_text;
use super::*;

#[path = "tests/pictures.rs"]
mod pictures;
#[path = "tests/tags.rs"]
mod tags;

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../tests/files/media/", $name)).as_slice())
    };
}

/// One file of each format, written by ffmpeg 5.1.
const FIXTURES: &[(&str, &[u8])] = &[
    fixture!("cbr.mp3"),
    fixture!("vbr.mp3"),
    fixture!("sound.flac"),
    fixture!("sound.wav"),
    fixture!("sound.aiff"),
    fixture!("sound.aac"),
    fixture!("sound.m4a"),
    fixture!("vorbis.ogg"),
    fixture!("opus.ogg"),
    fixture!("sound.webm"),
    fixture!("film.webm"),
    fixture!("film.mp4"),
    fixture!("film.mov"),
    fixture!("picture.png"),
    fixture!("picture.jpg"),
    fixture!("picture.gif"),
    fixture!("lossy.webp"),
    fixture!("lossless.webp"),
    fixture!("picture.avif"),
];

fn size_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

fn head_len() -> usize {
    size_of(HEAD_LEN)
}

fn file(name: &str) -> &'static [u8] {
    FIXTURES.iter().find(|(other, _)| *other == name).unwrap().1
}

/// Inspects a file, and returns the parts that were read.
fn inspected_with_head(bytes: &[u8], head: usize) -> (Inspected, Parts) {
    let size = bytes.len() as u64;
    let mut parts = Parts::new(size, Bytes::copy_from_slice(&bytes[..bytes.len().min(head)]));
    let mut read = 0;
    loop {
        match inspect(&parts) {
            Step::Done(inspected) => {
                assert!(parts.reads() <= MAX_READS, "{} reads", parts.reads());
                assert!(read <= MAX_READ_BYTES, "{read} bytes");
                return (inspected, parts);
            }
            Step::Read(range) => {
                assert!(!range.is_empty() && range.end <= size, "{range:?} of {size}");
                read += range.end - range.start;
                let (start, end) = (size_of(range.start), size_of(range.end));
                parts.add(range.start, Bytes::copy_from_slice(&bytes[start..end]));
            }
        }
    }
}

fn inspected(bytes: &[u8]) -> Inspected {
    inspected_with_head(bytes, head_len()).0
}

fn media_of(bytes: &[u8]) -> Media {
    let Inspected { media, problem } = inspected(bytes);
    assert_eq!(problem, None);
    media.unwrap()
}

fn facts(name: &str) -> Value {
    serde_json::to_value(media_of(file(name))).unwrap()
}

#[test]
fn audio_files_have_duration_codec_and_tags() {
    let tags = json!({"title": "Tide", "artist": "Anna", "album": "Sea", "track": 3, "year": 2021});
    let expected = |container: &str, codec: &str, seconds: f64, rate: u32, channels: u16| {
        json!({
            "kind": "audio", "container": container, "codec": codec, "duration_seconds": seconds,
            "sample_rate": rate, "channels": channels, "tags": tags,
        })
    };
    for (name, expected, kilobits) in [
        ("cbr.mp3", expected("mp3", "mp3", 1.541, 44_100, 2), 60..=70),
        ("vbr.mp3", expected("mp3", "mp3", 1.541, 44_100, 1), 20..=40),
        ("sound.flac", expected("flac", "flac", 0.5, 8000, 1), 30..=170),
        ("sound.wav", expected("wav", "pcm", 0.5, 8000, 1), 128..=128),
        ("sound.m4a", expected("mp4", "aac", 1.5, 44_100, 1), 30..=45),
        ("vorbis.ogg", expected("ogg", "vorbis", 1.5, 44_100, 1), 5..=80),
        ("opus.ogg", expected("ogg", "opus", 1.5, 48_000, 1), 8..=24),
    ] {
        let mut found = facts(name);
        found.as_object_mut().unwrap().remove("has_gps");
        let bitrate = found.as_object_mut().unwrap().remove("bitrate").unwrap();
        assert!(kilobits.contains(&(bitrate.as_u64().unwrap() / 1000)), "{name}: {bitrate}");
        assert_eq!(found, expected, "{name}");
    }
    let aiff = media_of(file("sound.aiff"));
    assert_eq!((aiff.duration_seconds, aiff.tags.title.as_deref()), (Some(0.5), Some("Tide")));
    let aac = media_of(file("sound.aac"));
    assert_eq!((aac.sample_rate, aac.codec.as_deref()), (Some(44_100), Some("aac")));
}

#[test]
fn videos_have_duration_dimensions_and_codec() {
    let of = |name| {
        let media = media_of(file(name));
        let codec = media.codec.unwrap();
        (media.kind, media.container, codec, media.width.zip(media.height), media.orientation)
    };
    let size = Some((64, 48));
    assert_eq!(of("film.mp4"), (Kind::Video, "mp4", "h264".into(), size, Some(1)));
    assert_eq!(of("film.mov"), (Kind::Video, "mov", "h264".into(), size, Some(1)));
    assert_eq!(of("film.webm"), (Kind::Video, "webm", "vp9".into(), size, None));
    assert_eq!(of("sound.webm"), (Kind::Audio, "webm", "opus".into(), None, None));
    for (name, seconds) in [("film.mp4", 1.0), ("film.mov", 1.0), ("film.webm", 1.007)] {
        let found = media_of(file(name)).duration_seconds.unwrap();
        assert!((found - seconds).abs() < 0.05, "{name}: {found}");
    }
    let film = media_of(file("film.mp4"));
    assert_eq!((film.sample_rate, film.channels), (Some(44_100), Some(1)));
    assert_eq!(film.has_gps, Some(true));
    assert_eq!(media_of(file("film.mov")).has_gps, Some(false));
    assert_eq!(media_of(file("sound.webm")).tags.title.as_deref(), Some("Tide"));
}

#[test]
fn a_video_from_an_upright_phone_has_an_orientation() {
    let mut film = file("film.mov").to_vec();
    let matrix = film.windows(4).position(|part| part == b"tkhd").unwrap() + 4 + 40;
    let numbers = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30].map(i32::to_be_bytes);
    film[matrix..matrix + 36].copy_from_slice(&numbers.concat());
    let media = media_of(&film);
    assert_eq!((media.width, media.height, media.orientation), (Some(64), Some(48), Some(6)));
}

#[test]
fn images_have_dimensions() {
    for (name, container) in [
        ("picture.png", "png"),
        ("picture.jpg", "jpeg"),
        ("picture.gif", "gif"),
        ("lossy.webp", "webp"),
        ("lossless.webp", "webp"),
        ("picture.avif", "avif"),
    ] {
        let media = media_of(file(name));
        assert_eq!((media.kind, media.container), (Kind::Image, container), "{name}");
        assert_eq!((media.width, media.height), (Some(64), Some(48)), "{name}");
        assert_eq!((media.has_gps, media.orientation), (Some(false), None), "{name}");
    }
    assert_eq!(media_of(file("picture.avif")).codec.as_deref(), Some("av1"));
}

/// An `ID3v2.3` tag with a title and a picture of `len` bytes, followed by the sound of a file.
fn with_cover(len: usize, sound: &[u8]) -> Vec<u8> {
    let frame = |id: &[u8; 4], content: &[u8]| {
        let len = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&id[..], &len, &[0, 0], content].concat()
    };
    let picture = [&b"\0image/jpeg\0\x03\0"[..], &vec![0xfe; len]].concat();
    let frames = [frame(b"TIT2", b"\0Deep"), frame(b"APIC", &picture)].concat();
    let size = u32::try_from(frames.len()).unwrap();
    let size = [21, 14, 7, 0].map(|shift| u8::try_from(size >> shift & 0x7f).unwrap());
    [&b"ID3\x03\0\0"[..], &size, &frames, sound].concat()
}

/// Frames of MPEG 1 Layer III, 128 kbit/s, 44.1 kHz, without a header for variable bitrates.
fn frames(count: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
    frame.resize(417, 0x55);
    frame.repeat(count)
}

#[test]
fn an_mp3_with_a_tag_of_up_to_64_kib_needs_one_more_read() {
    for cover in [1000, 20_000, 60_000, 65_000] {
        let bytes = with_cover(cover, &frames(2000));
        let (found, parts) = inspected_with_head(&bytes, head_len());
        let media = found.media.unwrap();
        assert_eq!((found.problem, parts.reads()), (None, 1), "cover of {cover}");
        assert_eq!(media.tags.title.as_deref(), Some("Deep"));
        // 2000 frames of 1152 samples.
        assert!((media.duration_seconds.unwrap() - 52.2).abs() < 0.1, "{media:?}");
        assert_eq!((media.bitrate, media.channels), (Some(128_000), Some(2)));
    }
    let (_, parts) = inspected_with_head(file("cbr.mp3"), head_len());
    assert_eq!(parts.reads(), 0, "a file within the first part");
}

#[test]
fn covers_are_not_read() {
    let bytes = with_cover(5_000_000, &frames(2000));
    let (found, parts) = inspected_with_head(&bytes, head_len());
    assert_eq!((found.problem, parts.reads()), (None, 2));
    assert_eq!(found.media.unwrap().tags.title.as_deref(), Some("Deep"));
}

#[test]
fn a_vbri_header_gives_the_duration() {
    let mut first = frames(1);
    // 32 bytes of side information, then "VBRI": version, delay, quality, bytes, frames.
    let vbri = [&b"VBRI\0\x01\0\0\0\x64"[..], &834_000_u32.to_be_bytes(), &2000_u32.to_be_bytes()];
    first[36..54].copy_from_slice(&vbri.concat());
    let media = media_of(&[first, frames(20)].concat());
    assert!((media.duration_seconds.unwrap() - 52.245).abs() < 0.01, "{media:?}");
}

#[test]
fn a_moov_box_after_the_content_is_found() {
    let film = file("film.mov");
    let moov = film.windows(4).position(|part| part == b"moov").unwrap() - 4;
    let mdat = film.windows(4).position(|part| part == b"mdat").unwrap() - 4;
    assert!(mdat < moov);
    let grown = 8_000_000_u32;
    let old = u32::from_be_bytes(*film[mdat..].first_chunk().unwrap());
    let mut bytes = film[..moov].to_vec();
    bytes[mdat..mdat + 4].copy_from_slice(&(old + grown).to_be_bytes());
    bytes.resize(moov + size_of(grown.into()), 0);
    bytes.extend(&film[moov..]);
    let (found, parts) = inspected_with_head(&bytes, head_len());
    assert_eq!((found.problem, parts.reads()), (None, 1));
    assert_eq!(found.media.unwrap().width, Some(64));
}

#[test]
fn a_file_that_is_not_media_has_no_facts_and_no_problem() {
    for bytes in [&b""[..], b"%PDF-1.7\n\0", b"plain text", b"PK\x03\x04", b"<svg/>"] {
        let nothing = Inspected { media: None, problem: None };
        assert_eq!(inspected(bytes), nothing, "{}", bytes.escape_ascii());
    }
    let tiff = inspected(b"II*\0\x08\0\0\0\0\0\0\0\0\0");
    assert_eq!(tiff.problem, Some(Unscannable::Unsupported("image/tiff")));
}

#[test]
fn damaged_files_are_unscannable_and_keep_their_known_facts() {
    let png = inspected(&file("picture.png")[..40]);
    assert_eq!(png.problem, Some(Unscannable::Damaged("it ends early".into())));
    assert_eq!(png.media.unwrap().width, Some(64));
    let mov = inspected(&file("film.mov")[..200]);
    assert!(matches!(mov.problem, Some(Unscannable::Damaged(_))), "{mov:?}");
}

#[test]
fn a_file_whose_headers_are_spread_too_far_is_unscannable() {
    // Segments of 60 kB. Each must be read to find the next one.
    let segment = [&[0xff, 0xe2, 0xea, 0x60][..], &vec![0; 59_998]].concat();
    let bytes = [&b"\xff\xd8"[..], &segment.repeat(100)].concat();
    let (found, parts) = inspected_with_head(&bytes, head_len());
    assert_eq!((found.problem, parts.reads()), (Some(Unscannable::TooLarge), MAX_READS));
}

#[test]
fn a_store_that_returns_too_few_bytes_ends_the_inspection() {
    let bytes = with_cover(200_000, &frames(2000));
    let head = Bytes::copy_from_slice(&bytes[..1000]);
    let mut parts = Parts::new(bytes.len() as u64, head);
    let mut steps = 0;
    while let Step::Read(range) = inspect(&parts) {
        parts.add(range.start, Bytes::new());
        steps += 1;
    }
    assert_eq!(steps, MAX_READS);
}

#[test]
fn a_stopped_inspection_ends() {
    let bytes = file("cbr.mp3");
    let parts = Parts::new(bytes.len() as u64, Bytes::from_static(bytes));
    assert!(matches!(inspect(&parts), Step::Done(Inspected { problem: None, .. })));
    parts.stop().stop();
    assert!(matches!(inspect(&parts), Step::Done(Inspected { problem: Some(_), .. })));
}

#[test]
fn recorded_texts_are_truncated_and_have_no_control_characters() {
    assert_eq!(clean_text(" a\0b\x1b[31m\r\n").as_deref(), Some("a b [31m"));
    assert_eq!(clean_text("\0\0 "), None);
    assert_eq!(clean_text(&"ü".repeat(1000)).unwrap().chars().count(), MAX_TEXT);
}

#[test]
fn each_rule_rejects_with_the_value_and_the_limit() {
    let seconds = |seconds: f64| {
        let media = Media { duration_seconds: Some(seconds), ..Media::default() };
        Inspected { media: Some(media), problem: None }
    };
    let picture = |has_gps| {
        let (width, height) = (Some(5000), Some(4000));
        let media = Media { kind: Kind::Image, width, height, has_gps, ..Media::default() };
        Inspected { media: Some(media), problem: None }
    };
    let limits = MediaRules {
        max_duration: Some(TimeDelta::seconds(300)),
        min_duration: Some(TimeDelta::milliseconds(500)),
        max_pixels: Some(19_999_999),
        reject_gps: true,
    };
    let lax = MediaRules { max_pixels: Some(20_000_000), ..MediaRules::default() };
    for (rules, inspected, expected) in [
        (&limits, seconds(300.0), Finding::Accept),
        (
            &limits,
            seconds(312.5),
            Finding::Reject("File lasts 312.5 s, longer than max_duration=300s".into()),
        ),
        (
            &limits,
            seconds(0.4),
            Finding::Reject("File lasts 0.4 s, shorter than min_duration=0.5s".into()),
        ),
        (&lax, picture(Some(true)), Finding::Accept),
        (
            &limits,
            picture(Some(false)),
            Finding::Reject(
                "File has 5000 x 4000 = 20000000 pixels, more than max_pixels=19999999".into(),
            ),
        ),
        (
            &MediaRules { reject_gps: true, ..lax.clone() },
            picture(Some(true)),
            Finding::Reject(
                "File contains GPS coordinates, which reject_gps=true forbids; remove them".into(),
            ),
        ),
    ] {
        assert_eq!(rules.check(&inspected), expected);
    }
}

#[test]
fn a_fact_that_a_rule_needs_and_that_is_missing_makes_a_file_unscannable() {
    let rules = MediaRules { max_duration: Some(TimeDelta::seconds(1)), ..MediaRules::default() };
    let unknown =
        |kind| Inspected { media: Some(Media { kind, ..Media::default() }), problem: None };
    let missing = Finding::Unscannable("File does not declare its duration".into());
    assert_eq!(rules.check(&unknown(Kind::Video)), missing);
    assert_eq!(rules.check(&unknown(Kind::Image)), Finding::Accept, "a picture has no duration");
    assert_eq!(MediaRules::default().check(&unknown(Kind::Video)), Finding::Accept);
    let long = Media { duration_seconds: Some(2.0), ..Media::default() };
    let damaged = Inspected { media: Some(long), problem: Some(Unscannable::TooLarge) };
    assert!(matches!(rules.check(&damaged), Finding::Reject(_)), "known facts are checked");
    let unread = Inspected { media: None, problem: Some(Unscannable::TooLarge) };
    let sentence = "File cannot be read: its headers are too large";
    assert_eq!(rules.check(&unread), Finding::Unscannable(sentence.into()));
}

/// Changes some bytes of a file, truncates it, or repeats a part of it.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff)]);
    // Headers are at the start, so half of the changes are at the start.
    let changes = prop::collection::vec((change, any::<bool>()), 0..12);
    let cut = prop::option::of(any::<prop::sample::Index>());
    let repeated = prop::option::of((any::<prop::sample::Index>(), 1..2000_usize));
    (0..FIXTURES.len(), changes, cut, repeated).prop_map(|(number, changes, cut, repeated)| {
        let mut bytes = FIXTURES[number].1.to_vec();
        for ((at, value), early) in changes {
            let len = if early { bytes.len().min(400) } else { bytes.len() };
            bytes[at.index(len)] = value;
        }
        if let Some((at, times)) = repeated {
            let at = at.index(bytes.len());
            let piece = bytes[at..bytes.len().min(at + 64)].repeat(times);
            bytes.splice(at..at, piece);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

fn check_bounds(bytes: &[u8], head: usize) {
    let (found, _) = inspected_with_head(bytes, head);
    let by_lofty = ["mp3", "wav", "flac", "ogg", "aiff", "aac"];
    let container = found.media.as_ref().map(|media| media.container);
    let panicked = found.problem == Some(Unscannable::Panicked);
    assert!(!panicked || container.is_some_and(|it| by_lofty.contains(&it)), "{container:?}");
    if let Some(media) = found.media {
        let Tags { title, artist, album, .. } = &media.tags;
        for text in [title, artist, album, &media.codec].into_iter().flatten() {
            assert!(text.chars().count() <= MAX_TEXT && !text.contains(char::is_control));
        }
        assert!(media.duration_seconds.is_none_or(|it| it.is_finite() && it > 0.0));
        assert!(media.orientation.is_none_or(|it| (1..=8).contains(&it)));
        serde_json::to_string(&media).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(3000)
    ))]

    #[test]
    fn damaged_files_never_panic_and_never_exceed_the_limits(
        bytes in damaged(),
        head in prop_oneof![Just(head_len()), 64..4096_usize],
    ) {
        check_bounds(&bytes, head);
    }

    #[test]
    fn arbitrary_bytes_after_a_magic_number_never_panic(
        number in 0..FIXTURES.len(),
        keep in 4..64_usize,
        remaining in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let file = FIXTURES[number].1;
        let bytes = [&file[..keep.min(file.len())], &remaining].concat();
        check_bounds(&bytes, head_len());
    }
}
