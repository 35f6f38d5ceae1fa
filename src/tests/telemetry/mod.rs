//! Observability: metrics, statistics, and a log and traces without secrets.

mod exposition;
mod logs;
mod metrics;
mod stats;
mod traces;
