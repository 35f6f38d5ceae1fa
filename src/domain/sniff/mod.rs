//! Detects the media type of a file from its first bytes.
//!
//! The `file-format` crate knows the magic numbers. This module has its own rules only if a magic
//! number is not enough: MPEG audio after tags or junk ([`mpeg`]), formats based on ZIP ([`zip`])
//! or on XML ([`markup`]), and containers that have one magic number for audio and video
//! ([`container`]).
//!
//! To add a format that `file-format` does not know, add a rule to the file of its kind, and a row
//! to the table test of `tests.rs`. To add another name of a known type, add a row to [`names`].

mod container;
mod detected;
mod magic;
mod markup;
mod mpeg;
mod names;
mod zip;

pub use detected::Detected;
pub use names::canonical;

use magic::{GENERIC, by_magic};

/// How many bytes at the start of an object are read for detection. 16 KiB, because the entries
/// that identify an OOXML file, and the tracks of an MP4 or `WebM` file, are often after the first
/// 4 KiB. A range request takes about the same time for both sizes.
pub const SNIFF_LEN: usize = 16 * 1024;

/// Detects the media types that fit the first bytes. `None` if the format is unknown.
pub fn detect(head: &[u8]) -> Option<Detected> {
    let found = mpeg::detect(head)
        .or_else(|| zip::detect(head))
        .or_else(|| markup::detect(head))
        .or_else(|| container::detect(head))
        .or_else(|| by_magic(head).map(|name| container::refine(name, head)))
        .or_else(|| mpeg::search(head))?;
    let weak = is_text(head) && !markup::is_strict(found.best());
    Some(found.weak_if(weak))
}

/// The best media type for the first bytes. `None` if the format is unknown.
pub fn media_type(head: &[u8]) -> Option<&'static str> {
    detect(head).filter(|found| !found.is_weak()).map(|found| found.best())
}

/// Whether files of this type start with a magic number that [`detect`] knows.
pub fn has_magic(media_type: &str) -> bool {
    let name = canonical(media_type);
    !markup::is_textual(name)
        && (container::knows(name) || zip::knows(name) || names::all_of(name).any(magic::knows))
}

/// Whether the bytes contain no control characters except white space. Binary formats whose magic
/// number consists of letters contain control characters (lengths, reserved zeros) right after it.
fn is_text(head: &[u8]) -> bool {
    let control = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c);
    head.first().is_some_and(u8::is_ascii) && !head.iter().any(control)
}

/// Whether a declared media type is the generic one, which says nothing about the file. HTTP
/// clients send it for unknown files.
pub fn is_generic(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.is_empty() || essence == GENERIC || essence == "binary/octet-stream"
}

/// The essence of a Content-Type value (no parameters, lower case). `None` if the value says
/// nothing about the file: it is missing, the generic type, or the type of a form.
pub fn informative(content_type: Option<&str>) -> Option<String> {
    let essence = essence(content_type?);
    let is_form = matches!(&*essence, "application/x-www-form-urlencoded" | "multipart/form-data");
    (!is_generic(&essence) && !is_form).then_some(essence)
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
