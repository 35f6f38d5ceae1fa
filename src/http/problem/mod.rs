//! Errors of requests, and problem documents (RFC 9457).
//!
//! Handlers and extractors return [`ApiError`]. The errors middleware logs it once, with its
//! sources, and the API family renders it. The native API renders it with [`problem_response`]. To
//! add a kind of problem: a variant of [`Code`] and its row in [`Code::row`]. Its page at
//! `/problems/{name}` follows from the row.

mod code;
mod conversions;
mod document;
mod error;

pub use code::{Code, Row};
pub use document::{PROBLEM_JSON, Problem, problem_response, response_head};
pub use error::ApiError;
