//! Uploads that the service receives in pieces of any size, as tus and `FilePond` send them. This
//! module divides the bytes into parts and checks the checksum of a piece.
//!
//! A store accepts parts of at least [`MIN_PART_SIZE`](super::limits::MIN_PART_SIZE), except for
//! the last one. Bytes that are left over are stored as a *tail*, which is an object, until enough
//! bytes for a part follow.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::digest;

use super::checksum::Checksum;
use super::limits::MAX_PARTS;

/// A stored range of bytes of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The offset of the first byte.
    pub start: u64,
    /// The number of bytes.
    pub size: u64,
    /// Where they are.
    pub stored_as: StoredAs,
    /// The ETag of the part or of the object, without quotes.
    pub etag: String,
    /// The checksum of a part, if it was sent with one.
    pub checksum: Option<Checksum>,
}

/// Where the bytes of a piece are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAs {
    /// A part of the store's multipart upload, with its number.
    Part(u16),
    /// An object, named after the writer that stored it.
    Tail(i64),
}

impl Piece {
    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.size
    }
}

/// An upload that is received in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TusUpload {
    /// The number of durable bytes, counted from the start of the file.
    pub stored: u64,
    /// The length of the file, if the client has declared it.
    pub length: Option<u64>,
    /// The client's metadata, exactly as the client sent it.
    pub metadata: Option<String>,
    /// The next part number.
    pub next_part: u16,
    /// Whether each part has a CRC-64/NVME, so that neither the service nor the store computes
    /// another hash of its bytes.
    pub checked_parts: bool,
}

/// The minimum size of the next parts in bytes. It is `usual`, or more if the part numbers that are
/// left would not be enough for `remaining` bytes. A fifth of the numbers is reserved for
/// interrupted parts. The minimum is at most half of `largest`, the store's largest part, because a
/// part can have twice the minimum size.
pub fn least_part(usual: u64, largest: u64, remaining: u64, next_part: u16) -> u64 {
    let numbers = u64::from((MAX_PARTS + 1).saturating_sub(next_part)).max(1);
    let least = remaining.saturating_add(remaining / 4).div_ceil(numbers);
    usual.max(least).min(largest / 2)
}

/// The size of the next part, at most twice the minimum size. `None` if the bytes are to be saved
/// as a tail.
///
/// `coming` is the number of bytes from the last part to the end of the request, if it is known.
/// `ends` is whether the file ends there. If the bytes are enough for one part, they are divided
/// so that no bytes are left over. So a client that sends large chunks causes no tails.
pub fn next_part(coming: Option<u64>, ends: bool, least: u64) -> Option<u64> {
    let most = 2 * least;
    let Some(coming) = coming else { return Some(most) };
    if ends {
        return (coming > 0).then_some(coming.min(most));
    }
    match coming {
        coming if coming < least => None,
        coming if coming <= most => Some(coming),
        coming => Some(most.min(coming - least)),
    }
}

/// The algorithms for the checksum of a piece, with the names that tus uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceAlgorithm {
    /// SHA-1, which every tus server supports.
    Sha1,
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
}

impl PieceAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Md5];

    /// The name in the tus protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
        }
    }
}

/// The expected checksum of a piece, and the hash of the bytes received so far.
#[derive(Clone)]
pub struct PieceChecksum {
    sent: Vec<u8>,
    hash: Hash,
}

#[derive(Clone)]
enum Hash {
    Sha(Box<digest::Context>),
    Md5(Box<Md5>),
}

impl PieceChecksum {
    /// Parses `algorithm base64`. `None` if the text has another format.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(' ')?;
        let algorithm = PieceAlgorithm::ALL.into_iter().find(|known| known.name() == name)?;
        let sent = STANDARD.decode(value.trim()).ok()?;
        let sha = |algorithm| Hash::Sha(Box::new(digest::Context::new(algorithm)));
        let hash = match algorithm {
            PieceAlgorithm::Sha1 => sha(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            PieceAlgorithm::Sha256 => sha(&digest::SHA256),
            PieceAlgorithm::Md5 => Hash::Md5(Box::default()),
        };
        Some(Self { sent, hash })
    }

    /// Adds bytes to the hash.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hash::Sha(hash) => hash.update(bytes),
            Hash::Md5(hash) => hash.update(bytes),
        }
    }

    /// Whether the bytes match the checksum.
    pub fn matches(self) -> bool {
        match self.hash {
            Hash::Sha(hash) => hash.finish().as_ref() == self.sent,
            Hash::Md5(hash) => hash.finalize().as_slice() == self.sent,
        }
    }
}

impl std::fmt::Debug for PieceChecksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceChecksum").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::limits::MAX_PART_SIZE;

    const LEAST: u64 = 5 << 20;

    #[test]
    fn checksums_are_compared_in_each_algorithm() {
        for (text, matches) in [
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", true),
            ("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", true),
            ("md5 XrY7u+Ae7tCTyyK7j1rNww==", true),
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu1=", false),
            ("md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", false),
        ] {
            let Some(mut sum) = PieceChecksum::parse(text) else {
                assert!(!matches, "{text}");
                continue;
            };
            sum.update(b"hello ");
            sum.update(b"world");
            assert_eq!(sum.matches(), matches, "{text}");
        }
        for bad in ["", "sha1", "sha1 %", "sha512 AAAA", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert!(PieceChecksum::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_file_of_the_largest_size_fits_into_the_remaining_part_numbers() {
        assert_eq!(least_part(LEAST, MAX_PART_SIZE, 1 << 30, 1), LEAST);
        let whole = 5 << 40;
        let least = least_part(LEAST, MAX_PART_SIZE, whole, 1);
        assert!(whole / least <= 8000, "{least}");
        let late = least_part(LEAST, MAX_PART_SIZE, whole / 4, 9000);
        assert!(whole / 4 / late <= 1001 && late <= MAX_PART_SIZE / 2, "{late}");
        let largest = 4000 << 20;
        assert!(2 * least_part(LEAST, largest, whole, MAX_PARTS) <= largest);
        // No number is left. The caller is refused when it requests one.
        assert!(least_part(LEAST, MAX_PART_SIZE, 1, MAX_PARTS + 1) >= LEAST);
    }

    proptest! {
        #[test]
        fn parts_are_neither_too_small_nor_too_large(
            coming in prop::option::of(0..100 * LEAST), ends: bool,
        ) {
            match next_part(coming, ends, LEAST) {
                None => {
                    let few = |coming| if ends { coming == 0 } else { coming < LEAST };
                    prop_assert!(coming.is_some_and(few));
                }
                Some(size) => {
                    prop_assert!(size <= 2 * LEAST);
                    prop_assert!(coming.is_none_or(|coming| size <= coming));
                    prop_assert!(size >= LEAST || (ends && Some(size) == coming));
                    // The bytes after the part are enough for another part, or there are none.
                    let remaining = coming.map_or(LEAST, |coming| coming - size);
                    prop_assert!(ends || remaining == 0 || remaining >= LEAST);
                }
            }
        }
    }
}
