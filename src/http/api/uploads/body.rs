//! What clients say of an upload.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::create_upload::NewUpload;
use crate::domain::policy::FieldErrors;
use crate::domain::upload::{Declared, Strategy};
use crate::domain::{Checksum, PolicyName};
use crate::http::extract::json::Object;
use crate::http::extract::text::{self, REQUIRED, record_error};

/// The strategy that leaves the choice to the service.
const AUTO: &str = "auto";

/// A checksum of the whole file.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChecksumBody {
    /// `sha256`, `crc32`, `crc32c`, `crc64nvme` or `md5`.
    #[schema(example = "sha256")]
    algorithm: String,
    /// Base64.
    #[schema(example = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")]
    value: String,
}

/// Options of a presigned URL, all of them optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Terms, example = json!({"filename": "song.mp3", "content_type": "audio/mpeg",
    "size": 4_194_304}))]
pub struct PresignOptions {
    /// The rules; `tracks` by default.
    policy: Option<String>,
    /// The file's name, no path.
    filename: Option<String>,
    /// Its media type; signed.
    content_type: Option<String>,
    /// Its size in bytes; signed.
    size: Option<u64>,
    /// Its checksum; signed.
    #[schema(value_type = Option<ChecksumBody>)]
    checksum: Option<Object<ChecksumBody>>,
    /// How long the URL is to live, in seconds.
    expires_in: Option<i64>,
    /// Whether the URL may be used once only.
    write_once: Option<bool>,
}

impl TryFrom<PresignOptions> for NewUpload {
    type Error = FieldErrors;

    fn try_from(options: PresignOptions) -> Result<Self, FieldErrors> {
        let PresignOptions {
            policy,
            filename,
            content_type,
            size,
            checksum,
            expires_in,
            write_once,
        } = options;
        let mut errors = FieldErrors::default();
        let checksum = read_checksum(checksum, &mut errors);
        errors.into_result()?;
        Ok(Self {
            policy: policy.map(PolicyName::new),
            track: None,
            declared: Declared { filename, content_type, size, checksum },
            // The answer is one URL.
            strategy: Some(Strategy::Put),
            metadata: BTreeMap::new(),
            expires_in,
            write_once,
        })
    }
}

/// A new upload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUpload, example = json!({"filename": "song.mp3",
    "content_type": "audio/mpeg", "size": 4_194_304, "metadata": {"source": "phone"}}))]
pub struct UploadBody {
    /// The rules; `tracks` by default.
    policy: Option<String>,
    /// The track that the file is for.
    #[schema(value_type = Option<uuid::Uuid>)]
    track_id: Option<String>,
    /// The file's name, no path.
    #[schema(required, value_type = String)]
    filename: Option<String>,
    /// Its media type; signed.
    content_type: Option<String>,
    /// Its size in bytes; signed.
    size: Option<u64>,
    /// Its checksum; signed.
    #[schema(value_type = Option<ChecksumBody>)]
    checksum: Option<Object<ChecksumBody>>,
    /// `put`; `post`, a form; `multipart`; or `auto`, the default: `multipart` where the
    /// size is declared and large.
    #[schema(example = "auto")]
    strategy: Option<String>,
    /// Pairs to store with the object.
    metadata: Option<BTreeMap<String, String>>,
    /// How long the URL is to live, in seconds.
    expires_in: Option<i64>,
    /// Whether the URL may be used once only.
    write_once: Option<bool>,
}

impl TryFrom<UploadBody> for NewUpload {
    type Error = FieldErrors;

