//! Converts the errors of the SDK to [`StoreError`]s, with their cause as a sentence.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use chrono::TimeDelta;

use super::clock;
use crate::domain::limits::MAX_CLOCK_SKEW;
use crate::storage::StoreError;
use crate::storage::cause::{Cause, Explained};
use crate::telemetry::{chain, redact_query};

/// The largest length of a store's message in an error, in characters.
const MAX_MESSAGE: usize = 200;

/// What an error response shows in addition to its status.
#[derive(Debug, Default)]
struct Response {
    code: Option<String>,
    message: Option<String>,
    /// The region of the bucket, if the store returns it.
    region: Option<String>,
    /// The store's time minus this machine's time.
    clock_offset: Option<TimeDelta>,
}

/// Converts an SDK error to a [`StoreError`]. A missing object has no [`StoreError`], so
/// callers for which an object may be missing call [`is_not_found`] first.
pub(super) fn store_error<E>(error: SdkError<E, HttpResponse>) -> StoreError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let raw = error.raw_response();
    let header = |name| raw.and_then(|raw| raw.headers().get(name)).map(str::to_owned);
    let response = Response {
        code: error.code().map(str::to_owned),
        message: error.message().map(str::to_owned),
        region: header("x-amz-bucket-region"),
        clock_offset: raw.and_then(clock::offset),
    };
    match (&error, status(&error)) {
        (SdkError::ServiceError(_), Some(status)) => by_response(status, response),
        (SdkError::ResponseError(_), Some(status)) if status < 500 => not_s3(status),
        (SdkError::ResponseError(_), Some(status)) => {
            let seen = format!("HTTP {status}, but not a response of S3");
            StoreError::Unavailable(explained(Cause::ServerError, seen))
        }
        (SdkError::ConstructionFailure(_), _) => {
            StoreError::Refused { code: "InvalidRequest".into(), source: Box::new(error) }
        }
        _ => not_sent(&error),
    }
}

/// Whether the object, the upload or the bucket does not exist.
pub(super) fn is_not_found<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let bucket_is_there = error.code() != Some("NoSuchBucket");
    matches!(error, SdkError::ServiceError(_)) && status(error) == Some(404) && bucket_is_there
}

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn explained(cause: Cause, seen: String) -> Box<dyn Error + Send + Sync> {
    Box::new(Explained { cause, seen })
}

/// The cause that a response shows.
fn cause(status: u16, response: &Response) -> Option<Cause> {
    let skewed = response.clock_offset.is_some_and(|offset| offset.abs() >= MAX_CLOCK_SKEW);
    Some(match (response.code.as_deref(), status) {
        (Some("RequestTimeTooSkewed"), _) => Cause::ClockSkew,
        (Some("InvalidAccessKeyId"), _) => Cause::UnknownKey,
        (Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired"), _) => {
            Cause::ExpiredCredentials
        }
        (
            Some(
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException",
            ),
            _,
        )
        | (_, 301 | 307) => Cause::WrongRegion,
        // A HEAD response has no body, so it has no error code either.
        (None, 400) if response.region.is_some() => Cause::WrongRegion,
        (Some("XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded"), _) | (_, 507) => {
            Cause::Full
        }
        // Some stores return only that access is denied.
        (Some("SignatureDoesNotMatch" | "AccessDenied"), _) | (None, 401 | 403) if skewed => {
            Cause::ClockSkew
        }
        (Some("SignatureDoesNotMatch"), _) => Cause::WrongSecret,
        (Some("AccessDenied"), _) | (_, 401 | 403) => Cause::AccessDenied,
        (
            Some("SlowDown" | "SlowDownRead" | "SlowDownWrite" | "Throttling" | "TooManyRequests"),
            _,
        )
        | (_, 429) => Cause::Throttled,
        (_, 500 | 502..=599) => Cause::ServerError,
        _ => return None,
    })
}

/// What the response showed, in one line.
fn seen(status: u16, response: &Response) -> String {
    let mut text = format!("HTTP {status}");
    if let Some(code) = &response.code {
        text.push(' ');
        text.push_str(code);
    }
    if let Some(region) = &response.region {
        text.push_str(", the bucket is in ");
        text.push_str(region);
    }
    if let Some(offset) = response.clock_offset.filter(|offset| offset.abs() >= MAX_CLOCK_SKEW) {
        let seconds = offset.num_seconds().to_string();
        text.extend([", the store's clock minus this machine's is ", &seconds, " s"]);
    }
    text
}

fn by_response(status: u16, response: Response) -> StoreError {
    let seen = seen(status, &response);
    let source = match cause(status, &response) {
        Some(cause) => explained(cause, seen),
        None => match &response.message {
            Some(message) => {
                let message: String = message.chars().take(MAX_MESSAGE).collect();
                format!("{seen}: {}", redact_query(&message)).into()
            }
            None => seen.into(),
        },
    };
    by_code(status, response.code, source)
}

