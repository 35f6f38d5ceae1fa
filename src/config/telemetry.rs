//! `[telemetry]`: what the log says and how.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::EnvFilter;

use super::value::{self, Choice};

/// `[telemetry]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// How log lines look.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub log_format: LogFormat,
    /// Which lines are written.
    pub log: LogFilter,
    /// Whether `GET /metrics` answers.
    #[serde(deserialize_with = "value::flag")]
    pub metrics: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_format: LogFormat::default(), log: LogFilter::default(), metrics: true }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
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
    /// Warnings and worse.
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
        let takes = "log directives such as \"info\" or \"info,upload_coordinator=debug\"";
        value::parsed(deserializer, takes, |text| {
            let sound = !text.is_empty() && EnvFilter::builder().parse(text).is_ok();
            sound.then(|| Self(text.to_owned()))
        })
    }
}
