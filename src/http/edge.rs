//! Around every request: its id and span, its one log line, problems rendered, panics
//! caught.
//!
//! Paths are logged, query strings never: they carry cursors and searches, and clients
//! paste signed URLs into them.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use futures_util::FutureExt as _;
use tracing::field::Empty;
use tracing_actix_web::RootSpanBuilder;

use super::problem::{ApiError, Code};
use super::request_id::RequestId;

/// When a request came in.
struct Started(Instant);

/// Makes the span that every log line of a request is in.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> tracing::Span {
        request.extensions_mut().insert(Started(Instant::now()));
        tracing::info_span!("request", request_id = %RequestId::of(request),
            method = %request.method(), path = request.path(), route = Empty)
    }

    fn on_request_end<B: MessageBody>(
        span: tracing::Span,
        outcome: &Result<ServiceResponse<B>, Error>,
    ) {
        let _in = span.enter();
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                let status = error.as_response_error().status_code().as_u16();
                tracing::info!(status, "answered");
                return;
            }
        };
        let request = response.request();
        let route = request.match_pattern().unwrap_or_default();
        let status = response.status().as_u16();
        let elapsed = request.extensions().get::<Started>().map(|started| started.0.elapsed());
        let elapsed_ms = elapsed.map(|elapsed| elapsed.as_secs_f64() * 1000.0);
        span.record("route", &route);
        if matches!(route.as_str(), "/healthz" | "/readyz") {
            tracing::debug!(status, elapsed_ms, "answered");
        } else {
            tracing::info!(status, elapsed_ms, "answered");
        }
    }
}

/// Turns errors into problems, and panics into problems that say nothing.
pub async fn edge<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = RequestId::of(&request);
    // Nothing that a panic leaves half done is looked at again: the request is dropped.
    let answer = AssertUnwindSafe(async move { next.call(request).await }).catch_unwind().await;
    match answer {
        Ok(Ok(response)) => {
            let problem = response.response().error().map(|error| rendered(error, &id));
            Ok(match problem {
                Some(problem) => response.into_response(problem),
                None => {
                    let mut response = response.map_into_boxed_body();
                    let (name, value) = id.header();
                    response.headers_mut().insert(name, value);
                    response
                }
            })
        }
        Ok(Err(error)) => {
            let own = ApiError::foreign(&error).of_request(id);
            log(&own);
            Err(own.into())
        }
        Err(panic) => {
            tracing::error!(panic = words(panic.as_ref()), "a handler panicked");
            Err(ApiError::new(Code::Internal).of_request(id).into())
        }
    }
}

fn rendered(error: &Error, id: &RequestId) -> actix_web::HttpResponse<BoxBody> {
    if let Some(own) = error.as_error::<ApiError>() {
        log(own);
        own.render(Some(id))
    } else {
        let own = ApiError::foreign(error);
        log(&own);
        own.render(Some(id))
    }
}

/// The whole chain, once.
fn log(error: &ApiError) {
    let chain = error as &dyn std::error::Error;
    if error.code().status().is_server_error() {
        tracing::error!(error = chain, "request failed");
    } else {
        tracing::debug!(error = chain, "request refused");
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}
