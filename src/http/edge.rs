//! Around every request: its id and span, its one log line, problems rendered, panics
//! caught.
//!
//! Paths are logged, query strings never: they carry cursors and searches, and clients
//! paste signed URLs into them.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span};

use super::extract::Caller;
use super::meter;
use super::problem::{ApiError, Code};
use super::rate_limit::RateLimitHeaders;
use super::request_id::RequestId;
use super::security::harden;
use crate::telemetry::chain;
use crate::telemetry::traces::{self, REQUEST};

/// Puts a request into the span that its log lines are in, and logs and counts its answer. A body
/// that is streamed is outside of it.
pub fn traced<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
{
    let started = Instant::now();
    let span = tracing::info_span!(
        REQUEST,
        request_id = RequestId::of(&request).as_str(),
        method = request.method().as_str(),
        path = request.path()
    );
    traces::continue_trace(&span, |name| request.headers().get(name)?.to_str().ok());
    let answer = span.in_scope(|| service.call(request));
    let request_span = span.clone();
    let noted = async move {
        let outcome = answer.await;
        note(&request_span, &outcome, started.elapsed());
        outcome
    };
    noted.instrument(span)
}

fn note<B>(span: &Span, outcome: &Result<ServiceResponse<B>, Error>, took: Duration) {
    let response = match outcome {
        Ok(response) => response,
        Err(error) => {
            let status = error.as_response_error().status_code().as_u16();
            traces::answered(span, None, None, status);
            meter::note(None, None, status, took);
            tracing::info!(status, "answered");
            return;
        }
    };
    let request = response.request();
    let extensions = request.extensions();
    let owner = extensions.get::<Caller>().map(|caller| caller.owner.as_str());
    let pattern = request.match_pattern();
    let route = pattern.as_deref();
    let status = response.status().as_u16();
    meter::note(Some(request.method()), route, status, took);
    // To the microsecond.
    let elapsed_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
    if matches!(route, Some("/healthz" | "/readyz" | "/metrics")) {
        tracing::debug!(owner, route, status, elapsed_ms, "answered");
    } else {
        tracing::info!(owner, route, status, elapsed_ms, "answered");
    }
    traces::answered(span, owner, route, status);
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
            let mut response = match problem {
                Some(problem) => response.into_response(problem),
                None => response.map_into_boxed_body(),
            };
            let (name, value) = id.header();
            response.headers_mut().insert(name, value);
            let rates = response.request().extensions().get::<RateLimitHeaders>().cloned();
            for (name, value) in rates.into_iter().flat_map(|rates| rates.0) {
                response.headers_mut().insert(name, value);
            }
            let https = response.request().app_config().secure();
            harden(response.headers_mut(), https);
            Ok(response)
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

fn log(error: &ApiError) {
    let error_chain = chain(error);
    if error.code().status().is_server_error() {
        tracing::error!(error = error_chain, "request failed");
    } else {
        tracing::debug!(error = error_chain, "request refused");
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;
    use crate::telemetry::captured::Captured;

    async fn failing() -> Result<HttpResponse, ApiError> {
        tracing::info!("inside");
        let inner = std::io::Error::other("the disk is full");
        Err(ApiError::new(Code::Internal).because(crate::app::AppError::from(
            crate::storage::StoreError::Unavailable(Box::new(inner)),
        )))
    }

    /// The answer's status, and what was logged of a GET of `path`.
    async fn logged(path: &str) -> (u16, String, String) {
        let log = Captured::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let app = init_service(
            App::new()
                .route("/panic", web::get().to(async || -> HttpResponse { panic!("a secret") }))
                .route("/fail", web::get().to(failing))
                .wrap(from_fn(edge))
                .wrap_fn(traced),
        )
        .await;
        let request = TestRequest::get().uri(path).insert_header(("x-request-id", "id-1"));
        let response = match try_call_service(&app, request.to_request()).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        };
        assert_eq!(response.headers().get("x-request-id").unwrap(), "id-1");
        let status = response.status().as_u16();
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let log = log.text();
        (status, String::from_utf8(body.to_vec()).unwrap(), log)
    }

    #[actix_web::test]
    async fn a_panic_is_a_500_that_says_nothing() {
        let (status, body, log) = logged("/panic").await;
        assert_eq!(status, 500);
        assert!(body.contains("/problems/internal") && body.contains("\"request_id\":\"id-1\""));
        assert!(!body.contains("secret") && log.contains("a secret"));
    }

    #[actix_web::test]
    async fn the_whole_chain_is_logged_once_and_never_answered() {
        let (status, body, log) = logged("/fail").await;
        assert_eq!(status, 500);
        assert!(!body.contains("disk"), "{body}");
        assert_eq!(log.matches("the disk is full").count(), 1, "{log}");
    }

    #[actix_web::test]
    async fn every_line_has_the_request_id_and_none_the_query() {
        let (_, _, log) = logged("/fail?X-Amz-Signature=secret").await;
        let ours = log.lines().filter(|line| line.contains("upload_coordinator"));
        let (all, with_id) = ours.fold((0, 0), |(all, with_id), line| {
            (all + 1, with_id + usize::from(line.contains("id-1")))
        });
        assert!(all >= 3 && all == with_id, "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}
