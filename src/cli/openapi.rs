//! `openapi`: prints the OpenAPI document of the API.

use std::process::ExitCode;

use crate::http::openapi::{DocumentConfig, document};

/// Prints the document.
pub fn run() -> anyhow::Result<ExitCode> {
    print!("{}", document(&DocumentConfig::default())?);
    Ok(ExitCode::SUCCESS)
}
