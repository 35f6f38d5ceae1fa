//! The server's sources of time and of random names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::Timestamp;
use uuid::Uuid;

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the server replaces a remote S3 store, which has its own clock"
)]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A unique name that cannot be guessed.
#[expect(clippy::disallowed_methods, reason = "blob names and request ids belong to this server")]
pub(crate) fn random_name() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A name whose byte order is the order of creation, with a precision of one millisecond.
#[expect(clippy::disallowed_methods, reason = "multipart upload ids belong to this server")]
pub(crate) fn ordered_name() -> String {
    Uuid::now_v7().simple().to_string()
}

/// A stored time in the format of the protocol.
pub(crate) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// A stored time in whole seconds, as in headers.
pub(crate) fn timestamp_seconds(ms: i64) -> Timestamp {
    timestamp(ms - ms.rem_euclid(1000))
}
