//! The steps around `s3s` for each request: validation, CORS, forms, refusals, request id.

use std::sync::Arc;
use std::time::Duration;

use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, S3ConfigProvider, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, S3Result};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::EmbeddedS3Config;
use crate::body::SharedBody;
use crate::clock::random_name;
use crate::cors::Cors;
use crate::error::{LOG, refuse};
use crate::forms::{self, FormBegin, FormBody, FormConfig};
use crate::ops::Operations;
use crate::store::Store;
use crate::validation;
use crate::{error_body, form_location};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

#[derive(Clone)]
pub(crate) struct Middleware {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// The service for all requests except forms.
    requests: S3Service,
    forms: S3Service,
    host_domain: Option<String>,
    idle_timeout: Duration,
    refuse_conditions: bool,
}

impl Middleware {
    pub(crate) fn new(store: Store, config: &EmbeddedS3Config) -> Self {
        let service = |provider: Arc<dyn S3ConfigProvider>| {
            let mut builder = S3ServiceBuilder::new(Operations::new(store.clone()));
            builder.set_config(provider);
            builder.set_auth(OneKey {
                access_key_id: config.access_key_id.clone(),
                secret_access_key: config.secret_access_key.clone(),
            });
            if let Some(domain) = &config.host_domain {
                builder.set_host(Subdomains { domain: domain.clone() });
            }
            builder.build()
        };
        // `forms` handles the form uploads, and `requests` all other requests. With this limit,
        // `requests` refuses the file of every form.
        let mut no_forms = S3Config::default();
        no_forms.post_object_max_file_size = 0;
        let requests = service(Arc::new(StaticConfigProvider::new(Arc::new(no_forms))));
        let forms = service(Arc::new(FormConfig::new()));
        let host_domain = config.host_domain.clone();
        let idle_timeout = config.limits.idle_timeout;
        let refuse_conditions = config.refuse_conditions;
        let inner = Inner { store, requests, forms, host_domain, idle_timeout, refuse_conditions };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) async fn close(&self) {
        self.inner.store.close().await;
    }

    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let request_id = random_name().to_uppercase();
        let (parts, body) = request.into_parts();
        let rules = self.bucket_of(&parts).and_then(|bucket| self.inner.store.cors(&bucket));
        let cors = Cors::of(&parts.method, &parts.headers, rules);
        let body = SharedBody::new(body, self.inner.idle_timeout);
        // A client that sends `Expect: 100-continue` waits before it sends the body.
        let waits = parts.headers.contains_key(EXPECT);

        let result = if parts.method == Method::OPTIONS {
            cors.preflight().map(|headers| {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = headers;
                response
            })
        } else {
            match self.validate(&parts) {
                Ok(()) => self.call(parts, body.clone()).await,
                Err(error) => Err(error),
            }
        };
        let mut response = result.unwrap_or_else(|error| error_response(error, &request_id));
        if response.status().is_client_error() || response.status().is_server_error() {
            response = error_body::complete(response, &request_id).await;
        }
        if response.status().is_client_error() && !waits {
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

    fn validate(&self, parts: &Parts) -> S3Result<()> {
        if self.inner.refuse_conditions {
            validation::refuse_conditions(parts)?;
        }
        validation::check(parts, self.inner.store.region())
    }

    async fn call(&self, parts: Parts, body: SharedBody) -> S3Result<HttpResponse> {
        let form = form_type(&parts).map(str::to_owned);
        let Some(content_type) = form else {
            let request = Request::from_parts(parts, Body::http_body(body));
            return call(&self.inner.requests, request).await;
        };
        let bucket_url = form_location::bucket_url(&parts);
        let begin = Arc::new(FormBegin::new(&content_type));
        let body = FormBody::new(body, Arc::clone(&begin));
        let request = Request::from_parts(parts, Body::http_body(body));
        let (response, form) = forms::scope(begin, call(&self.inner.forms, request)).await;
        let response = response?;
        if let Some(key) = form.key {
            return Ok(form_location::complete(response, &bucket_url, &key).await);
        }
        if form.signed || response.status() != StatusCode::BAD_REQUEST {
            return Ok(response);
        }
        // An unsigned form fails because the limit of its file is zero bytes. That is not the
        // reason that the client should see.
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        if String::from_utf8_lossy(&body).contains(S3ErrorCode::EntityTooLarge.as_str()) {
            return Err(refuse(S3ErrorCode::AccessDenied, "The form is not signed."));
        }
        Ok(Response::from_parts(parts, Body::from(body)))
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

/// Calls `s3s` with its log off, because its log lines contain signatures.
async fn call(service: &S3Service, request: Request<Body>) -> S3Result<HttpResponse> {
    let log = tracing::dispatcher::get_default(Dispatch::clone);
    let call = LOG.scope(log, service.call(request));
    call.with_subscriber(NoSubscriber::default()).await.map_err(|error| {
        tracing::error!(error = ?error, "embedded S3 could not write a response");
        refuse(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
    })
}

/// The content type of a form; `None` for another request.
fn form_type(parts: &Parts) -> Option<&str> {
    const FORM: &str = "multipart/form-data";
    let content_type = parts.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    let is_form = content_type.get(..FORM.len())?.eq_ignore_ascii_case(FORM);
    (is_form && parts.method == Method::POST).then_some(content_type)
}

fn error_response(mut error: S3Error, request_id: &str) -> HttpResponse {
    error.set_request_id(request_id);
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// The only access key of this server.
struct OneKey {
    access_key_id: String,
    secret_access_key: SecretString,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key_id {
            forms::key_is_known();
            return Ok(SecretKey::from(self.secret_access_key.expose_secret()));
        }
        Err(refuse(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        ))
    }
}

/// A host `bucket.domain` is the address of a bucket. Every other host is path style.
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
