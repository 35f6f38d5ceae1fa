//! `openapi`: the API's document.

use std::process::ExitCode;

use crate::http::openapi::{DocumentConfig, document};

/// Prints the document.
pub fn run() -> anyhow::Result<ExitCode> {
    print!("{}", document(&DocumentConfig::default())?);
    Ok(ExitCode::SUCCESS)
}
