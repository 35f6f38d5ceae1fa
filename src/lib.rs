//! lib

#[cfg(feature = "embedded-s3")]
pub mod embedded_s3;
