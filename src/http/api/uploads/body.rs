//! Request bodies for uploads.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::create_upload::NewUpload;
use crate::domain::policy::FieldErrors;
use crate::domain::subject::SubjectError;
use crate::domain::upload::{Declared, Strategy};
use crate::domain::{Checksum, PolicyName, Subject};
use crate::http::extract::json::Object;
use crate::http::extract::text::{self, REQUIRED, record_error};
use crate::http::views::{AUTO, AlgorithmName, StrategyOption};

/// A checksum of the whole file.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChecksumBody {
    /// The algorithm.
    #[schema(value_type = AlgorithmName)]
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
    /// The policy. The default is `tracks`.
    policy: Option<String>,
    /// The name of the file, without a path.
    filename: Option<String>,
    /// The media type of the file. It is signed.
    content_type: Option<String>,
    /// The size of the file in bytes. It is signed.
    size: Option<u64>,
    /// The checksum of the file. It is signed.
    #[schema(value_type = Option<ChecksumBody>)]
    checksum: Option<Object<ChecksumBody>>,
    /// The lifetime of the URL in seconds.
    expires_in: Option<i64>,
    /// Whether the URL can be used only once.
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
            declared: Declared { filename, content_type, size, checksum, max_size: None },
            // The response has exactly one URL.
            strategy: Some(Strategy::Put),
            expires_in,
            write_once,
            ..Self::default()
        })
    }
}

/// A new upload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUpload, example = json!({"filename": "song.mp3",
    "content_type": "audio/mpeg", "size": 4_194_304, "metadata": {"source": "phone"}}))]
pub struct UploadBody {
    /// The policy. The default is `tracks`.
    policy: Option<String>,
    /// The track of the file. The same as `attach_to` with `track:{track_id}`.
    #[schema(value_type = Option<uuid::Uuid>)]
    track_id: Option<String>,
    /// The subject whose file the upload becomes once it is verified: 1 to 200 characters of
    /// `A-Z a-z 0-9 . _ ~ : @ -`. A newer verified upload replaces the current file.
    #[schema(
        example = "album:42:cover",
        min_length = 1,
        max_length = 200,
        pattern = "^[A-Za-z0-9._~:@-]+$"
    )]
    attach_to: Option<String>,
    /// The name of the file, without a path.
    #[schema(required, value_type = String)]
    filename: Option<String>,
    /// The media type of the file. It is signed.
    content_type: Option<String>,
    /// The size of the file in bytes. It is signed.
    size: Option<u64>,
    /// The checksum of the file. It is signed.
    #[schema(value_type = Option<ChecksumBody>)]
    checksum: Option<Object<ChecksumBody>>,
    /// `put`, `post` (a form), `multipart`, `direct` (the file is sent to this service), or `auto`,
    /// the default: `multipart` if a large size is declared, otherwise `put`.
    #[schema(value_type = Option<StrategyOption>)]
    strategy: Option<String>,
    /// Metadata to store with the object.
    metadata: Option<BTreeMap<String, String>>,
    /// The lifetime of the URL in seconds.
    expires_in: Option<i64>,
    /// Whether the URL can be used only once.
    write_once: Option<bool>,
}

impl TryFrom<UploadBody> for NewUpload {
    type Error = FieldErrors;

