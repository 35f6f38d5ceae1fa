//! The errors of use cases as [`ApiError`]s.

use super::code::Code;
use super::error::ApiError;
use crate::app::AppError;
use crate::app::tus::TusError;
use crate::db::DbError;
use crate::domain::transition::TransitionError;
use crate::domain::upload_token::TokenError;
use crate::reconcile::{CancelError, StartError};
use crate::storage::StoreError;
use crate::storage::signer::SignError;

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        let code = match &error {
            DbError::OverQuota { .. } => {
                return Self::saying(Code::QuotaExceeded, error.to_string());
            }
            DbError::Token(refused) => return refused.clone().into(),
            DbError::Unavailable(_) | DbError::Busy => Code::Unavailable,
            DbError::Full(_) => Code::StorageFull,
            DbError::Statement(_)
            | DbError::Corrupt { .. }
            | DbError::Clock
            | DbError::NewerSchema
            | DbError::Url(_) => Code::Internal,
        };
        Self::new(code).because(error)
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::NotFound(what) => Self::saying(Code::NotFound, format!("No such {what}")),
            AppError::Invalid(errors) => errors.into(),
            AppError::MediaType(detail) => Self::saying(Code::MediaType, detail),
            AppError::NotArrived => Self::saying(Code::NotArrived, error.to_string()),
            AppError::Parts(parts) => Self::saying(Code::PartsIncomplete, parts.to_string())
                .with("missing", parts.missing)
                .with("wrong", parts.wrong.iter().map(|part| part.number).collect::<Vec<_>>())
                .with("unexpected", parts.unexpected),
            AppError::PartsGone => Self::saying(Code::PartsGone, error.to_string()),
            AppError::FilePending | AppError::FileInspecting => {
                Self::saying(Code::FilePending, error.to_string())
            }
            AppError::State(
                state @ (TransitionError::NotAttachable(_) | TransitionError::AttachedElsewhere),
            ) => Self::saying(Code::NotAttachable, state.to_string()),
            AppError::State(state) => Self::saying(Code::State, state.to_string()),
            AppError::KeyMismatch => Self::saying(Code::KeyMismatch, error.to_string()),
            AppError::KeyInFlight => Self::saying(Code::KeyInFlight, error.to_string()),
            AppError::TooManyWaiters => Self::saying(Code::TooManyWaiters, error.to_string()),
            AppError::ShareOfWaiters(share) => {
                Self::over_owner_limit(share, "waiting requests per owner")
            }
            AppError::Contended => Self::saying(Code::Contended, error.to_string()),
            AppError::RunMayDelete => Self::saying(Code::State, error.to_string()),
            AppError::UploadEnded => Self::saying(Code::Ended, error.to_string()),
            AppError::Body(detail) => Self::saying(Code::BadRequest, detail),
            AppError::Disabled(detail) => Self::saying(Code::Disabled, detail),
            AppError::BucketMismatch(_) => Self::saying(Code::BucketMismatch, error.to_string()),
            AppError::Token(refused) => refused.into(),
            AppError::Tus(refused) => {
                let code = match &refused {
                    TusError::Offset { .. } => Code::State,
                    TusError::Busy => Code::Contended,
                    TusError::TooLong { .. } => Code::TooLarge,
                    TusError::Checksum => return Self::field("checksum", refused.to_string()),
                    TusError::Ended(_) => Code::Ended,
                };
                Self::saying(code, refused.to_string())
            }
            AppError::Unconfigured(_) => Self::new(Code::Internal).because(error),
            AppError::StoreUnconfigured { ref store, .. } => {
                let detail = format!("The file is in `storage.{store}`, which is not configured");
                Self::saying(Code::StoreUnconfigured, detail).because(error)
            }
            AppError::Db(error) => error.into(),
            AppError::Store(error) => {
                let code = match &error {
                    StoreError::Unavailable(_) => Code::Unavailable,
                    StoreError::Full(_) => Code::StorageFull,
                    // The multipart upload is aborted when its upload ends.
                    StoreError::NoSuchMultipart => Code::Ended,
                    StoreError::PreconditionFailed
                    | StoreError::NoSuchBucket
                    | StoreError::AccessDenied(_)
                    | StoreError::Refused { .. }
                    | StoreError::Protocol(_)
                    | StoreError::Body(_) => Code::Store,
                };
                Self::new(code).because(error)
            }
            AppError::Sign(error) => {
                let code = match &error {
                    SignError::Expiry
                    | SignError::Credentials(_)
                    | SignError::CredentialsExpired
                    | SignError::CredentialsRefused => Code::Unavailable,
                    // Use cases refuse such requests earlier, with a more specific message.
                    SignError::Unsupported(_) => Code::BadRequest,
                    SignError::Key(_) | SignError::Header(_) | SignError::PartNumber => {
                        Code::Internal
                    }
                };
                Self::new(code).because(error)
            }
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unknown | TokenError::Expired => {
                Self::unauthorized(error.to_string(), true)
            }
            TokenError::Exhausted(_) => Self::saying(Code::TokenExhausted, error.to_string()),
            TokenError::OtherPolicy(_) | TokenError::OtherSubject(_) | TokenError::NoSubject => {
                Self::saying(Code::Forbidden, error.to_string())
            }
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Held(id) => Self::saying(
                Code::RunActive,
                "A run of this mode and policy is active; wait until it ends, or cancel it",
            )
            .with("run_id", id.to_string()),
            // Does not occur in a request: only scheduled runs return this error.
            StartError::Taken => Self::saying(Code::RunActive, error.to_string()),
            StartError::App(error) => error.into(),
        }
    }
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Ended(_) => Self::saying(Code::State, error.to_string()),
            CancelError::App(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use serde_json::Value;

    use super::*;
    use crate::domain::{PolicyName, RunId};
    use crate::http::problem::code::Row;
    use crate::http::problem::document::problem_response;

    #[test]
    fn every_error_has_its_status_and_problem_type() {
        let broken = || {
            Box::new(std::io::Error::other("secret")) as Box<dyn std::error::Error + Send + Sync>
        };
        for (error, status, name) in [
            (AppError::NotFound("track"), 404, "not-found"),
            (AppError::field("size", "File is empty"), 400, "validation"),
            (AppError::MediaType("no".into()), 415, "unsupported-media-type"),
            (AppError::NotArrived, 409, "not-arrived"),
            (AppError::FilePending, 409, "file-pending"),
            (AppError::FileInspecting, 409, "file-pending"),
            (AppError::Contended, 503, "contended"),
            (AppError::UploadEnded, 409, "upload-ended"),
            (AppError::RunMayDelete, 409, "state-conflict"),
            (AppError::Body("broke off".into()), 400, "bad-request"),
            (AppError::Disabled("off"), 403, "disabled"),
            (AppError::BucketMismatch(PolicyName::default()), 503, "bucket-mismatch"),
            (AppError::Unconfigured("secret".into()), 500, "internal"),
            (
                AppError::StoreUnconfigured { store: "old".into(), bucket: "secret".into() },
                503,
                "store-unconfigured",
            ),
            (DbError::Clock.into(), 500, "internal"),
            (DbError::Url("secret".into()).into(), 500, "internal"),
            (StoreError::Unavailable(broken()).into(), 503, "unavailable"),
            (StoreError::AccessDenied(broken()).into(), 502, "store-error"),
            (StoreError::Protocol("secret".into()).into(), 502, "store-error"),
            (StoreError::NoSuchMultipart.into(), 409, "upload-ended"),
            (StoreError::Full(broken()).into(), 503, "storage-full"),
            (SignError::CredentialsRefused.into(), 503, "unavailable"),
            (SignError::CredentialsExpired.into(), 503, "unavailable"),
            (SignError::Header("secret".into()).into(), 500, "internal"),
        ] {
            let error = ApiError::from(error);
            let Row { name: kind, status: found, retry_after, .. } = error.code().row();
            assert_eq!((kind, found.as_u16()), (name, status));
            let response = problem_response(&error, None);
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
            assert_eq!(retry_after.is_some(), status == 503);
            let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_active_run_is_named() {
        let id = RunId(uuid::Uuid::nil());
        let response = problem_response(&ApiError::from(StartError::Held(id)), None);
        assert_eq!(response.status(), StatusCode::CONFLICT);
        let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["type"], &body["run_id"]),
            (&"/problems/run-active".into(), &id.to_string().into())
        );
    }
}
