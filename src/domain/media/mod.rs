//! Reads what the headers of audio, image and video files say: duration, dimensions, codec, tags,
//! and whether there are coordinates. No sample and no pixel is decoded.
//!
//! The module does no I/O. [`inspect`] gets the parts of the file that were read so far
//! ([`Parts`]) and returns either the result or the range that it needs next. The caller reads that
//! range and calls again. Parsers start from the beginning each time: they take microseconds, and
//! no thread waits for the store.
//!
//! Limits for hostile files: [`MAX_READS`] ranges, which also bounds memory, and
//! `id3::MAX_TOTAL`. Values of tags are cut ([`MAX_TEXT`]). A parser must not loop without
//! reading: each byte that is read belongs to a part, so its work is bounded by the parts. A panic
//! of a parser makes the file unscannable.
//!
//! What parses what, and why:
//!
//! - Audio except MP4 and Matroska: `lofty`. It reads headers through `Read + Seek` and seeks over
//!   the rest, bounds its allocations, and is fuzzed. `symphonia` supports about the same formats,
//!   but is made for decoding: for the duration of a file without an index it reads packets, and
//!   it has the licence MPL-2.0, which `deny.toml` does not list.
//! - The TIFF structure of Exif: `kamadak-exif`. Its own search for Exif in PNG and `WebP` reads the
//!   whole file, so `image.rs` and `heif.rs` find the place.
//! - Containers of images and videos: own code, which reads a few fields at fixed places. `mp4parse`
//!   reads a file from begin to end, `mp4` and `mp4-atom` build the tables of all samples, and
//!   `matroska-demuxer` allocates the sizes that a file declares before it reads.
//!
//! To add a format: a row in `parser_of` of `inspect.rs`, a function `read(&mut Source, &mut Media)` in
//! the file of its kind, and a fixture with a row in `tests.rs`. Damaged copies of every fixture are
//! tested.

mod audio;
mod ebml;
mod exif;
mod facts;
mod heif;
mod id3;
mod image;
mod inspect;
mod isobmff;
mod mp4;
mod parts;
mod rules;
mod source;

pub use facts::{Inspected, Kind, MAX_TEXT, Media, Step, Tags, Unscannable};
pub use inspect::inspect;
pub use parts::{HEAD_LEN, MAX_READ_BYTES, MAX_READS, Parts, Stop};
pub use rules::{Finding, MediaRules};

#[cfg(test)]
mod tests;
