//! Tags with so many frames that parsing them would take too long.

use std::time::Instant;

use super::*;

/// An `ID3v2.3` tag with a title, and then this many other frames.
fn tag(frames: usize, flags: u8) -> Vec<u8> {
    let title = b"TIT2\0\0\0\x05\0\0\0Deep".to_vec();
    let many = [title, b"TXXX\0\0\0\x01\0\0\0".repeat(frames)].concat();
    let size = [21, 14, 7, 0].map(|shift| u8::try_from(many.len() >> shift & 0x7f).unwrap());
    [&b"ID3\x03\0"[..], &[flags], &size, &many].concat()
}

/// A chunk of RIFF, or of IFF if `big`.
fn chunk(name: [u8; 4], content: &[u8], big: bool) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    let len = if big { len.to_be_bytes() } else { len.to_le_bytes() };
    let padding: &[u8] = if content.len().is_multiple_of(2) { &[] } else { &[0] };
    [&name[..], &len, content, padding].concat()
}

/// A fixture with more chunks at its end.
fn with_chunks(name: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    [file(name).to_vec(), chunks.concat()].concat()
}

fn check(bytes: &[u8], what: &str) {
    let started = Instant::now();
    let found = inspected(bytes);
    assert_eq!(found.problem, Some(Unscannable::TooLarge), "{what}");
    assert!(started.elapsed().as_secs() < 2, "{what}: {:?}", started.elapsed());
}

#[test]
fn a_tag_of_very_many_frames_is_not_parsed() {
    for flags in [0, 0x80] {
        let tag = tag(40_000, flags);
        check(&[&tag[..], &frames(10)].concat(), "MP3");
        check(&[&tag[..], file("sound.flac")].concat(), "FLAC");
        check(&with_chunks("sound.wav", &[chunk(*b"id3 ", &tag, false)]), "WAV");
        check(&with_chunks("sound.aiff", &[chunk(*b"ID3 ", &tag, true)]), "AIFF");
    }
    let some = chunk(*b"ID3 ", &tag(900, 0), false);
    check(&with_chunks("sound.wav", &[some.clone(), some]), "two tags");
    let some = chunk(*b"ID3 ", &tag(4000, 0x80), false);
    check(&with_chunks("sound.wav", &[some.clone(), some]), "two unsynchronised tags");
}

/// A damaged list ends early, and the bytes after its end are parsed as chunks of the file.
#[test]
fn a_tag_of_very_many_frames_cannot_be_hidden_in_a_list() {
    let tag = chunk(*b"ID3 ", &tag(40_000, 0), false);
    for item in [&b"INAM\xff\xff\xff\xff"[..], b"\x01\x01\x01\x01"] {
        let list = chunk(*b"LIST", &[&b"INFO"[..], item, &tag].concat(), false);
        check(&with_chunks("sound.wav", &[list, vec![0; tag.len()]]), "hidden");
    }
}

#[test]
fn a_usual_tag_of_a_wav_or_aiff_file_is_read() {
    let tag = tag(20, 0);
    for bytes in [
        with_chunks("sound.wav", &[chunk(*b"ID3 ", &tag, false)]),
        with_chunks("sound.aiff", &[chunk(*b"ID3 ", &tag, true)]),
    ] {
        let media = media_of(&bytes);
        assert!(media.tags.title.is_some());
        assert_eq!(media.duration_seconds, Some(0.5));
    }
}
