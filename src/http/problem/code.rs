//! THE table of problems.

use actix_web::http::StatusCode;

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No such thing, or no such path.
    NotFound,
    /// Input that breaks a rule.
    Validation,
    /// A body that can't be read.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// A token that lacks a scope.
    Forbidden,
    /// The path takes other methods.
    MethodNotAllowed,
    /// The client reads nothing that the path produces.
    NotAcceptable,
    /// The body did not come in time.
    Timeout,
    /// The body is over its limit.
    TooLarge,
    /// A body of another kind than the route takes.
    MediaType,
    /// Switched off in this installation.
    Disabled,
    /// The object is not in the store yet.
    NotArrived,
    /// The parts in the store are not the whole file.
    PartsIncomplete,
    /// The store holds no parts any more.
    PartsGone,
    /// The file is still on its way.
    FilePending,
    /// The state refuses it.
    State,
    /// The upload was ended while its bytes were coming.
    Ended,
    /// A run of that mode and policy is at work.
    RunActive,
    /// An idempotency key came with another request before.
    KeyMismatch,
    /// The first request with this key is at work.
    KeyInFlight,
    /// Too many requests of one caller.
    RateLimited,
    /// Too much of one caller.
    QuotaExceeded,
    /// As many are at work as may be.
    Busy,
    /// As many wait as may.
    TooManyWaiters,
    /// Others changed the same thing again and again.
    Contended,
    /// A fault of this service.
    Internal,
    /// The store answered with a fault that trying again won't mend.
    Store,
    /// The database, the store or the credentials are not there.
    Unavailable,
    /// Not ready for traffic.
    NotReady,
}

