//! The integration tests: one binary, one module a subject.
//!
//! To add a subject: a folder here and a line below. Tests take what they need from
//! [`support`]; each has its own database, bucket prefix and ports.
#![expect(clippy::missing_panics_doc, missing_docs, reason = "these are tests")]

mod support;
mod use_cases;
