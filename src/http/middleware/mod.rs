//! What happens around every handler, from the outside in:
//!
//! 1. [`token_prefix`]: the prefix `/t/{token}` is taken off the path;
//! 2. [`request_log`]: the request's span, its log line and its metrics;
//! 3. [`preflight`]: preflight requests get the CORS rules as their response;
//! 4. [`errors`]: errors and panics become the responses of the API family, and every
//!    response gets its common headers;
//! 5. [`access`]: authentication, scope, rate limit and [`accept`] of one route.

pub mod accept;
pub mod access;
pub mod errors;
mod metrics;
pub mod preflight;
pub mod rate_limit;
pub mod request_id;
pub mod request_log;
pub mod security_headers;
pub mod token_prefix;
