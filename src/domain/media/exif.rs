//! Reads the orientation from Exif, and finds coordinates in Exif and XMP.

use exif::{In, Reader, Tag};

use super::facts::Media;

/// The maximum number of bytes of Exif that are parsed. A JPEG file has at most 64 KiB of it.
pub(super) const MAX_LEN: u64 = 256 * 1024;

/// Reads Exif that begins with its TIFF header. Damaged Exif is read as far as possible, as viewers
/// do.
pub(super) fn read(tiff: Vec<u8>, media: &mut Media) {
    let parsed = Reader::new().continue_on_error(true).read_raw(tiff);
    let Ok(found) = parsed.or_else(|error| error.distill_partial_result(|_| ())) else { return };
    let orientation = found.get_field(Tag::Orientation, In::PRIMARY);
    if let Some(orientation) = orientation.and_then(|field| field.value.get_uint(0)) {
        media.set_orientation(orientation);
    }
    let coordinates =
        [Tag::GPSLatitude, Tag::GPSLongitude, Tag::GPSDestLatitude, Tag::GPSDestLongitude];
    if coordinates.into_iter().any(|tag| found.get_field(tag, In::PRIMARY).is_some()) {
        media.has_gps = Some(true);
    }
}

/// Searches for coordinates in bytes that contain XMP, which is text (XMP specification part 2,
/// 3.3).
pub(super) fn read_xmp(bytes: &[u8], media: &mut Media) {
    const LOCATION: &[u8] = b"GPSLatitude";
    if bytes.windows(LOCATION.len()).any(|part| part == LOCATION) {
        media.has_gps = Some(true);
    }
}
