//! The middleware around every handler, from the outside to the inside:
//!
//! 1. [`token_prefix`]: the prefix `/t/{token}` is removed from the path;
//! 2. [`request_log`]: the request's span, its log line and its metrics;
//! 3. [`preflight`]: the CORS rules respond to preflight requests;
//! 4. [`errors`]: errors and panics become the responses of the API family, and every response gets
//!    its common headers;
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
