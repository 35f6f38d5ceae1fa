//! The table of problems: each kind with its status, title and explanation.

use actix_web::http::StatusCode;

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No such resource or path, or it belongs to another owner.
    NotFound,
    /// Invalid input, with errors by field.
    Validation,
    /// A request that cannot be read.
    BadRequest,
    /// No token, or an invalid one.
    Unauthorized,
    /// A token that does not allow the request.
    Forbidden,
    /// A message whose signature is not valid.
    Signature,
    /// An upload token that has created as many uploads as it may.
    TokenExhausted,
    /// The path does not support the method.
    MethodNotAllowed,
    /// `Accept` does not allow the media type of the response.
    NotAcceptable,
    /// The body did not arrive in time.
    Timeout,
    /// The body is larger than the limit.
    TooLarge,
    /// A body of a media type that the route does not accept.
    MediaType,
    /// The feature is disabled in this installation.
    Disabled,
    /// The object is not in the store yet.
    NotArrived,
    /// The parts in the store are not the whole file.
    PartsIncomplete,
    /// The store no longer has the parts.
    PartsGone,
    /// The only file of the track has not been verified yet.
    FilePending,
    /// The upload ended, or is attached to another subject.
    NotAttachable,
    /// The operation is not possible in the current state.
    State,
    /// The upload ended while its bytes were being sent.
    Ended,
    /// A run of the same mode and policy is active.
    RunActive,
    /// The idempotency key belongs to another request.
    KeyMismatch,
    /// The first request with this key is in progress.
    KeyInFlight,
    /// The caller sent too many requests.
    RateLimited,
    /// The caller reached a quota or concurrency limit.
    QuotaExceeded,
    /// The service reached a concurrency limit.
    Busy,
    /// Too many requests are waiting for uploads.
    TooManyWaiters,
    /// Other requests changed the same resource too often.
    Contended,
    /// A bug or a failure of this service.
    Internal,
    /// The store failed in a way that a retry does not fix.
    Store,
    /// The database, the store or the credentials are not available.
    Unavailable,
    /// The disk of the database or of the store is full.
    StorageFull,
    /// The service is not ready for requests.
    NotReady,
    /// The policy's bucket is not known to be this service's.
    BucketMismatch,
    /// The store of the file is no longer configured.
    StoreUnconfigured,
}

/// The properties of a kind of problem.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The last segment of `type`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// A short summary.
    pub title: &'static str,
    /// The default of `Retry-After` in seconds, if a retry makes sense.
    pub retry_after: Option<u32>,
    /// The meaning and the fix, for the page of the problem.
    pub meaning: &'static str,
}

impl Code {
    /// All kinds.
    pub const ALL: [Self; 35] = [
        Self::NotFound,
        Self::Validation,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Signature,
        Self::TokenExhausted,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::Timeout,
        Self::TooLarge,
        Self::MediaType,
        Self::Disabled,
        Self::NotArrived,
        Self::PartsIncomplete,
        Self::PartsGone,
        Self::FilePending,
        Self::NotAttachable,
        Self::State,
        Self::Ended,
        Self::RunActive,
        Self::KeyMismatch,
        Self::KeyInFlight,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::Busy,
        Self::TooManyWaiters,
        Self::Contended,
        Self::Internal,
        Self::Store,
        Self::Unavailable,
        Self::StorageFull,
        Self::NotReady,
        Self::BucketMismatch,
        Self::StoreUnconfigured,
    ];

