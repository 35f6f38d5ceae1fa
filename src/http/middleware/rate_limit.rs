//! The HTTP side of the rate limit: the `RateLimit` headers of
//! draft-ietf-httpapi-ratelimit-headers-10, and 429 for a request over the limit.

use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use crate::auth::rate_limit::RateStatus;
use crate::http::problem::{ApiError, Code};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The headers of a response.
#[derive(Debug, Clone)]
pub struct RateLimitHeaders(pub [(HeaderName, HeaderValue); 2]);

impl From<RateStatus> for RateLimitHeaders {
    /// In the headers, `q` is the quota and `w` the seconds in which an empty quota fills. `r` is
    /// the number of remaining requests, and `t` the seconds until the quota is full.
    fn from(status: RateStatus) -> Self {
        let value = |text: String| {
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        let RateStatus { burst, remaining, .. } = status;
        let (window, reset) = (status.window(), status.reset());
        Self([
            (POLICY, value(format!("\"default\";q={burst};w={window}"))),
            (STATE, value(format!("\"default\";r={remaining};t={reset}"))),
        ])
    }
}

/// Refuses a request above the limit.
pub fn require_within_limit(status: RateStatus) -> Result<(), ApiError> {
    let Some(seconds) = status.retry_after else { return Ok(()) };
    let detail = format!("At most {} requests per second", status.per_second);
    let error = ApiError::saying(Code::RateLimited, detail);
    Err(error.header(RETRY_AFTER, HeaderValue::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_the_limit_is_refused_and_the_headers_say_why() {
        let within = RateStatus { burst: 3, per_second: 1, remaining: 0, retry_after: None };
        assert!(require_within_limit(within).is_ok());
        let over = RateStatus { retry_after: Some(1), ..within };
        assert_eq!(require_within_limit(over).unwrap_err().code(), Code::RateLimited);
        let RateLimitHeaders([policy, state]) = over.into();
        assert_eq!(policy.1, "\"default\";q=3;w=3");
        assert_eq!(state.1, "\"default\";r=0;t=3");
    }
}
