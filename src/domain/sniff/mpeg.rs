//! MPEG audio: frames (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3), and tags before them.

use super::detected::Detected;
use super::magic::by_magic;

/// Formats that start with an `ID3v2` or `APEv2` tag in practice, the most common one first.
const TAGGED: &[&str] =
    &["audio/mpeg", "audio/flac", "audio/aac", "audio/x-ape", "audio/wavpack", "audio/x-musepack"];

const MPEG: &str = "audio/mpeg";

/// Detects tags and a frame at the start. A tag says nothing about the bytes after it, so these
/// bytes are examined if they were read.
pub(super) fn detect(head: &[u8]) -> Option<Detected> {
    let Some(tag_len) = tag_len(head) else {
        // At the very start one header is enough, except for Layer I, which is too similar to a
        // byte order mark.
        let frame = Frame::parse(head).filter(|frame| frame.layer != Layer::One);
        return frame.map(|_| Detected::new([MPEG]));
    };
    let mut remaining = head.get(tag_len..).unwrap_or_default();
    while let Some(len) = self::tag_len(remaining) {
        remaining = remaining.get(len..).unwrap_or_default();
    }
    // No bytes after the tags were read, or only padding.
    if remaining.iter().all(|b| *b == 0) {
        return Some(Detected::new(TAGGED));
    }
    if Frame::parse(remaining).is_some() {
        return Some(Detected::new([MPEG]));
    }
    let audio = by_magic(remaining).filter(|name| name.starts_with("audio/") && *name != MPEG);
    audio.map(|name| Detected::new([name])).or_else(|| search(remaining))
}

/// Finds a frame after unknown bytes. It is accepted if the next header, and the one after that if
/// it was read, are at the positions that the lengths of the frames predict.
pub(super) fn search(head: &[u8]) -> Option<Detected> {
    let confirmed = |start: usize| {
        let first = Frame::parse(&head[start..])?;
        let second_at = start + first.len;
        let second = Frame::parse(head.get(second_at..)?).filter(|frame| first.continues(frame))?;
        match head.get(second_at + second.len..) {
            Some(remaining) if remaining.len() >= HEADER_LEN => {
                Frame::parse(remaining).filter(|frame| first.continues(frame)).map(drop)
            }
            _ => Some(()),
        }
    };
    let starts = head.iter().enumerate().filter(|(_, byte)| **byte == 0xff);
    starts.map(|(start, _)| start).find_map(confirmed).map(|()| Detected::new([MPEG]))
}

/// The length of the `ID3v2` or `APEv2` tag at the start, in bytes.
fn tag_len(head: &[u8]) -> Option<usize> {
    match head {
        // ID3v2.4 structure, 3.1: version 2 to 4, flags in the high half, a syncsafe size.
        [b'I', b'D', b'3', 2..=4, revision, flags, size @ ..]
            if *revision != 0xff && flags.trailing_zeros() >= 4 && size.len() >= 4 =>
        {
            let size = &size[..4];
            if size.iter().any(|b| *b >= 0x80) {
                return None;
            }
            let len = size.iter().fold(0, |len, b| len << 7 | usize::from(*b));
            let footer = if flags & 0x10 == 0 { 0 } else { 10 };
            Some(10 + len + footer)
        }
        // APEv2 header: its size counts items and footer, but not the header's 32 bytes.
        _ if head.starts_with(b"APETAGEX") => {
            let size = head.get(12..16)?.first_chunk()?;
            Some(32 + usize::try_from(u32::from_le_bytes(*size)).ok()?)
        }
        _ => None,
    }
}

const HEADER_LEN: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    One,
    Two,
    Three,
}

/// The header of a frame.
struct Frame {
    layer: Layer,
    /// The version's two bits: 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5.
    version: u8,
    /// Hertz.
    sample_rate: u32,
    /// The length in bytes, including the header.
    len: usize,
}

impl Frame {
    /// Parses a header. Returns `None` for reserved values, and for the free bit rate, whose frames
    /// have no known length.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [0xff, second, third, _, ..] = *bytes else { return None };
        let version = (second >> 3) & 0b11;
        let layer = match (second >> 1) & 0b11 {
            0b11 => Layer::One,
            0b10 => Layer::Two,
            0b01 => Layer::Three,
            _ => return None,
        };
        let (bit_rate, sample_rate) = (usize::from(third >> 4), usize::from((third >> 2) & 0b11));
        if second >> 5 != 0b111 || version == 0b01 || !(1..=14).contains(&bit_rate) {
            return None;
        }
        let first_version = version == 0b11;
        let kilobits: [u32; 14] = match (first_version, layer) {
            (true, Layer::One) => {
                [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448]
            }
            (true, Layer::Two) => [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
            (true, Layer::Three) => [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
            (false, Layer::One) => [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
            (false, _) => [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
        };
        let divisor = match version {
            0b11 => 1,
            0b10 => 2,
            _ => 4,
        };
        let sample_rate = [44_100, 48_000, 32_000].get(sample_rate)? / divisor;
        let bits = kilobits[bit_rate - 1] * 1000;
        let padding = u32::from((third >> 1) & 1);
        let len = match (layer, first_version) {
            (Layer::One, _) => (12 * bits / sample_rate + padding) * 4,
            (Layer::Three, false) => 72 * bits / sample_rate + padding,
            _ => 144 * bits / sample_rate + padding,
        };
        Some(Self { layer, version, sample_rate, len: usize::try_from(len).ok()? })
    }

    /// Whether `next` can follow in the same stream.
    fn continues(&self, next: &Self) -> bool {
        (self.layer, self.version, self.sample_rate) == (next.layer, next.version, next.sample_rate)
    }
}
