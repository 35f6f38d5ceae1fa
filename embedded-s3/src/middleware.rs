//! What happens around `s3s` for each request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use percent_encoding::percent_decode_str;
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, S3Result};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::EmbeddedS3Config;
use crate::clock::random_name;
use crate::cors::Cors;
use crate::error::{LOG, refuse};
use crate::ops::Operations;
use crate::store::Store;
use crate::validation;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// `s3s` gathers the file of a form upload in memory, so forms have a limit of their own.
const MAX_FORM_FILE: u64 = 512 * 1024 * 1024;

/// A form is valid until its policy expires; `s3s` bounds its age by the clock skew that
/// it allows for other requests. Seven days is what S3 lets any signature live.
const FORM_MAX_AGE_SECONDS: u32 = 7 * 24 * 60 * 60;

/// How much of the body of a refused request is read and thrown away. A client that is
/// still sending when the connection closes sees a reset instead of the refusal.
const MAX_DRAIN: usize = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Middleware {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Everything but forms.
    requests: S3Service,
    forms: S3Service,
    host_domain: Option<String>,
}

impl Middleware {
    pub(crate) fn new(store: Store, config: &EmbeddedS3Config) -> Self {
        let service = |change: fn(&mut S3Config)| {
            let mut s3_config = S3Config::default();
            s3_config.post_object_max_file_size = MAX_FORM_FILE;
            change(&mut s3_config);
            let mut builder = S3ServiceBuilder::new(Operations::new(store.clone()));
            builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(s3_config))));
            builder.set_auth(OneKey {
                access_key_id: config.access_key_id.clone(),
                secret_access_key: config.secret_access_key.clone(),
            });
            if let Some(domain) = &config.host_domain {
                builder.set_host(Subdomains { domain: domain.clone() });
            }
            builder.build()
        };
        let requests = service(|_| {});
        let forms = service(|c| c.presigned_url_max_skew_time_secs = FORM_MAX_AGE_SECONDS);
        let host_domain = config.host_domain.clone();
        Self { inner: Arc::new(Inner { store, requests, forms, host_domain }) }
    }

    pub(crate) async fn close(&self) {
        self.inner.store.close().await;
    }

    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let request_id = random_name().to_uppercase();
        let (parts, body) = request.into_parts();
        let rules = self.bucket_of(&parts).and_then(|bucket| self.inner.store.cors(&bucket));
        let cors = Cors::of(&parts.method, &parts.headers, rules);
        let body = SharedBody { inner: Arc::new(Mutex::new(body)) };
        let invited = !parts.headers.contains_key(EXPECT);

        let answer = if parts.method == Method::OPTIONS {
            cors.preflight().map(|headers| {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = headers;
                response
            })
        } else {
            match validation::check(&parts, self.inner.store.region()) {
                Ok(()) => self.call(parts, body.clone()).await,
                Err(error) => Err(error),
            }
        };
        let mut response = answer.unwrap_or_else(|error| error_response(error, &request_id));
        if response.status().is_client_error() && invited {
            body.drain().await;
        }
        if response.status() == StatusCode::NOT_MODIFIED {
            *response.body_mut() = Body::empty();
        }
        let headers = response.headers_mut();
        cors.decorate(headers);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            headers.insert(REQUEST_ID, value);
        }
        response
    }

    async fn call(&self, parts: Parts, body: SharedBody) -> S3Result<HttpResponse> {
        let is_form = parts.method == Method::POST
            && parts
                .headers
                .get(http::header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"multipart/form-data"));
        let service = if is_form { &self.inner.forms } else { &self.inner.requests };
        let request = Request::from_parts(parts, Body::http_body(body));
        let log = tracing::dispatcher::get_default(Dispatch::clone);
        let call = LOG.scope(log, service.call(request));
        call.with_subscriber(NoSubscriber::default()).await.map_err(|error| {
            tracing::error!(error = ?error, "embedded S3 could not write an answer");
            refuse(S3ErrorCode::InternalError, "We encountered an internal error.")
        })
    }

    /// The bucket that a request addresses, for its CORS configuration.
    fn bucket_of(&self, parts: &Parts) -> Option<String> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        if let (Some(domain), Some(host)) = (&self.inner.host_domain, host)
            && let Some(bucket) = subdomain(host, domain)
        {
            return Some(bucket.to_owned());
        }
        let first = parts.uri.path().trim_start_matches('/').split('/').next()?;
        Some(percent_decode_str(first).decode_utf8().ok()?.into_owned())
    }
}

fn error_response(mut error: S3Error, request_id: &str) -> HttpResponse {
    error.set_request_id(request_id);
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// A request's body that is still reachable once `s3s` has dropped it.
#[derive(Clone)]
struct SharedBody {
    inner: Arc<Mutex<Incoming>>,
}

impl SharedBody {
    async fn drain(mut self) {
        let reading = async {
            let mut read = 0;
            while read < MAX_DRAIN
                && let Some(Ok(frame)) = self.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // Whoever sends slower than this gets the reset.
        let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// The one key pair that this server knows.
struct OneKey {
    access_key_id: String,
    secret_access_key: SecretString,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key_id {
            return Ok(SecretKey::from(self.secret_access_key.expose_secret()));
        }
        Err(refuse(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        ))
    }
}

/// `bucket.domain` names a bucket; every other host is path style.
struct Subdomains {
    domain: String,
}

impl S3Host for Subdomains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(self.domain.as_str());
        Ok(match subdomain(host, &self.domain) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

fn subdomain<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    name.strip_suffix(domain)?.strip_suffix('.').filter(|bucket| !bucket.is_empty())
}