    /// The properties of this kind.
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub fn row(self) -> Row {
        use StatusCode as S;
        let row = |name, status, title, retry_after, meaning| Row {
            name,
            status,
            title,
            retry_after,
            meaning,
        };
        match self {
            Self::NotFound => row(
                "not-found",
                S::NOT_FOUND,
                "Not found",
                None,
                "There is no such path or resource, or the resource belongs to another owner. The response is the same in all three cases, so that ids cannot be guessed.",
            ),
            Self::Validation => row(
                "validation",
                S::BAD_REQUEST,
                "The input is invalid",
                None,
                "The member `errors` contains messages by field. Correct the fields and send the request again.",
            ),
            Self::BadRequest => row(
                "bad-request",
                S::BAD_REQUEST,
                "The request cannot be read",
                None,
                "The request ended early or does not match its headers.",
            ),
            Self::Unauthorized => row(
                "unauthorized",
                S::UNAUTHORIZED,
                "Authentication required",
                None,
                "The token was missing, unknown, revoked or expired. Send a valid token as `Authorization: Bearer TOKEN`.",
            ),
            Self::Forbidden => row(
                "forbidden",
                S::FORBIDDEN,
                "The token does not allow this",
                None,
                "The member `scope`, if there is one, names the required scope. With an upload token, a caller can only create uploads within the token's limits, and use the uploads that the token created.",
            ),
            Self::TokenExhausted => row(
                "token-exhausted",
                S::FORBIDDEN,
                "The upload token is used up",
                None,
                "The upload token has created as many uploads as its `max_uploads` allows. Cancelled uploads count too. Request a new token from the back end that issued this one.",
            ),
            Self::Signature => row(
                "signature",
                S::FORBIDDEN,
                "The signature is not valid",
                None,
                "The message claims to be from Amazon SNS, but its signature or its certificate is not valid. It was not processed.",
            ),
            Self::MethodNotAllowed => row(
                "method-not-allowed",
                S::METHOD_NOT_ALLOWED,
                "Method not allowed",
                None,
                "The header `Allow` lists the methods that the path supports.",
            ),
            Self::NotAcceptable => row(
                "not-acceptable",
                S::NOT_ACCEPTABLE,
                "Not acceptable",
                None,
                "The header `Accept` allows neither the media type of the response, which the detail names, nor `application/problem+json`. Send one of them in `Accept`, or omit the header.",
            ),
            Self::Timeout => row(
                "request-timeout",
                S::REQUEST_TIMEOUT,
                "The body did not arrive in time",
                None,
                "The client was too slow or stopped sending. Send the request again.",
            ),
            Self::TooLarge => row(
                "body-too-large",
                S::PAYLOAD_TOO_LARGE,
                "The body is too large",
                None,
                "The detail names the limit.",
            ),
            Self::MediaType => row(
                "unsupported-media-type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                None,
                "The detail names the media types that the path accepts.",
            ),
            Self::Disabled => row(
                "disabled",
                S::FORBIDDEN,
                "Disabled",
                None,
                "This feature is disabled in this installation. Its operator can enable it in the configuration.",
            ),
            Self::NotArrived => row(
                "not-arrived",
                S::CONFLICT,
                "The object has not arrived",
                None,
                "The store does not have the file yet. Upload it first, then confirm.",
            ),
            Self::PartsIncomplete => row(
                "parts-incomplete",
                S::CONFLICT,
                "The parts are not the whole file",
                None,
                "The members `missing`, `wrong` and `unexpected` list part numbers. Upload these parts again, then complete the upload.",
            ),
            Self::PartsGone => row(
                "parts-gone",
                S::CONFLICT,
                "The parts are gone",
                None,
                "The store no longer has the parts. Presign the upload again and upload all parts.",
            ),
            Self::FilePending => row(
                "file-pending",
                S::CONFLICT,
                "The file has not arrived yet",
                None,
                "The only file of the track has not arrived, is not verified yet, or is being inspected. Wait until its upload is `uploaded`.",
            ),
            Self::NotAttachable => row(
                "not-attachable",
                S::CONFLICT,
                "The upload cannot be attached",
                None,
                "The upload ended without a file, was replaced or deleted, or is attached to another subject. Create a new upload and attach that.",
            ),
            Self::State => row(
                "state-conflict",
                S::CONFLICT,
                "Not possible in the current state",
                None,
                "The operation is not possible in the current state of the resource. The detail explains why.",
            ),
            Self::Ended => row(
                "upload-ended",
                S::CONFLICT,
                "The upload has ended",
                None,
                "The upload was cancelled or expired while it was in progress. Create a new upload.",
            ),
            Self::RunActive => row(
                "run-active",
                S::CONFLICT,
                "A run is active",
                None,
                "The member `run_id` is the active run of this mode and policy. Wait until it ends.",
            ),
            Self::KeyMismatch => row(
                "idempotency-mismatch",
                S::UNPROCESSABLE_ENTITY,
                "The key was used for another request",
                None,
                "The `Idempotency-Key` was used with another body or path before. Use a new key for a new request.",
            ),
            Self::KeyInFlight => row(
                "idempotency-in-flight",
                S::CONFLICT,
                "The first request is in progress",
                Some(1),
                "The first request with this `Idempotency-Key` has not finished. Send the request again after the seconds in `Retry-After`.",
            ),
            Self::RateLimited => row(
                "rate-limited",
                S::TOO_MANY_REQUESTS,
                "Too many requests",
                Some(1),
                "The caller sends more requests per second than allowed. Send the request again after the seconds in `Retry-After`. `RateLimit-Policy` contains the limit.",
            ),
            Self::QuotaExceeded => row(
                "quota-exceeded",
                S::TOO_MANY_REQUESTS,
                "Quota exceeded",
                Some(60),
                "The caller reached its limit for pending uploads, pending bytes, concurrent direct uploads or waiting requests. The detail names the limit. Finish or cancel some, or retry later.",
            ),
            Self::Busy => row(
                "busy",
                S::SERVICE_UNAVAILABLE,
                "Busy; try again",
                Some(5),
                "The service reached a concurrency limit. Send the request again after the seconds in `Retry-After`.",
            ),
            Self::TooManyWaiters => row(
                "too-many-waiters",
                S::SERVICE_UNAVAILABLE,
                "Too many waiting requests",
                Some(5),
                "Too many requests are waiting for uploads. Send the request again after the seconds in `Retry-After`.",
            ),
            Self::Contended => row(
                "contended",
                S::SERVICE_UNAVAILABLE,
                "Changed by other requests; try again",
                Some(1),
                "Other requests changed the same resource at the same time. Send the request again.",
            ),
            Self::Internal => row(
                "internal",
                S::INTERNAL_SERVER_ERROR,
                "Internal server error",
                None,
                "The service failed. Its log contains the reason under the `request_id`.",
            ),
            Self::Store => row(
                "store-error",
                S::BAD_GATEWAY,
                "The object store failed",
                None,
                "The object store refused or failed a request. The log of the service contains the reason.",
            ),
            Self::Unavailable => row(
                "unavailable",
                S::SERVICE_UNAVAILABLE,
                "Not available; try again",
                Some(5),
                "The database or the object store does not respond. Send the request again after the seconds in `Retry-After`.",
            ),
            Self::StorageFull => row(
                "storage-full",
                S::SERVICE_UNAVAILABLE,
                "No space left",
                Some(60),
                "The database or the object store has no space left. Its operator must free or add space. Nothing was changed; send the request again later.",
            ),
            Self::NotReady => row(
                "not-ready",
                S::SERVICE_UNAVAILABLE,
                "Not ready",
                Some(5),
                "The member `checks` names what is not available.",
            ),
            Self::BucketMismatch => row(
                "bucket-mismatch",
                S::SERVICE_UNAVAILABLE,
                "The policy accepts no new uploads",
                Some(60),
                "The marker in the policy's bucket is missing, or another database uses the bucket. Until the operator resolves it, the policy accepts no new uploads. `/readyz` and the log of the service contain the reason.",
            ),
            Self::StoreUnconfigured => row(
                "store-unconfigured",
                S::SERVICE_UNAVAILABLE,
                "The store of the file is not configured",
                Some(60),
                "The file is in a store that its policy used before, and that is no longer configured. The detail names the store. The operator of this service must configure the store again. The file is not lost.",
            ),
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.row().name == name)
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// The kind for the status of a library error.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::NOT_ACCEPTABLE => Self::NotAcceptable,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::MediaType,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_problem_has_a_unique_name_and_an_error_status() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.row().name).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let Row { name, status, retry_after, .. } = code.row();
            assert!(status.is_client_error() || status.is_server_error(), "{name}");
            assert_eq!(Code::named(name), Some(code));
            let again = status == StatusCode::SERVICE_UNAVAILABLE
                || status == StatusCode::TOO_MANY_REQUESTS
                || code == Code::KeyInFlight;
            assert_eq!(retry_after.is_some(), again, "{name}");
        }
    }
}
