//! `openapi`: the API's document.

use std::process::ExitCode;

/// Prints the document.
pub fn run() -> anyhow::Result<ExitCode> {
    print!("{}", crate::http::openapi::document()?);
    Ok(ExitCode::SUCCESS)
}
