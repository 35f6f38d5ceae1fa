//! upload-coordinator: presigned uploads straight to S3, with a status you can trust.
//!
//! The layers are separated by arrows. A module imports no module of a layer to its left.
//! `scripts/check-layers` checks this, and has the exact list of the allowed imports:
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
