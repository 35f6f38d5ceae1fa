//! Converts Azure's error codes to [`StoreError`]s, with their cause as a sentence ("Blob Storage
//! error codes", REST API reference).

use std::error::Error;
use std::time::Duration;

use chrono::TimeDelta;

use crate::domain::limits::MAX_CLOCK_SKEW;
use crate::net::{NetError, Streamed};
use crate::storage::StoreError;
use crate::storage::cause::{Cause, Explained};
use crate::storage::s3::connection_cause;
use crate::storage::signer::SignError;
use crate::telemetry::{chain, redact_query};

/// The largest part of an error's body that is read.
const MAX_BODY: usize = 4096;

/// A failed request: its [`StoreError`], and what the response showed.
#[derive(Debug)]
pub(super) struct CallError {
    /// `None` without a response.
    pub status: Option<u16>,
    /// `x-ms-error-code`, empty if there is none.
    pub code: String,
    pub error: StoreError,
}

impl CallError {
    /// Whether the blob does not exist, or has no such version, although the container exists.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404) && !matches!(self.error, StoreError::NoSuchBucket)
    }

    /// Whether another attempt may succeed.
    pub(super) fn may_be_temporary(&self) -> bool {
        matches!(self.error, StoreError::Unavailable(_))
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self { status: None, code: String::new(), error }
    }
}

impl From<CallError> for StoreError {
    fn from(failed: CallError) -> Self {
        failed.error
    }
}

/// A value that the store cannot keep.
impl From<SignError> for StoreError {
    fn from(error: SignError) -> Self {
        Self::Refused { code: "InvalidRequest".to_owned(), source: Box::new(error) }
    }
}

/// The error of a response. `offset` is the store's time minus this machine's.
pub(super) async fn refused(response: Streamed, offset: Option<TimeDelta>) -> CallError {
    let status = response.status;
    let code = response.headers.get("x-ms-error-code").cloned().unwrap_or_default();
    let is_store = !code.is_empty() || response.headers.contains_key("x-ms-request-id");
    // The text of an error can contain the text that was signed, so it is not shown.
    drop(response.read(MAX_BODY).await);
    let error = if is_store || status >= 500 {
        by_code(status, &code, offset)
    } else {
        StoreError::Protocol(format!(
            "HTTP {status} without a header of Azure Blob Storage; check the endpoint"
        ))
    };
    CallError { status: Some(status), code, error }
}

/// A request that got no response.
pub(super) fn not_sent(error: NetError) -> CallError {
    let text = redact_query(&chain(&error)).into_owned();
    let cause = match connection_cause(&error, &text) {
        // The host name contains the account's name, so the account may not exist.
        Some(Cause::Dns) => Some(Cause::NoSuchAccount),
        cause => cause,
    };
    CallError::from(match (error, cause) {
        (NetError::Malformed(source), _) => {
            StoreError::Refused { code: "InvalidRequest".to_owned(), source }
        }
        (_, Some(cause)) => StoreError::Unavailable(explained(cause, text)),
        (_, None) => StoreError::Unavailable(text.into()),
    })
}

/// An attempt that took too long.
pub(super) fn timed_out(limit: Duration) -> CallError {
    let seen = format!("no response within {} s", limit.as_secs_f32());
    StoreError::Unavailable(explained(Cause::Timeout, seen)).into()
}

fn explained(cause: Cause, seen: String) -> Box<dyn Error + Send + Sync> {
    Box::new(Explained { cause, seen })
}

fn by_code(status: u16, code: &str, offset: Option<TimeDelta>) -> StoreError {
    let skewed = offset.filter(|offset| offset.abs() >= MAX_CLOCK_SKEW);
    let mut seen = format!("HTTP {status} {code}").trim_end().to_owned();
    if let Some(offset) = skewed {
        let seconds = offset.num_seconds().to_string();
        seen.extend([", the store's clock minus this machine's is ", &seconds, " s"]);
    }
    let refused = |code: &str, seen: String| StoreError::Refused {
        code: if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() },
        source: seen.into(),
    };
    match (code, status) {
        ("ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled", _) => {
            StoreError::NoSuchBucket
        }
        ("AuthenticationFailed" | "AuthorizationFailure" | "InvalidAuthenticationInfo", _)
        | ("", 401 | 403)
            if skewed.is_some() =>
        {
            StoreError::AccessDenied(explained(Cause::ClockSkew, seen))
        }
        ("AuthenticationFailed" | "InvalidAuthenticationInfo", _) => {
            StoreError::AccessDenied(explained(Cause::WrongAccountKey, seen))
        }
        // The blob exists, and the SAS allows only to create a blob.
        ("UnauthorizedBlobOverwrite", _) => StoreError::PreconditionFailed,
        ("AccountIsDisabled" | "InsufficientAccountPermissions", _) | (_, 401 | 403) => {
            StoreError::AccessDenied(explained(Cause::AccessDenied, seen))
        }
        ("ConditionNotMet" | "TargetConditionNotMet" | "BlobAlreadyExists", _) => {
            StoreError::PreconditionFailed
        }
        // A block of the list is missing. The use cases know S3's code for this error.
        ("InvalidBlockList", _) => refused("InvalidPart", seen),
        ("Md5Mismatch" | "Crc64Mismatch", _) => refused("BadDigest", seen),
        ("ServerBusy", _) | (_, 429) => StoreError::Unavailable(explained(Cause::Throttled, seen)),
        // The operation is not supported. The server did not fail.
        (_, 501) => refused(code, seen),
        (_, 408 | 500..=599) => StoreError::Unavailable(explained(Cause::ServerError, seen)),
        _ => refused(code, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_error_and_its_cause() {
        for (status, code, offset, expected, cause) in [
            (404, "ContainerNotFound", 0, "NoSuchBucket", Some(Cause::NoSuchBucket)),
            (403, "AuthenticationFailed", 0, "AccessDenied", Some(Cause::WrongAccountKey)),
            (403, "AuthenticationFailed", 3600, "AccessDenied", Some(Cause::ClockSkew)),
            (403, "AuthorizationPermissionMismatch", 0, "AccessDenied", Some(Cause::AccessDenied)),
            (403, "UnauthorizedBlobOverwrite", 0, "PreconditionFailed", None),
            (412, "ConditionNotMet", 0, "PreconditionFailed", None),
            (409, "BlobAlreadyExists", 0, "PreconditionFailed", None),
            // The blob is leased, which is not a precondition of the request.
            (412, "LeaseIdMissing", 0, "Refused", None),
            (400, "Md5Mismatch", 0, "Refused", None),
            (400, "InvalidBlockList", 0, "Refused", None),
            (503, "ServerBusy", 0, "Unavailable", Some(Cause::Throttled)),
            (500, "OperationTimedOut", 0, "Unavailable", Some(Cause::ServerError)),
            (501, "", 0, "Refused", None),
            (502, "", 0, "Unavailable", Some(Cause::ServerError)),
        ] {
            let error = by_code(status, code, Some(TimeDelta::seconds(offset)));
            assert!(format!("{error:?}").starts_with(expected), "{status} {code}: {error:?}");
            assert_eq!(error.cause(), cause, "{status} {code}");
        }
    }

    #[test]
    fn an_unknown_host_is_an_unknown_account() {
        let error = not_sent(NetError::Connection("dns error: no address".into())).error;
        assert_eq!(error.cause(), Some(Cause::NoSuchAccount));
        let url = "GET https://a.blob.core.windows.net/c/k?sig=secret failed";
        let error = not_sent(NetError::Connection(url.into())).error;
        assert!(!chain(&error).contains("secret"), "{error:?}");
    }
}
