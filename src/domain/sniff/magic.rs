//! Detection by magic number alone.

use file_format::FileFormat;

use super::names;

/// The generic media type, which says nothing about a file.
pub(super) const GENERIC: &str = "application/octet-stream";

/// The type by magic number alone.
pub(super) fn by_magic(head: &[u8]) -> Option<&'static str> {
    let found = FileFormat::from_bytes(head);
    // The lookup returns a value with a static lifetime.
    let name = FileFormat::from_media_type(found.media_type()).first()?.media_type();
    (name != GENERIC).then(|| names::canonical(name))
}

/// Whether a type has a magic number.
pub(super) fn knows(media_type: &str) -> bool {
    !FileFormat::from_media_type(media_type).is_empty()
}
