//! The ids of blocks. Azure requires that all ids of a blob have the same length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// The id of a block: the multipart upload and the number of the part.
pub(super) fn id(upload_id: &str, number: u16) -> String {
    STANDARD.encode(format!("{upload_id}-{number:06}"))
}

/// The number of a part, if the block belongs to this multipart upload.
pub(super) fn number(upload_id: &str, block: &str) -> Option<u16> {
    let plain = String::from_utf8(STANDARD.decode(block).ok()?).ok()?;
    plain.strip_prefix(upload_id)?.strip_prefix('-')?.parse().ok()
}

/// A new id of a multipart upload.
pub(super) fn upload_id(uuid: Uuid) -> String {
    uuid.as_simple().to_string()
}

/// Whether a text can be the id of a multipart upload. Ids come from clients, so they are checked.
pub(super) fn is_upload_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_its_upload_and_its_number() {
        let upload = upload_id(Uuid::from_u128(7));
        assert!(is_upload_id(&upload) && !is_upload_id("../x") && !is_upload_id(""));
        let (first, last) = (id(&upload, 1), id(&upload, 10_000));
        assert_eq!(first.len(), last.len());
        assert_eq!((number(&upload, &first), number(&upload, &last)), (Some(1), Some(10_000)));
        let other = upload_id(Uuid::from_u128(8));
        assert_eq!((number(&other, &first), number(&upload, "%")), (None, None));
    }
}
