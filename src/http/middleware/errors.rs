//! Converts errors and panics to responses of an API family, and adds the common headers to every
//! response.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpResponse};
use futures_util::FutureExt as _;

use super::rate_limit::RateLimitHeaders;
use super::request_id::RequestId;
use super::security_headers::add_security_headers;
use crate::http::HttpState;
use crate::http::family::ApiFamily;
use crate::http::problem::{ApiError, Code};
use crate::telemetry::chain;

/// Renders errors by the family, turns a panic into an internal error without details, and adds
/// the common headers.
pub async fn handle_errors<B: MessageBody + 'static>(
    family: Arc<dyn ApiFamily>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = RequestId::of(&request);
    let https = request.app_config().secure();
    let state = request.app_data::<Data<HttpState>>().cloned();
    let render = |error: &Error| {
        let full = error.as_error::<ApiError>().is_some_and(|e| e.code() == Code::StorageFull);
        if let Some(state) = state.as_ref().filter(|_| full) {
            state.app.db.record_full_disk();
        }
        render(&*family, error, &id)
    };
    // The request is dropped after a panic, so no code sees an inconsistent value.
    let result = AssertUnwindSafe(async move { next.call(request).await }).catch_unwind().await;
    let error = match result {
        Ok(Ok(response)) => {
            let rendered = response.response().error().map(&render);
            let mut response = match rendered {
                Some(rendered) => response.into_response(rendered),
                None => response.map_into_boxed_body(),
            };
            let headers = response.request().extensions().get::<RateLimitHeaders>().cloned();
            for (name, value) in headers.into_iter().flat_map(|headers| headers.0) {
                response.headers_mut().insert(name, value);
            }
            add_common_headers(response.response_mut(), &id, https);
            return Ok(response);
        }
        Ok(Err(error)) => error,
        Err(panic) => {
            tracing::error!(panic = panic_message(panic.as_ref()), "a handler panicked");
            ApiError::new(Code::Internal).into()
        }
    };
    // A `ServiceResponse` needs the request, which was moved. So the response is returned in an
    // error.
    let mut rendered = render(&error);
    add_common_headers(&mut rendered, &id, https);
    Err(InternalError::from_response(error, rendered).into())
}

/// Renders an error, and logs it with all its sources.
fn render(family: &dyn ApiFamily, error: &Error, id: &RequestId) -> HttpResponse {
    let foreign;
    let error = if let Some(error) = error.as_error::<ApiError>() {
        error
    } else {
        foreign = ApiError::from_library(error);
        &foreign
    };
    let error_chain = chain(error);
    if error.code().status().is_server_error() {
        tracing::error!(error = error_chain, "request failed");
    } else {
        tracing::debug!(error = error_chain, "request refused");
    }
    family.render(error, id)
}

fn add_common_headers(response: &mut HttpResponse, id: &RequestId, https: bool) {
    let (name, value) = id.header();
    response.headers_mut().insert(name, value);
    add_security_headers(response.headers_mut(), https);
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;
    use crate::http::api::NativeApi;
    use crate::http::middleware::request_log::log_request;
    use crate::telemetry::captured::Captured;

    async fn failing() -> Result<HttpResponse, ApiError> {
        tracing::info!("inside");
        let inner = std::io::Error::other("the disk is full");
        Err(ApiError::new(Code::Internal).because(crate::app::AppError::from(
            crate::storage::StoreError::Unavailable(Box::new(inner)),
        )))
    }

    /// The status and body of a GET of `path`, and the log.
    async fn logged(path: &str) -> (u16, String, String) {
        let log = Captured::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let family: Arc<dyn ApiFamily> = Arc::new(NativeApi::default());
        let app = init_service(
            App::new()
                .route("/panic", web::get().to(async || -> HttpResponse { panic!("a secret") }))
                .route("/fail", web::get().to(failing))
                .wrap(from_fn(move |request, next| {
                    handle_errors(Arc::clone(&family), request, next)
                }))
                .wrap_fn(log_request),
        )
        .await;
        let request = TestRequest::get().uri(path).insert_header(("x-request-id", "id-1"));
        let response = match try_call_service(&app, request.to_request()).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        };
        assert_eq!(response.headers().get("x-request-id").unwrap(), "id-1");
        assert_eq!(response.headers().get("x-content-type-options").unwrap(), "nosniff");
        let status = response.status().as_u16();
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let log = log.text();
        (status, String::from_utf8(body.to_vec()).unwrap(), log)
    }

    #[actix_web::test]
    async fn a_panic_is_a_500_without_details() {
        let (status, body, log) = logged("/panic").await;
        assert_eq!(status, 500);
        assert!(body.contains("/problems/internal") && body.contains("\"request_id\":\"id-1\""));
        assert!(!body.contains("secret") && log.contains("a secret"));
    }

    #[actix_web::test]
    async fn the_error_chain_is_logged_once_and_is_not_in_the_response() {
        let (status, body, log) = logged("/fail").await;
        assert_eq!(status, 500);
        assert!(!body.contains("disk"), "{body}");
        assert_eq!(log.matches("the disk is full").count(), 1, "{log}");
    }

    #[actix_web::test]
    async fn every_log_line_has_the_request_id_and_none_has_the_query() {
        let (_, _, log) = logged("/fail?X-Amz-Signature=secret").await;
        let ours = log.lines().filter(|line| line.contains("upload_coordinator"));
        let (all, with_id) = ours.fold((0, 0), |(all, with_id), line| {
            (all + 1, with_id + usize::from(line.contains("id-1")))
        });
        assert!(all >= 3 && all == with_id, "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}