    fn try_from(body: UploadBody) -> Result<Self, FieldErrors> {
        let UploadBody {
            policy,
            track_id,
            attach_to,
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
        let attach_to = read_subject(track_id, attach_to, &mut errors);
        let strategy = strategy
            .filter(|name| name != AUTO)
            .and_then(|name| record_error(read_strategy(&name), "strategy", &mut errors));
        let checksum = read_checksum(checksum, &mut errors);
        errors.into_result()?;
        Ok(Self {
            policy: policy.map(PolicyName::new),
            attach_to,
            declared: Declared { filename, content_type, size, checksum, max_size: None },
            strategy,
            metadata: metadata.unwrap_or_default(),
            expires_in,
            write_once,
            ..Self::default()
        })
    }
}

/// The subject from `attach_to` or `track_id`. Both may be given if they name the same track.
fn read_subject(
    track_id: Option<String>,
    attach_to: Option<String>,
    errors: &mut FieldErrors,
) -> Option<Subject> {
    let track = track_id.and_then(|id| record_error(text::id(&id), "track_id", errors));
    let of_track = track.map(Subject::of_track);
    let subject = attach_to.and_then(|text| {
        let subject = text.parse().map_err(|error: SubjectError| error.to_string());
        record_error(subject, "attach_to", errors)
    });
    if let (Some(of_track), Some(subject)) = (&of_track, &subject)
        && of_track != subject
    {
        errors.add("attach_to", format!("Must be {of_track}, or omit track_id"));
    }
    subject.or(of_track)
}

fn read_strategy(name: &str) -> Result<Strategy, String> {
    let choice = Strategy::CHOICES.into_iter().find(|strategy| strategy.name() == name);
    choice.ok_or_else(|| format!("Must be one of: {AUTO}, put, post, multipart, direct"))
}

fn read_checksum(
    checksum: Option<Object<ChecksumBody>>,
    errors: &mut FieldErrors,
) -> Option<Checksum> {
    let Object(ChecksumBody { algorithm, value }) = checksum?;
    record_error(text::checksum(&algorithm, &value), "checksum", errors)
}

/// Options of a new signature.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"expires_in": 600}))]
pub struct Renewal {
    /// The lifetime of the URL in seconds.
    pub expires_in: Option<i64>,
}

/// The parts to sign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"part_numbers": [1, 2]}))]
pub struct PartNumbers {
    /// 1 to 1000 different numbers from 1 to `part_count`.
    pub part_numbers: Vec<i64>,
    /// The lifetime of the URLs in seconds.
    pub expires_in: Option<i64>,
}

/// A body without fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::extract::json::parse;
    use crate::mutate::mutated;

    const UPLOAD: &str = r#"{"filename": "song.mp3", "content_type": "audio/mpeg", "size": 4194304,
        "checksum": {"algorithm": "sha256", "value": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
        "strategy": "put", "metadata": {"source": "phone"}, "expires_in": 60, "write_once": true,
        "track_id": "0190a6f2-7b3c-7def-8123-456789abcdef", "policy": "tracks",
        "attach_to": "track:0190a6f2-7b3c-7def-8123-456789abcdef"}"#;

    /// The value of a body, or its error.
    fn read<T>(bytes: &[u8]) -> Result<NewUpload, String>
    where
        T: serde::de::DeserializeOwned,
        NewUpload: TryFrom<T, Error = FieldErrors>,
    {
        let body: T = parse(bytes).map_err(|error| error.to_string())?;
        NewUpload::try_from(body).map_err(|errors| format!("{errors:?}"))
    }

    #[test]
    fn the_body_that_is_mutated_below_is_valid() {
        assert!(read::<UploadBody>(UPLOAD.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn a_mutated_body_is_valid_or_refused_with_a_short_error(
            bytes in mutated(Just(UPLOAD)),
        ) {
            for read in [read::<UploadBody>(&bytes), read::<PresignOptions>(&bytes)] {
                match read {
                    Ok(new) => {
                        let sum = new.declared.checksum;
                        let again = sum.as_ref().map(|sum| {
                            Checksum::parse(sum.algorithm(), &sum.value()).unwrap()
                        });
                        prop_assert_eq!(again, sum);
                    }
                    Err(sentence) => prop_assert!(sentence.len() < 600, "{}", sentence),
                }
            }
        }

        #[test]
        fn a_mutated_list_of_parts_is_valid_or_refused_with_a_short_error(
            bytes in mutated(Just(r#"{"part_numbers": [1, 2, 10000], "expires_in": 60}"#)),
        ) {
            match parse::<PartNumbers>(&bytes) {
                Ok(parts) => prop_assert!(parts.part_numbers.len() <= bytes.len()),
                Err(error) => prop_assert!(error.to_string().len() < 600, "{}", error),
            }
        }
    }
}
