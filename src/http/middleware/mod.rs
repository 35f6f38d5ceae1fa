//! What happens around every handler, from the outside in:
//!
//! 1. [`request_log`]: the request's span, its log line and its metrics;
//! 2. [`preflight`]: preflight requests get the CORS rules as their response;
//! 3. [`errors`]: errors and panics become the responses of the API family, and every
//!    response gets its common headers;
//! 4. [`access`]: authentication, scope, rate limit and [`accept`] of one route.

pub mod accept;
pub mod access;
pub mod errors;
mod metrics;
pub mod preflight;
pub mod rate_limit;
pub mod request_id;
pub mod request_log;
pub mod security_headers;
