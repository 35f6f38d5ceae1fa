//! `[telemetry]`: the log, the metrics and the traces.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::EnvFilter;
use url::Url;

use super::value::{self, Choice};

/// `[telemetry]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The format of log lines.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub log_format: LogFormat,
    /// The log level of each module.
    pub log: LogFilter,
    /// Whether `GET /metrics` is served.
    #[serde(deserialize_with = "value::flag")]
    pub metrics: bool,
    /// The collector of traces; `None` uses the variable `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[serde(deserialize_with = "endpoint", serialize_with = "value::text_or_empty")]
    pub otlp_endpoint: Option<String>,
}

/// The standard environment variable with the URL of a collector.
pub const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

impl TelemetryConfig {
    /// The collector of traces: the configured one, else `standard`, the value of
    /// [`OTLP_ENDPOINT`].
    pub fn collector(&self, standard: Option<&str>) -> Option<Url> {
        http_url(self.otlp_endpoint.as_deref().or(standard)?)
    }
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    value::parsed(deserializer, "a URL such as \"http://localhost:4318\"", |text| {
        let valid = text.is_empty() || http_url(text).is_some();
        valid.then(|| (!text.is_empty()).then(|| text.to_owned()))
    })
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::default(),
            log: LogFilter::default(),
            metrics: true,
            otlp_endpoint: None,
        }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for a terminal.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

impl Choice for LogFormat {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Directives of [`EnvFilter`], for example `info,upload_coordinator::reconcile=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Warnings and errors.
    pub fn warnings() -> Self {
        Self("warn".to_owned())
    }

    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for LogFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "log directives such as \"info\" or \"info,upload_coordinator=debug\"";
        value::parsed(deserializer, expected, |text| {
            let valid = !text.is_empty() && EnvFilter::builder().parse(text).is_ok();
            valid.then(|| Self(text.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_is_the_configured_one_or_that_of_the_standard_variable() {
        let none = TelemetryConfig::default();
        let url = |text| Url::parse(text).ok();
        let own = Some("http://own:4318".to_owned());
        let own = TelemetryConfig { otlp_endpoint: own, ..TelemetryConfig::default() };
        assert_eq!(own.collector(Some("http://standard:4318")), url("http://own:4318"));
        assert_eq!(none.collector(Some("http://standard:4318")), url("http://standard:4318"));
        assert_eq!((none.collector(None), none.collector(Some("nonsense"))), (None, None));
    }
}
