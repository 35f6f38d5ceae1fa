//! Traces, if a collector is configured. One span for each request is sent by OTLP in the
//! background. Its attributes follow OpenTelemetry's conventions for HTTP servers.
//!
//! Only [`REQUEST`] spans are sent, not other spans or log lines. They have the same fields as the
//! log lines of the request: no queries, headers or bodies.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// The name of a request's span.
pub const REQUEST: &str = "request";

const OWNER: &str = "enduser.id";
const ROUTE: &str = "http.route";
const STATUS_CODE: &str = "http.response.status_code";

/// The names of fields: in log lines, and in OpenTelemetry.
const NAMES: [(&str, &str); 3] =
    [("method", "http.request.method"), ("path", "url.path"), ("request_id", "request.id")];

/// How long the process waits at its end for spans that are not sent yet.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Why the collector can't be used.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.otlp_endpoint can't be used")]
pub struct TracesError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Sends spans to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Creates the exporter. It sends spans to `/v1/traces` below `endpoint`. The standard `OTEL_*`
    /// variables for headers, sampling, batches and the resource are used.
    pub fn new(endpoint: &Url, client: impl HttpClient + 'static) -> Result<Self, TracesError> {
        let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint)
            .build()?;
        let resource = Resource::builder();
        let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
        let resource =
            if named { resource } else { resource.with_service_name(env!("CARGO_PKG_NAME")) };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(Conventional(exporter))
            .build();
        Ok(Self(provider))
    }

    /// The layer that records spans.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(env!("CARGO_PKG_NAME")))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.name() == REQUEST))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WAIT) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

/// Makes the span of a request continue the trace in its `traceparent` header.
pub fn continue_trace<'a>(span: &Span, header: impl Fn(&str) -> Option<&'a str>) {
    let Some(parent) = header("traceparent") else { return };
    let carrier = Carrier { parent, state: header("tracestate") };
    let context = TraceContextPropagator::new().extract(&carrier);
    // Fails if no collector is configured. Then there is no trace to continue.
    let _ = span.set_parent(context);
}

/// Records the caller's owner, the route template if it is known, and the status of a request.
pub fn answered(span: &Span, owner: Option<&str>, route: Option<&str>, status: u16) {
    for (name, value) in [(OWNER, owner), (ROUTE, route)] {
        if let Some(value) = value {
            span.set_attribute(name, Copied(value));
        }
    }
    span.set_attribute(STATUS_CODE, i64::from(status));
}

/// A text that is copied only if spans are sent.
struct Copied<'a>(&'a str);

impl From<Copied<'_>> for Value {
    fn from(text: Copied<'_>) -> Self {
        text.0.to_owned().into()
    }
}

struct Carrier<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.parent),
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Renames the fields of spans from the short names of log lines to the names of OpenTelemetry.
#[derive(Debug)]
struct Conventional<E>(E);

impl<E: SpanExporter> SpanExporter for Conventional<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(conventional);
        let spans = batch.len();
        let exported = self.0.export(batch).await;
        if let Err(error) = &exported {
            tracing::warn!(%error, spans, "traces not sent");
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn conventional(span: &mut SpanData) {
    for KeyValue { key, .. } in &mut span.attributes {
        if let Some((_, name)) = NAMES.iter().find(|(name, _)| *name == key.as_str()) {
            *key = Key::from_static_str(name);
        }
    }
    let value = |name: &str| {
        let named = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        named.map(|attribute| &attribute.value)
    };
    let method = value("http.request.method").map(Value::as_str).unwrap_or_default();
    let route = value(ROUTE).map(Value::as_str).unwrap_or_default();
    let failed = matches!(value(STATUS_CODE), Some(Value::I64(500..)));
    span.name = format!("{method} {route}").trim_end().to_owned().into();
    span.span_kind = SpanKind::Server;
    if failed {
        span.status = Status::error("");
    }
}
