//! What the service tells of itself: metrics, how things stand, and a log and traces without secrets.

mod exposition;
mod logs;
mod metrics;
mod stats;
mod traces;
