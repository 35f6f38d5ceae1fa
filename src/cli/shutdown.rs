//! The end of a process: the signals that request it, and a deadline that works even if the rest of
//! the process hangs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The time for the last steps, after the requests have ended: releasing leases, closing
/// connections, flushing the log.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT (Ctrl-C).
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs handlers for both signals. Their default is to end the process at once.
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A shutdown that has begun.
#[derive(Clone)]
pub struct Shutdown {
    running: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Shutdown {
    /// Ends the process with an error after `within`, or at once at the next signal, unless it has
    /// ended by then.
    ///
    /// The deadline runs in a separate thread, because tasks may hang, and the runtime waits for
    /// its threads.
    pub fn begin(within: Duration, mut signals: StopSignals) -> anyhow::Result<Self> {
        let shutdown = Self { running: Arc::default() };
        let watched = shutdown.clone();
        std::thread::Builder::new()
            .name("shutdown".to_owned())
            .spawn(move || {
                std::thread::sleep(within);
                watched.exit(&format!("the shutdown took longer than {} s", within.as_secs()));
            })
            .context("can't start the deadline of the shutdown")?;
        let watched = shutdown.clone();
        tokio::spawn(async move {
            signals.next().await;
            watched.exit("a second signal ended the shutdown");
        });
        Ok(shutdown)
    }

    /// Waits for `work`. Until it has ended, an exit at the deadline reports `name` as still
    /// running.
    pub async fn track<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        self.running().insert(name);
        let result = work.await;
        self.running().remove(name);
        result
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exits without waiting. Unfinished work is repeated or expires, as after a crash.
    fn exit(&self, why: &str) -> ! {
        let running = self.running().iter().copied().collect::<Vec<_>>().join(", ");
        let running = if running.is_empty() { "the end of the process" } else { &running };
        // Written directly to stderr, because the log's writer may hang too.
        eprintln!("error: {why}; still running: {running}");
        std::process::exit(1)
    }
}
