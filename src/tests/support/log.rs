//! Where `TEST_LOG_DIR` names a folder, all that the tests log is kept there, in detail:
//! `scripts/test` searches it for secrets afterwards.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, Once};

use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;

/// As `telemetry.log = "debug"` has it.
const FILTER: &str = "warn,upload_coordinator=debug";

fn folder() -> Option<PathBuf> {
    std::env::var_os("TEST_LOG_DIR").map(PathBuf::from)
}

/// A new file for the log of a process.
pub fn of_process() -> Option<File> {
    let name = format!("service-{}.log", SystemIds.uuid().as_simple());
    folder().map(|folder| File::create(folder.join(name)).unwrap())
}

/// Keeps the log of what runs in the tests' own process, from the first caller on.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(folder) = folder() else { return };
        let name = format!("tests-{}.log", std::process::id());
        let file = File::create(folder.join(name)).unwrap();
        let lines = tracing_subscriber::fmt().json().with_writer(Mutex::new(file));
        lines.with_env_filter(FILTER).init();
    });
}

/// Notes a secret of this run, which no log is to hold.
pub fn secret(text: &str) {
    if let Some(folder) = folder() {
        let file = OpenOptions::new().create(true).append(true).open(folder.join("secrets"));
        // In one piece: tests write side by side.
        let line = format!("{text}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
}
