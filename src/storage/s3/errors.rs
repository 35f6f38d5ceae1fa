//! The SDK's errors as [`StoreError`] kinds.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::storage::StoreError;

/// The kind that an error belongs to. A missing object has none: callers that expect one
/// ask [`is_not_found`] first.
pub(super) fn store_error<E>(error: SdkError<E, HttpResponse>) -> StoreError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = status(&error);
    let code = error.code().map(str::to_owned);
    match (&error, status) {
        (SdkError::ServiceError(_), Some(status)) => by_code(status, code, Box::new(error)),
        (SdkError::ResponseError(_), Some(status)) if status < 500 => no_s3_answer(status),
        (SdkError::ConstructionFailure(_), _) => {
            StoreError::Refused { code: "InvalidRequest".into(), source: Box::new(error) }
        }
        _ if lacks_credentials(&error) => StoreError::AccessDenied(Box::new(error)),
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// Whether the object, or the upload, or the bucket is not there.
pub(super) fn is_not_found<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let bucket_is_there = error.code() != Some("NoSuchBucket");
    matches!(error, SdkError::ServiceError(_)) && status(error) == Some(404) && bucket_is_there
}

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn by_code(status: u16, code: Option<String>, source: Box<dyn Error + Send + Sync>) -> StoreError {
    match (code.as_deref(), status) {
        (Some("NoSuchBucket"), _) => StoreError::NoSuchBucket,
        (Some("NoSuchUpload"), _) => StoreError::NoSuchMultipart,
        // Two conditional writes met: the other one's object is there now, or will be.
        (Some("PreconditionFailed" | "ConditionalRequestConflict"), _) | (_, 412) => {
            StoreError::PreconditionFailed
        }
        // Some stores answer these with 400.
        (
            Some(
                "AccessDenied"
                | "ExpiredToken"
                | "InvalidToken"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "RequestTimeTooSkewed",
            ),
            _,
        )
        | (_, 401 | 403) => StoreError::AccessDenied(source),
        (
            Some(
                "SlowDown" | "RequestTimeout" | "Throttling" | "TooManyRequests"
                | "ServiceUnavailable" | "InternalError" | "OperationAborted",
            ),
            _,
        )
        | (_, 408 | 429 | 500 | 502..=599) => StoreError::Unavailable(source),
        (None, 200..=299) => no_s3_answer(status),
        // HEAD answers have no body, so no code either.
        _ => StoreError::Refused { code: code.unwrap_or_else(|| format!("HTTP {status}")), source },
    }
}

/// Most often a web page, of a proxy or of the store's console.
fn no_s3_answer(status: u16) -> StoreError {
    StoreError::Protocol(format!("HTTP {status} that is no S3 answer; is the endpoint right?"))
}

/// The SDK reports credentials that can't be had as a request that could not be sent.
pub(in crate::storage) fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: Option<&str>) -> String {
        let error = by_code(status, code.map(str::to_owned), "source".into());
        let name = format!("{error:?}");
        name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
    }

    #[test]
    fn every_answer_of_a_store_has_its_kind() {
        for (status, code, expected) in [
            (412, None, "PreconditionFailed"),
            (409, Some("ConditionalRequestConflict"), "PreconditionFailed"),
            (404, Some("NoSuchUpload"), "NoSuchMultipart"),
            (404, Some("NoSuchBucket"), "NoSuchBucket"),
            (403, None, "AccessDenied"),
            (400, Some("ExpiredToken"), "AccessDenied"),
            (503, Some("SlowDown"), "Unavailable"),
            (503, None, "Unavailable"),
            (429, None, "Unavailable"),
            (409, Some("OperationAborted"), "Unavailable"),
            (501, Some("NotImplemented"), "Refused"),
            (400, Some("BadDigest"), "Refused"),
            (400, None, "Refused"),
            (200, Some("InternalError"), "Unavailable"),
            (200, None, "Protocol"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code:?}");
        }
    }
}
