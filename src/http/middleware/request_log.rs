//! The span, the log line and the metrics of each request.
//!
//! Paths are logged without tokens. Query strings are not logged, because they can contain search
//! terms or signed URLs.

use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::HttpMessage as _;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use tracing::field::display;
use tracing::{Instrument as _, Span};

use super::metrics;
use super::request_id::RequestId;
use super::token_prefix::LoggedPath;
use crate::domain::Principal;
use crate::http::extract::UploadCaller;
use crate::telemetry::traces::{self, REQUEST};

/// Runs a request in a span, then logs and counts its response. The time that a streamed body
/// takes is not included.
pub fn log_request<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
{
    let started = Instant::now();
    let logged = request.extensions().get::<LoggedPath>().cloned();
    let span = tracing::info_span!(
        REQUEST,
        request_id = RequestId::of(&request).as_str(),
        method = request.method().as_str(),
        path = logged.as_ref().map_or_else(|| request.path(), |logged| logged.0.as_str())
    );
    traces::continue_trace(&span, |name| request.headers().get(name)?.to_str().ok());
    let response = span.in_scope(|| service.call(request));
    let request_span = span.clone();
    let recorded = async move {
        let result = response.await;
        record(&request_span, &result, started.elapsed());
        result
    };
    recorded.instrument(span)
}

fn record<B>(span: &Span, result: &Result<ServiceResponse<B>, Error>, elapsed: Duration) {
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            let status = error.as_response_error().status_code().as_u16();
            traces::answered(span, None, None, status);
            metrics::record(None, None, status, elapsed);
            tracing::info!(status, "request completed");
            return;
        }
    };
    let request = response.request();
    let extensions = request.extensions();
    let caller = extensions.get::<UploadCaller>().map(UploadCaller::principal);
    let owner = caller.map(|caller| caller.owner().as_str());
    let token = caller.and_then(Principal::token).map(|token| display(token.id));
    let pattern = request.match_pattern();
    let route = pattern.as_deref();
    let status = response.status().as_u16();
    metrics::record(Some(request.method()), route, status, elapsed);
    // Rounded to microseconds.
    let elapsed_ms = (elapsed.as_secs_f64() * 1e6).round() / 1e3;
    if matches!(route, Some("/healthz" | "/readyz" | "/metrics")) {
        tracing::debug!(owner, route, status, elapsed_ms, "request completed");
    } else {
        tracing::info!(owner, token, route, status, elapsed_ms, "request completed");
    }
    traces::answered(span, owner, route, status);
}
