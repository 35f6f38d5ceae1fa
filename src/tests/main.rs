//! The integration tests: one binary with one module for each subject.
//!
//! To add a subject: a folder here and a line below. Tests use the helpers of [`support`]. Each
//! test has its own database, bucket prefix and ports.

#![allow(clippy::unwrap_used, reason = "the helpers of tests stand outside of test functions")]

mod end_to_end;
mod http;
mod reconcile_oracle;
mod sample_record;
mod signals;
mod storage;
mod support;
mod telemetry;
mod use_cases;
