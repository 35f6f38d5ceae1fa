//! What the service tells of itself: metrics, how things stand, and a log without secrets.

mod exposition;
mod logs;
mod metrics;
mod stats;
