//! Limits of S3 and of stores that follow it, each defined once.
//!
//! Sources: S3 user guide, "Amazon S3 multipart upload limits", "Naming Amazon S3 objects" and
//! "Download and upload objects with presigned URLs"; S3 API reference, `ListObjectsV2` and
//! `DeleteObjects`.

use chrono::TimeDelta;

/// The longest object key, in bytes.
pub const MAX_KEY_LEN: usize = 1024;

/// The largest object, in bytes: 5 TiB.
pub const MAX_OBJECT_SIZE: u64 = 5 << 40;

/// The largest single PUT, in bytes: 5 GiB.
pub const MAX_PUT_SIZE: u64 = 5 << 30;

/// The smallest size of every part except the last, in bytes: 5 MiB.
pub const MIN_PART_SIZE: u64 = 5 << 20;

/// The largest part, in bytes: 5 GiB.
pub const MAX_PART_SIZE: u64 = 5 << 30;

/// The largest number of parts of one multipart upload. Also the largest part number; numbers start
/// at 1.
pub const MAX_PARTS: u16 = 10_000;

/// The largest size of an object's metadata, names and values together, in bytes (S3 user guide,
/// "User-defined object metadata").
pub const MAX_METADATA_LEN: usize = 2048;

/// The largest number of keys in one page of a listing, and in one batch deletion.
pub const MAX_PAGE: usize = 1000;

/// The longest lifetime of a presigned request (Signature Version 4, `X-Amz-Expires`).
pub const MAX_SIGNED_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The largest clock difference that a store accepts in a signature (S3 API reference,
/// `RequestTimeTooSkewed`).
pub const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(15);
