//! The results of requests about many uploads.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::UploadView;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, Problem};
use crate::telemetry::chain;

/// The results of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResults)]
pub struct BatchResultsView {
    /// One result for each item, in their order.
    pub results: Vec<BatchResultView>,
}

/// The result of one item of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResult)]
pub struct BatchResultView {
    /// The HTTP status that a separate request for this item would return.
    #[schema(example = 201)]
    pub status: u16,
    /// The upload, if the item succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub upload: Option<UploadView>,
    /// The error, if the item failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<Problem>,
}

impl BatchResultsView {
    /// The results; `success` is the status of the items that succeeded. A failure of the service
    /// is logged here, because the errors middleware sees only the whole response.
    pub fn of(
        results: impl Iterator<Item = Result<UploadView, ApiError>>,
        success: StatusCode,
        request: &RequestId,
    ) -> Self {
        let view = |result: Result<UploadView, ApiError>| match result {
            Ok(upload) => {
                BatchResultView { status: success.as_u16(), upload: Some(upload), problem: None }
            }
            Err(error) => {
                let status = error.code().status();
                if status.is_server_error() {
                    tracing::error!(error = chain(&error), "an item of a batch failed");
                }
                let problem = Some(Problem::new(&error, Some(request)));
                BatchResultView { status: status.as_u16(), upload: None, problem }
            }
        };
        Self { results: results.map(view).collect() }
    }
}
