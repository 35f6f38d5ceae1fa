//! S3's flexible checksums: algorithms, and the checksums of parts and whole objects.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, ChecksumType};
use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::{Deserialize, Serialize};

use crate::error::refuse;

/// The algorithms that S3 verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] =
        [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => ChecksumAlgorithm::CRC32,
            Self::Crc32c => ChecksumAlgorithm::CRC32C,
            Self::Crc64Nvme => ChecksumAlgorithm::CRC64NVME,
            Self::Sha1 => ChecksumAlgorithm::SHA1,
            Self::Sha256 => ChecksumAlgorithm::SHA256,
        }
    }

    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The length of the digest in bytes.
    fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(crate) fn parse(name: &str) -> S3Result<Self> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            refuse(
                S3ErrorCode::InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the \
                 valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })
    }

    pub(crate) fn to_dto(self) -> ChecksumAlgorithm {
        ChecksumAlgorithm::from_static(self.name())
    }

    /// Refuses the value of a header that is not a digest of this algorithm.
    pub(crate) fn check_value(self, value: &str) -> S3Result<()> {
        match BASE64_STANDARD.decode(value) {
            Ok(raw) if raw.len() == self.length() => Ok(()),
            _ => Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!("Value for {} header is invalid.", self.header()),
            )),
        }
    }

    pub(crate) fn hasher(self) -> ChecksumHasher {
        let mut hasher = ChecksumHasher::default();
        match self {
            Self::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Self::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Self::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Self::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Self::Sha256 => hasher.sha256 = Some(Sha256::new()),
        }
        hasher
    }

    /// The value of this algorithm; empty if there is none.
    pub(crate) fn pick(self, sums: Checksum) -> String {
        let value = by_algorithm(sums).into_iter().find(|(algorithm, _)| *algorithm == self);
        value.and_then(|(_, value)| value).unwrap_or_default()
    }
}

fn by_algorithm(sums: Checksum) -> [(Algorithm, Option<String>); 5] {
    let Checksum {
        checksum_crc32,
        checksum_crc32c,
        checksum_crc64nvme,
        checksum_sha1,
        checksum_sha256,
        checksum_type: _,
    } = sums;
    [
        (Algorithm::Crc32, checksum_crc32),
        (Algorithm::Crc32c, checksum_crc32c),
        (Algorithm::Crc64Nvme, checksum_crc64nvme),
        (Algorithm::Sha1, checksum_sha1),
        (Algorithm::Sha256, checksum_sha256),
    ]
}

/// What the checksum of a multipart object is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The bytes of the whole object.
    FullObject,
    /// The checksums of its parts. The value ends with `-` and the number of parts.
    Composite,
}

impl Kind {
    pub(crate) fn to_dto(self) -> ChecksumType {
        ChecksumType::from_static(match self {
            Self::FullObject => ChecksumType::FULL_OBJECT,
            Self::Composite => ChecksumType::COMPOSITE,
        })
    }

    /// The kind of a multipart upload. S3 allows only some pairs of algorithm and kind.
    pub(crate) fn of_upload(
        algorithm: Algorithm,
        requested: Option<&ChecksumType>,
    ) -> S3Result<Self> {
        let requested = match requested.map(ChecksumType::as_str) {
            None => None,
            Some(ChecksumType::FULL_OBJECT) => Some(Self::FullObject),
            Some(ChecksumType::COMPOSITE) => Some(Self::Composite),
            Some(_) => {
                let message = "Value for x-amz-checksum-type header is invalid.";
                return Err(refuse(S3ErrorCode::InvalidRequest, message));
            }
        };
        match (algorithm, requested) {
            (Algorithm::Crc64Nvme, None | Some(Self::FullObject)) => Ok(Self::FullObject),
            (Algorithm::Sha1 | Algorithm::Sha256, None | Some(Self::Composite)) => {
                Ok(Self::Composite)
            }
            (Algorithm::Crc32 | Algorithm::Crc32c, requested) => {
                Ok(requested.unwrap_or(Self::Composite))
            }
            (algorithm, Some(kind)) => Err(refuse(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind.to_dto().as_str(),
                    algorithm.name(),
                ),
            )),
        }
    }
}

/// The computed checksum of an object or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub algorithm: Algorithm,
    pub kind: Kind,
    /// Base64, as in headers.
    pub value: String,
}

impl Sum {
    pub(crate) fn to_dto(&self) -> Checksum {
        let mut sums = Checksum { checksum_type: Some(self.kind.to_dto()), ..Checksum::default() };
        let slot = match self.algorithm {
            Algorithm::Crc32 => &mut sums.checksum_crc32,
            Algorithm::Crc32c => &mut sums.checksum_crc32c,
            Algorithm::Crc64Nvme => &mut sums.checksum_crc64nvme,
            Algorithm::Sha1 => &mut sums.checksum_sha1,
            Algorithm::Sha256 => &mut sums.checksum_sha256,
        };
        *slot = Some(self.value.clone());
        sums
    }
}

/// The checksum of an object that is computed from the checksums of its parts.
pub(crate) fn composite<'a>(algorithm: Algorithm, parts: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = algorithm.hasher();
    let mut count = 0_usize;
    for part in parts {
        // This crate wrote the stored values, so they can be decoded.
        hasher.update(&BASE64_STANDARD.decode(part).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", algorithm.pick(hasher.finalize()))
}

/// The ETag of a multipart object: the MD5 of the MD5s of its parts, `-`, and the number of parts.
pub(crate) fn composite_etag<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut md5 = Md5::new();
    let mut count = 0_usize;
    for part in parts {
        md5.update(&hex::decode(part).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", hex::encode(md5.finalize()))
}

/// The checksum in a request's headers or form fields. Refuses more than one.
pub(crate) fn declared_sum(sums: Checksum) -> S3Result<Option<(Algorithm, String)>> {
    let mut found = by_algorithm(sums)
        .into_iter()
        .filter_map(|(algorithm, value)| value.map(|value| (algorithm, value)));
    let first = found.next();
    if found.next().is_some() {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.",
        ));
    }
    Ok(first)
}

/// The digest in a `Content-MD5` header, as hex.
pub(crate) fn parse_md5(value: &str) -> S3Result<String> {
    match BASE64_STANDARD.decode(value) {
        Ok(raw) if raw.len() == 16 => Ok(hex::encode(raw)),
        _ => Err(refuse(S3ErrorCode::InvalidDigest, "The Content-MD5 you specified is not valid.")),
    }
}

pub(crate) fn bad_digest(what: &str) -> S3Error {
    refuse(
        S3ErrorCode::BadDigest,
        format!("The {what} you specified did not match the calculated checksum."),
    )
}

/// Copies the five checksum fields from a [`Checksum`] to an output, or takes them from an input.
macro_rules! copy_sums {
    ($from:expr => $to:expr) => {{
        let from = $from;
        $to.checksum_crc32 = from.checksum_crc32;
        $to.checksum_crc32c = from.checksum_crc32c;
        $to.checksum_crc64nvme = from.checksum_crc64nvme;
        $to.checksum_sha1 = from.checksum_sha1;
        $to.checksum_sha256 = from.checksum_sha256;
    }};
    (take $from:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $from.checksum_crc32.take(),
            checksum_crc32c: $from.checksum_crc32c.take(),
            checksum_crc64nvme: $from.checksum_crc64nvme.take(),
            checksum_sha1: $from.checksum_sha1.take(),
            checksum_sha256: $from.checksum_sha256.take(),
            checksum_type: None,
        }
    };
}
pub(crate) use copy_sums;
