//! Integration tests: one binary, one folder a subject.

#[cfg(feature = "embedded-s3")]
mod embedded_s3;
