//! The problem document (RFC 9457) of an error.

use std::collections::BTreeMap;

use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::code::Row;
use super::error::ApiError;
use crate::http::middleware::request_id::RequestId;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/validation", "title": "The input is invalid", "status": 400,
    "detail": "title: Must be at most 100 characters long",
    "request_id": "0190a6f2-7b3c-7def-8123-456789abcdef",
    "errors": {"title": ["Must be at most 100 characters long"]},
}))]
pub struct Problem {
    /// A stable reference for the kind of problem, such as `/problems/validation`.
    #[serde(rename = "type")]
    kind: String,
    /// A short summary of the kind of problem.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A sentence about this occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    /// The id of the request, which is also in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<String>,
    /// For invalid input: messages by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<BTreeMap<String, Vec<String>>>,
    /// Members of some kinds, such as `run_id`.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

impl Problem {
    /// The document of an error, with the id of the request.
    pub fn new(error: &ApiError, id: Option<&RequestId>) -> Self {
        let Row { name, status, title, .. } = error.code().row();
        Self {
            kind: format!("/problems/{name}"),
            title,
            status: status.as_u16(),
            detail: error.sentence(),
            request_id: id.map(ToString::to_string),
            errors: error.field_errors().map(|errors| errors.0.clone()),
            more: error.members().clone(),
        }
    }
}

/// The status and the headers of the response to a failed request, in any wire format.
pub fn response_head(error: &ApiError) -> HttpResponseBuilder {
    let Row { status, retry_after, .. } = error.code().row();
    let mut response = HttpResponse::build(status);
    if let Some(seconds) = retry_after {
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    for (name, value) in error.headers() {
        response.insert_header((name.clone(), value.clone()));
    }
    response
}

/// The response with the problem document of an error.
pub fn problem_response(error: &ApiError, id: Option<&RequestId>) -> HttpResponse {
    let mut response = response_head(error);
    let body = serde_json::to_vec(&Problem::new(error, id)).unwrap_or_default();
    response.content_type(PROBLEM_JSON).body(body)
}
