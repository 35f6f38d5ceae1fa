//! The errors of the store, and the S3 error of each.

use std::io;

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use thiserror::Error;
use tracing::Dispatch;

tokio::task_local! {
    /// The subscriber that receives the errors of the store while `s3s` runs. `s3s` itself runs
    /// without a subscriber, because its debug lines contain whole requests with signatures.
    pub(crate) static LOG: Dispatch;
}

/// Why an operation of the store failed.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("The specified bucket does not exist.")]
    NoSuchBucket,
    #[error("The specified key does not exist.")]
    NoSuchKey,
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed."
    )]
    NoSuchUpload,
    #[error("At least one of the pre-conditions you specified did not hold.")]
    PreconditionFailed,
    #[error("Your previous request to create the named bucket succeeded and you already own it.")]
    BucketExists,
    #[error("The bucket you tried to delete is not empty.")]
    BucketNotEmpty,
    #[error(
        "One or more of the specified parts could not be found. The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag."
    )]
    InvalidPart,
    #[error("The CORS configuration does not exist.")]
    NoSuchCors,
    #[error("a query of the index of objects failed")]
    Index(#[from] sqlx::Error),
    #[error("an operation on a file of the store failed")]
    Io(#[from] io::Error),
    #[error("the index of objects has an invalid value in column `{column}`")]
    Corrupt {
        column: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("a task of the store panicked or was cancelled")]
    Lost(#[from] tokio::task::JoinError),
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            StoreError::NoSuchKey => S3ErrorCode::NoSuchKey,
            StoreError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            StoreError::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            StoreError::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            StoreError::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            StoreError::InvalidPart => S3ErrorCode::InvalidPart,
            StoreError::NoSuchCors => S3ErrorCode::NoSuchCORSConfiguration,
            StoreError::Index(sqlx::Error::PoolTimedOut) => return busy(),
            error if is_full(error) => return full(error),
            StoreError::Index(_)
            | StoreError::Io(_)
            | StoreError::Corrupt { .. }
            | StoreError::Lost(_) => {
                return internal(&error);
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}

/// Whether there is no space left on the disk.
fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Io(error) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        // SQLITE_FULL
        StoreError::Index(error) => error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| code == "13"),
        _ => false,
    }
}

/// S3 has no error for this, so the code and the message are those of MinIO.
fn full(error: &StoreError) -> S3Error {
    log_chain(error, "embedded S3 has no space left");
    refuse_as("XMinioStorageFull", StatusCode::INSUFFICIENT_STORAGE, "The disk is full.")
}

fn busy() -> S3Error {
    S3Error::with_message(S3ErrorCode::SlowDown, "Please reduce your request rate.")
}

/// Logs the error with all its sources.
fn log_chain(error: &StoreError, what: &'static str) {
    let log = || {
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        tracing::error!(error = chain, "{what}");
    };
    if LOG.try_with(|dispatch| tracing::dispatcher::with_default(dispatch, log)).is_err() {
        log();
    }
}

/// Logs the cause, and returns an error that does not contain it.
fn internal(error: &StoreError) -> S3Error {
    log_chain(error, "an operation of embedded S3 failed");
    S3Error::with_message(
        S3ErrorCode::InternalError,
        "We encountered an internal error. Please try again.",
    )
}

/// An error that has no variant in [`StoreError`].
pub(crate) fn refuse(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// An error with a code that `s3s` does not know.
pub(crate) fn refuse_as(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}