fn by_code(status: u16, code: Option<String>, source: Box<dyn Error + Send + Sync>) -> StoreError {
    match (code.as_deref(), status) {
        (Some("NoSuchBucket"), _) => StoreError::NoSuchBucket,
        (Some("NoSuchUpload"), _) => StoreError::NoSuchMultipart,
        // Two conditional writes ran at the same time. The other one has created the object or will
        // create it.
        (Some("PreconditionFailed" | "ConditionalRequestConflict"), _) | (_, 412) => {
            StoreError::PreconditionFailed
        }
        (Some("XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded"), _) | (_, 507) => {
            StoreError::Full(source)
        }
        // Some stores return 400 for these errors.
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
        (None, 200..=299) => not_s3(status),
        // A HEAD response has no body, so it has no error code either.
        _ => StoreError::Refused { code: code.unwrap_or_else(|| format!("HTTP {status}")), source },
    }
}

/// In most cases this is a web page of a proxy or of the store's console.
fn not_s3(status: u16) -> StoreError {
    StoreError::Protocol(format!("HTTP {status}, but not a response of S3; check the endpoint"))
}

/// A request that got no response.
fn not_sent(error: &(dyn Error + 'static)) -> StoreError {
    let text = redact_query(&chain(error)).into_owned();
    if lacks_credentials(error) {
        return StoreError::AccessDenied(explained(Cause::NoCredentials, text));
    }
    StoreError::Unavailable(match connection_cause(error, &text) {
        Some(cause) => explained(cause, text),
        None => text.into(),
    })
}

/// The cause of a failed connection. The libraries do not have types for all causes. If the kind of
/// the I/O error is not specific, the text of the error is used.
pub(in crate::storage) fn connection_cause(
    error: &(dyn Error + 'static),
    text: &str,
) -> Option<Cause> {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["dns error", "failed to lookup address"]) {
        return Some(Cause::Dns);
    }
    if has(&["certificate", "corrupt message", "tls handshake", "fatal alert"]) {
        return Some(Cause::Tls);
    }
    let mut source = Some(error);
    while let Some(error) = source {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Some(Cause::ConnectionRefused),
            Some(
                io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable,
            ) => return Some(Cause::Timeout),
            _ => {}
        }
        source = error.source();
    }
    if has(&["connection refused"]) {
        return Some(Cause::ConnectionRefused);
    }
    has(&["timed out", "timeout"]).then_some(Cause::Timeout)
}

/// Whether a request failed because there are no credentials. The SDK reports this as a request
/// that could not be sent.
pub(in crate::storage) fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            );
        }
        source = error.source();
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
    fn responses_of_stores_become_kinds_of_errors() {
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
            (507, None, "Full"),
            (507, Some("XMinioStorageFull"), "Full"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code:?}");
        }
    }

    fn response(code: Option<&str>, region: Option<&str>, offset: i64) -> Response {
        Response {
            code: code.map(str::to_owned),
            message: None,
            region: region.map(str::to_owned),
            clock_offset: Some(TimeDelta::seconds(offset)),
        }
    }

    #[test]
    fn every_failure_has_its_cause() {
        for (status, code, region, offset, expected) in [
            (403, Some("InvalidAccessKeyId"), None, 0, Some(Cause::UnknownKey)),
            (403, Some("SignatureDoesNotMatch"), None, 0, Some(Cause::WrongSecret)),
            (403, Some("SignatureDoesNotMatch"), None, 3600, Some(Cause::ClockSkew)),
            (403, Some("RequestTimeTooSkewed"), None, 0, Some(Cause::ClockSkew)),
            (403, None, None, -3600, Some(Cause::ClockSkew)),
            (403, Some("AccessDenied"), None, 1, Some(Cause::AccessDenied)),
            (400, Some("ExpiredToken"), None, 0, Some(Cause::ExpiredCredentials)),
            (400, Some("AuthorizationHeaderMalformed"), None, 0, Some(Cause::WrongRegion)),
            (301, None, Some("eu-central-1"), 0, Some(Cause::WrongRegion)),
            (400, None, Some("eu-central-1"), 0, Some(Cause::WrongRegion)),
            (507, Some("XMinioStorageFull"), None, 0, Some(Cause::Full)),
            (503, Some("SlowDown"), None, 0, Some(Cause::Throttled)),
            (500, Some("InternalError"), None, 0, Some(Cause::ServerError)),
            (400, Some("BadDigest"), None, 0, None),
            (404, None, None, 0, None),
        ] {
            let found = cause(status, &response(code, region, offset));
            assert_eq!(found, expected, "{status} {code:?} {region:?} {offset}");
        }
    }

    #[test]
    fn an_error_contains_the_cause_and_no_query() {
        let error = by_response(301, response(None, Some("eu-central-1"), 0));
        let text = chain(&error);
        assert!(
            text.contains("correct region (HTTP 301, the bucket is in eu-central-1)"),
            "{text}"
        );
        let message = Some("see https://s3.example.com/b?X-Amz-Signature=secret".to_owned());
        let odd = Response { message, ..response(Some("BadDigest"), None, 0) };
        let text = chain(&by_response(400, odd));
        assert!(text.contains("BadDigest") && !text.contains("secret"), "{text}");
    }
}
