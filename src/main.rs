//! The binary: parse, run the command, say what went wrong in one line.

use std::process::ExitCode;

use clap::Parser as _;
use upload_coordinator::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
