//! Every refusal of the store, and the S3 error that it becomes.

use std::io;

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use thiserror::Error;
use tracing::Dispatch;

tokio::task_local! {
    /// Where an inner fault is logged. `s3s` itself runs with logging off, because its
    /// debug lines carry whole requests, signatures included.
    pub(super) static LOG: Dispatch;
}

/// Why the store did not do what it was asked for.
#[derive(Debug, Error)]
pub(super) enum Fault {
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
    #[error("the index of objects failed")]
    Index(#[from] sqlx::Error),
    #[error("a file of the store failed")]
    Io(#[from] io::Error),
    #[error("the index of objects holds a value of `{column}` that it should not")]
    Corrupt {
        column: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("a task of the store ended early")]
    Lost(#[from] tokio::task::JoinError),
}

impl From<Fault> for S3Error {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Fault::NoSuchKey => S3ErrorCode::NoSuchKey,
            Fault::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Fault::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            Fault::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Fault::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Fault::InvalidPart => S3ErrorCode::InvalidPart,
            Fault::NoSuchCors => S3ErrorCode::NoSuchCORSConfiguration,
            Fault::Index(sqlx::Error::PoolTimedOut) => return busy(),
            Fault::Index(_) | Fault::Io(_) | Fault::Corrupt { .. } | Fault::Lost(_) => {
                return internal(&fault);
            }
        };
        S3Error::with_message(code, fault.to_string())
    }
}

fn busy() -> S3Error {
    S3Error::with_message(S3ErrorCode::SlowDown, "Please reduce your request rate.")
}

/// Logs the whole chain here, at the edge, and tells the client nothing of it.
fn internal(fault: &Fault) -> S3Error {
    let log = || {
        let mut chain = fault.to_string();
        let mut source = std::error::Error::source(fault);
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        tracing::error!(error = chain, "embedded S3 failed inside");
    };
    if LOG.try_with(|dispatch| tracing::dispatcher::with_default(dispatch, log)).is_err() {
        log();
    }
    S3Error::with_message(
        S3ErrorCode::InternalError,
        "We encountered an internal error. Please try again.",
    )
}

/// A refusal that needs no name of its own.
pub(super) fn refuse(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// The same for a code that `s3s` has no name for.
pub(super) fn refuse_as(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}
