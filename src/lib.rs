//! upload-coordinator: presigned uploads straight to S3, with a status you can trust.
//!
//! A module imports only modules to its right in this list. `scripts/check-layers` checks this:
//!
//! ```text
//! main → cli → http, workers → app, reconcile → auth, db, storage, net → domain
//! ```

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod http;
#[cfg(test)]
#[path = "tests/support/mutate.rs"]
mod mutate;
pub mod net;
pub mod reconcile;
pub mod storage;
pub mod telemetry;
pub mod workers;
