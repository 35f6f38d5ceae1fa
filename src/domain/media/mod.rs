//! Reads the headers of audio, image and video files: duration, dimensions, codec, tags, and
//! whether there are coordinates. It decodes no samples and no pixels.
//!
//! The module does no I/O. [`inspect`] takes the parts of the file that were read so far
//! ([`Parts`]), and returns the result or the range that it needs next. The caller reads that range
//! and calls again, so no thread waits for the store. Each call parses from the beginning, which
//! takes microseconds.
//!
//! Limits for hostile files: at most [`MAX_READS`] ranges are read, which also bounds memory. The
//! size of skipped pictures (`id3::MAX_TOTAL`) and the number of frames of `ID3v2` tags are
//! limited. Values of tags are truncated ([`MAX_TEXT`]). A parser must read bytes in each pass of a
//! loop, so that the size of the parts bounds its work. A panic of a parser makes the file
//! unscannable.
//!
//! The parsers, and why they were chosen:
//!
//! - Audio except MP4 and Matroska: `lofty`. It reads headers through `Read + Seek`, seeks over the
//!   samples, bounds its allocations, and is fuzzed. `symphonia` supports about the same formats,
//!   but it is made for decoding: it reads packets to find the duration of a file without an index.
//!   Its licence is MPL-2.0, which `deny.toml` does not list.
//! - The TIFF structure of Exif: `kamadak-exif`. It searches PNG and `WebP` for Exif by reading the
//!   whole file, so `image.rs` and `heif.rs` find the position.
//! - Containers of images and videos: our own code, which reads a few fields at fixed offsets.
//!   `mp4parse` reads a file from start to end, `mp4` and `mp4-atom` build the tables of all
//!   samples, and `matroska-demuxer` allocates memory for sizes that a file declares before it
//!   reads them.
//!
//! To add a format, add a row to `parser_of` in `inspect.rs`, a function `read(&mut Source, &mut
//! Media)` to the file of its kind, and a fixture with a row to `tests.rs`. The tests also check
//! damaged copies of every fixture.

mod audio;
mod ebml;
mod exif;
mod facts;
mod heif;
mod id3;
mod iff;
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
