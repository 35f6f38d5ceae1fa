//! If `TEST_LOG_DIR` is set, the complete log of the tests is stored in that folder. `scripts/test`
//! then searches it for secrets.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, Once};

use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;

/// Like `telemetry.log = "debug"`.
const FILTER: &str = "warn,upload_coordinator=debug";

fn folder() -> Option<PathBuf> {
    std::env::var_os("TEST_LOG_DIR").map(PathBuf::from)
}

/// A new file for the log of a process.
pub fn of_process() -> Option<File> {
    let name = format!("service-{}.log", SystemIds.uuid().as_simple());
    folder().map(|folder| File::create(folder.join(name)).unwrap())
}

/// Stores the log of the tests' own process, from the first call on.
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

/// Records a secret of this test run. No log may contain it.
pub fn secret(text: &str) {
    if let Some(folder) = folder() {
        let file = OpenOptions::new().create(true).append(true).open(folder.join("secrets"));
        // One write, because several tests write at the same time.
        let line = format!("{text}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
}