    fn try_from(body: UploadBody) -> Result<Self, FieldErrors> {
        let UploadBody {
            policy,
            track_id,
            filename,
            content_type,
            size,
            checksum,
            strategy,
            metadata,
            expires_in,
            write_once,
        } = body;
        let mut errors = FieldErrors::default();
        if filename.is_none() {
            errors.add("filename", REQUIRED);
        }
        let track = track_id.and_then(|id| record_error(text::id(&id), "track_id", &mut errors));
        let strategy = strategy
            .filter(|name| name != AUTO)
            .and_then(|name| record_error(read_strategy(&name), "strategy", &mut errors));
        let checksum = read_checksum(checksum, &mut errors);
        errors.into_result()?;
        Ok(Self {
            policy: policy.map(PolicyName::new),
            track,
            declared: Declared { filename, content_type, size, checksum },
            strategy,
            metadata: metadata.unwrap_or_default(),
            expires_in,
            write_once,
        })
    }
}

fn read_strategy(name: &str) -> Result<Strategy, String> {
    name.parse().map_err(|()| format!("Must be one of: {AUTO}, put, post, multipart"))
}

fn read_checksum(
    checksum: Option<Object<ChecksumBody>>,
    errors: &mut FieldErrors,
) -> Option<Checksum> {
    let Object(ChecksumBody { algorithm, value }) = checksum?;
    record_error(text::checksum(&algorithm, &value), "checksum", errors)
}

/// How to sign again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"expires_in": 600}))]
pub struct Renewal {
    /// How long the URL is to live, in seconds.
    pub expires_in: Option<i64>,
}

/// Which parts to sign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"part_numbers": [1, 2]}))]
pub struct PartNumbers {
    /// From 1 to `part_count`, each once; 1 to 1000 of them.
    pub part_numbers: Vec<i64>,
    /// How long the URLs are to live, in seconds.
    pub expires_in: Option<i64>,
}

/// No fields at all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::upload::Strategy;
    use crate::http::extract::json::parse;
    use crate::mutate::mutated;

    const UPLOAD: &str = r#"{"filename": "song.mp3", "content_type": "audio/mpeg", "size": 4194304,
        "checksum": {"algorithm": "sha256", "value": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
        "strategy": "put", "metadata": {"source": "phone"}, "expires_in": 60, "write_once": true,
        "track_id": "0190a6f2-7b3c-7def-8123-456789abcdef", "policy": "tracks"}"#;

    /// A body and what it says, or the sentence why not.
    fn read<T>(bytes: &[u8]) -> Result<NewUpload, String>
    where
        T: serde::de::DeserializeOwned,
        NewUpload: TryFrom<T, Error = FieldErrors>,
    {
        let body: T = parse(bytes).map_err(|error| error.to_string())?;
        NewUpload::try_from(body).map_err(|errors| format!("{errors:?}"))
    }

    #[test]
    fn the_body_that_is_spoiled_below_is_a_good_one() {
        assert!(read::<UploadBody>(UPLOAD.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn a_spoiled_body_is_refused_in_a_short_sentence_or_says_what_it_can(
            bytes in mutated(Just(UPLOAD)),
        ) {
            for read in [read::<UploadBody>(&bytes), read::<PresignOptions>(&bytes)] {
                match read {
                    Ok(new) => {
                        let sum = new.declared.checksum;
                        let again = sum.as_ref().map(|sum| {
                            Checksum::parse(sum.algorithm(), &sum.value()).expect("a checksum")
                        });
                        prop_assert_eq!(again, sum);
                        prop_assert_ne!(new.strategy, Some(Strategy::Direct));
                    }
                    Err(sentence) => prop_assert!(sentence.len() < 600, "{}", sentence),
                }
            }
        }

        #[test]
        fn a_spoiled_list_of_parts_is_refused_in_a_short_sentence_or_is_one(
            bytes in mutated(Just(r#"{"part_numbers": [1, 2, 10000], "expires_in": 60}"#)),
        ) {
            match parse::<PartNumbers>(&bytes) {
                Ok(parts) => prop_assert!(parts.part_numbers.len() <= bytes.len()),
                Err(error) => prop_assert!(error.to_string().len() < 600, "{}", error),
            }
        }
    }
}
