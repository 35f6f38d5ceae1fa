//! The binary: parses the arguments, runs the command, and prints an error in one line. The
//! command's log and traces are flushed before `run` returns.

use std::process::ExitCode;

use clap::Parser as _;
use upload_coordinator::cli::Cli;

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