/// What there is to say of a kind of problem.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The last segment of `type`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// A few words.
    pub title: &'static str,
    /// After how many seconds trying again makes sense.
    pub retry_after: Option<u32>,
    /// What it means and what to do, for the page of the problem.
    pub meaning: &'static str,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::NotFound,
        Self::Validation,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
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
        Self::NotReady,
    ];

    /// The row of a problem.
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
                "There is no such path, or no such thing, or it is another's: the answer is the same for all three, so that ids can't be guessed.",
            ),
            Self::Validation => row(
                "validation",
                S::BAD_REQUEST,
                "The input breaks a rule",
                None,
                "The member `errors` has sentences by field. Mend the fields and send the request again.",
            ),
            Self::BadRequest => row(
                "bad-request",
                S::BAD_REQUEST,
                "The request can't be read",
                None,
                "The request broke off or is not what its headers say.",
            ),
            Self::Unauthorized => row(
                "unauthorized",
                S::UNAUTHORIZED,
                "Who are you?",
                None,
                "Send a token as `Authorization: Bearer`. It was missing, unknown, revoked or expired.",
            ),
            Self::Forbidden => row(
                "forbidden",
                S::FORBIDDEN,
                "The token lacks a scope",
                None,
                "The member `scope` names the scope that the token would need.",
            ),
            Self::MethodNotAllowed => row(
                "method-not-allowed",
                S::METHOD_NOT_ALLOWED,
                "Method not allowed",
                None,
                "The header `Allow` names the methods that the path takes.",
            ),
            Self::NotAcceptable => row(
                "not-acceptable",
                S::NOT_ACCEPTABLE,
                "Nothing that the client reads",
                None,
                "The header `Accept` names neither what the path answers with, which the detail says, nor `application/problem+json`. Send one of them, or no `Accept` at all.",
            ),
            Self::Timeout => row(
                "request-timeout",
                S::REQUEST_TIMEOUT,
                "The body did not come in time",
                None,
                "The client was too slow, or stopped sending. Send the request again.",
            ),
            Self::TooLarge => row(
                "body-too-large",
                S::PAYLOAD_TOO_LARGE,
                "The body is over its limit",
                None,
                "The detail names the limit.",
            ),
            Self::MediaType => row(
                "unsupported-media-type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                None,
                "The detail names what the path takes.",
            ),
            Self::Disabled => row(
                "disabled",
                S::FORBIDDEN,
                "Switched off",
                None,
                "This installation does not do that; its operator can switch it on.",
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
                "The members `missing`, `wrong` and `unexpected` number the parts. Send those again, then complete.",
            ),
            Self::PartsGone => row(
                "parts-gone",
                S::CONFLICT,
                "The parts are gone",
                None,
                "The store has let the parts go. Presign the upload again and send them all.",
            ),
            Self::FilePending => row(
                "file-pending",
                S::CONFLICT,
                "The file is on its way",
                None,
                "The only file of the track has not arrived or is not verified yet. Wait for its upload.",
            ),
            Self::State => row(
                "state-conflict",
                S::CONFLICT,
                "The state refuses it",
                None,
                "What was asked is not possible in the state that the thing is in; the detail says why.",
            ),
            Self::Ended => row(
                "upload-ended",
                S::CONFLICT,
                "The upload was ended",
                None,
                "The upload was cancelled, or expired, while its bytes were coming. Create a new one.",
            ),
            Self::RunActive => row(
                "run-active",
                S::CONFLICT,
                "A run is at work",
                None,
                "The member `run_id` names the run that is at work on that mode and policy. Wait for it.",
            ),
            Self::KeyMismatch => row(
                "idempotency-mismatch",
                S::UNPROCESSABLE_ENTITY,
                "The key was used for another request",
                None,
                "The `Idempotency-Key` came with another body or path before. A new request takes a new key.",
            ),
            Self::KeyInFlight => row(
                "idempotency-in-flight",
                S::CONFLICT,
                "The first request is at work",
                Some(1),
                "The first request with this `Idempotency-Key` has not ended. Send this one again after `Retry-After`.",
            ),
            Self::RateLimited => row(
                "rate-limited",
                S::TOO_MANY_REQUESTS,
                "Too many requests",
                Some(1),
                "The caller sends more requests a second than it may. Send this one again after `Retry-After`; `RateLimit-Policy` says what is allowed.",
            ),
            Self::QuotaExceeded => row(
                "quota-exceeded",
                S::TOO_MANY_REQUESTS,
                "As much as one may have",
                Some(60),
                "The caller has as many uploads, bytes on their way, files through the service or requests that wait as it may have; the detail says which. Finish or cancel some, or come back later.",
            ),
            Self::Busy => row(
                "busy",
                S::SERVICE_UNAVAILABLE,
                "Busy; try again",
                Some(5),
                "The service does as much of that at once as it may. Send the request again after `Retry-After`.",
            ),
            Self::TooManyWaiters => row(
                "too-many-waiters",
                S::SERVICE_UNAVAILABLE,
                "Too many are waiting",
                Some(5),
                "As many wait for uploads as may at once. Ask again after `Retry-After`.",
            ),
            Self::Contended => row(
                "contended",
                S::SERVICE_UNAVAILABLE,
                "Changed by others; try again",
                Some(1),
                "Others changed the same thing at the same time, again and again. Send the request again.",
            ),
            Self::Internal => row(
                "internal",
                S::INTERNAL_SERVER_ERROR,
                "Internal server error",
                None,
                "A fault of this service. Its log has the reason under the `request_id`.",
            ),
            Self::Store => row(
                "store-error",
                S::BAD_GATEWAY,
                "The object store failed",
                None,
                "The object store refused what it should not. The service's log has the reason.",
            ),
            Self::Unavailable => row(
                "unavailable",
                S::SERVICE_UNAVAILABLE,
                "Not available; try again",
                Some(5),
                "The database or the object store does not answer at the moment. Send the request again after `Retry-After`.",
            ),
            Self::NotReady => row(
                "not-ready",
                S::SERVICE_UNAVAILABLE,
                "Not ready",
                Some(5),
                "The member `checks` says what is down.",
            ),
        }
    }

    /// The problem of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.row().name == name)
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// The kind that fits a status which a library chose.
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
    fn every_problem_has_a_name_of_its_own_and_a_status_that_is_an_error() {
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
