//! `openapi`: the API's document.

use std::process::ExitCode;

/// Prints the document.
pub fn run() -> anyhow::Result<ExitCode> {
    println!("{}", crate::http::openapi::document().to_pretty_json()?);
    Ok(ExitCode::SUCCESS)
}
