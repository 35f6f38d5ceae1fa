//! The checksums that S3 supports: algorithm, value, and an incremental hasher.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// The checksum algorithms that a client may declare. The names are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// CRC-32, as in zip and Ethernet (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME, the default of current AWS SDKs.
    Crc64nvme,
    /// MD5, which S3 accepts as `Content-MD5`.
    Md5,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] =
        [Self::Sha256, Self::Crc32, Self::Crc32c, Self::Crc64nvme, Self::Md5];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64nvme => "crc64nvme",
            Self::Md5 => "md5",
        }
    }

    /// The header that carries the value on a PUT.
    pub fn header(self) -> &'static str {
        match self {
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64nvme => "x-amz-checksum-crc64nvme",
            Self::Md5 => "content-md5",
        }
    }

    /// The value of `x-amz-sdk-checksum-algorithm`. `None` for MD5, which has an older header.
    pub fn sdk_name(self) -> Option<&'static str> {
        match self {
            Self::Sha256 => Some("SHA256"),
            Self::Crc32 => Some("CRC32"),
            Self::Crc32c => Some("CRC32C"),
            Self::Crc64nvme => Some("CRC64NVME"),
            Self::Md5 => None,
        }
    }

    /// The length of the value in bytes, before base64.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64nvme => 8,
            Self::Md5 => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = ChecksumError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or(ChecksumError::Algorithm)
    }
}

/// Why a checksum is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChecksumError {
    /// No such algorithm.
    #[error("algorithm must be one of sha256, crc32, crc32c, crc64nvme, md5")]
    Algorithm,
    /// Not base64.
    #[error("value is not base64")]
    Encoding,
    /// Base64 of the wrong number of bytes.
    #[error("a {} value must be the base64 of {} bytes", .0, .0.digest_len())]
    Length(Algorithm),
}

/// A checksum of a whole object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Checksum {
    /// Reads a value in base64 of the algorithm's length.
    pub fn parse(algorithm: Algorithm, value: &str) -> Result<Self, ChecksumError> {
        let bytes = STANDARD.decode(value).map_err(|_| ChecksumError::Encoding)?;
        if bytes.len() == algorithm.digest_len() {
            Ok(Self { algorithm, bytes })
        } else {
            Err(ChecksumError::Length(algorithm))
        }
    }

    /// Parses an MD5 in lower-case hex, as in ETags.
    pub fn parse_md5_hex(text: &str) -> Option<Self> {
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let bytes = hex::decode(text).ok().filter(|bytes| lower && bytes.len() == 16)?;
        Some(Self { algorithm: Algorithm::Md5, bytes })
    }

    /// The checksum of bytes in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value in base64.
    pub fn value(&self) -> String {
        STANDARD.encode(&self.bytes)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.value())
    }
}

/// Computes a checksum piece by piece.
#[derive(Clone)]
pub struct Hasher(Kind);

#[derive(Clone)]
enum Kind {
    Sha256(Box<Sha256>),
    Md5(Box<Md5>),
    Crc(Algorithm, Box<Crc>),
}

impl Hasher {
    /// A hasher without input.
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Kind::Crc(algorithm, Box::new(Crc::new(kind)));
        Self(match algorithm {
            Algorithm::Sha256 => Kind::Sha256(Box::default()),
            Algorithm::Md5 => Kind::Md5(Box::default()),
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64nvme => crc(CrcAlgorithm::Crc64Nvme),
        })
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Sha256(hasher) => hasher.update(bytes),
            Kind::Md5(hasher) => hasher.update(bytes),
            Kind::Crc(_, crc) => crc.update(bytes),
        }
    }

    /// The checksum of all added bytes.
    pub fn finish(self) -> Checksum {
        let (algorithm, bytes) = match self.0 {
            Kind::Sha256(hasher) => (Algorithm::Sha256, hasher.finalize().to_vec()),
            Kind::Md5(hasher) => (Algorithm::Md5, hasher.finalize().to_vec()),
            Kind::Crc(algorithm, crc) => {
                let sum = crc.finalize().to_be_bytes();
                (algorithm, sum[8 - algorithm.digest_len()..].to_vec())
            }
        };
        Checksum { algorithm, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The check values of the CRC catalogue (reveng) and of RFC 1321 and FIPS 180 for "123456789".
    #[test]
    fn the_published_check_values_are_computed() {
        for (algorithm, hex) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64nvme, "ae8b14860a799888"),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let sum = Checksum::of(algorithm, b"123456789");
            assert_eq!(hex::encode(&sum.bytes), hex, "{algorithm}");
            assert_eq!(Checksum::parse(algorithm, &sum.value()), Ok(sum));
        }
    }

    #[test]
    fn a_value_of_another_length_is_refused_with_the_length_it_takes() {
        let error = Checksum::parse(Algorithm::Sha256, "AAAA").unwrap_err();
        assert_eq!(error.to_string(), "a sha256 value must be the base64 of 32 bytes");
        assert_eq!(Checksum::parse(Algorithm::Crc32, "no!"), Err(ChecksumError::Encoding));
        assert_eq!("sha1".parse::<Algorithm>(), Err(ChecksumError::Algorithm));
    }

    #[test]
    fn an_etag_is_read_as_an_md5_only_if_it_looks_like_one() {
        let md5 = Checksum::of(Algorithm::Md5, b"123456789");
        let read = |text: &str| Checksum::parse_md5_hex(text);
        assert_eq!(read("25f9e794323b453885f5181f1b624d0b"), Some(md5));
        for other in ["25F9E794323B453885F5181F1B624D0B", "25f9e794323b453885f5181f1b624d0b-2", ""]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
