//! The way of log lines to stderr: a thread writes those that were logged since it last wrote,
//! all at once.
//!
//! With a write for each, threads that serve wait for each other's lines: on two cores that was
//! more than a third of what a poll cost (`benches/README.md`).

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long lines are collected after some were written. The first one after a pause is
/// written at once.
const PAUSE: Duration = Duration::from_millis(5);

/// So many bytes may wait. Then those who log wait too: no line is dropped.
const MOST: usize = 1 << 20;

/// Where lines are put.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// There is something to write, or the end has come.
    more: Condvar,
    /// There is room again.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread sleeps until it is woken.
    asleep: bool,
    /// Whether there is no thread any more: each line is written at once.
    ended: bool,
}

/// Writes what is left when it is dropped; lines after that are written one by one.
#[derive(Debug)]
pub(super) struct Writing {
    lines: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.lines.lock().ended = true;
        self.lines.more.notify_one();
        self.lines.room.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and there would be nobody to tell.
            drop(thread.join());
        }
    }
}

impl Lines {
    /// Starts the thread that writes them.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(Arc<Self>, Writing)> {
        let lines = Arc::new(Self::default());
        let ours = Arc::clone(&lines);
        let thread =
            thread::Builder::new().name("log".to_owned()).spawn(move || ours.write(out))?;
        Ok((Arc::clone(&lines), Writing { lines, thread: Some(thread) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            // There is nowhere left to report it.
            drop(out.write_all(&lines).and_then(|()| out.flush()));
            lines.clear();
            thread::sleep(PAUSE);
        }
    }

    /// Waits for lines and takes them; `false` where there are none and the end has come.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.ended {
            state.asleep = true;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        mem::swap(&mut state.waiting, lines);
        drop(state);
        self.room.notify_all();
        !lines.is_empty()
    }
}

impl Write for &Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        while state.waiting.len() >= MOST && !state.ended {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            drop(state);
            io::stderr().write_all(line)?;
            return Ok(line.len());
        }
        state.waiting.extend_from_slice(line);
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.more.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::telemetry::captured::Captured;

    #[test]
    fn all_lines_come_whole_and_in_each_threads_order() {
        let out = Captured::default();
        let (lines, writing) = Lines::start(out.clone()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &*lines;
                scope.spawn(move || {
                    for n in 0..5000 {
                        let line = format!("{thread} {n} {}\n", "x".repeat(100));
                        { lines }.write_all(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        drop(writing);
        let mut next = [0; 4];
        for line in out.text().lines() {
            let (thread, rest) = line.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(rest, format!("{next} {}", "x".repeat(100)));
            *next += 1;
        }
        assert_eq!(next, [5000; 4]);
    }

    #[test]
    fn a_line_is_written_without_waiting_for_others() {
        let out = Captured::default();
        let (lines, _writing) = Lines::start(out.clone()).unwrap();
        for text in ["one\n", "one\ntwo\n"] {
            let line = text.lines().next_back().unwrap();
            writeln!(&*lines, "{line}").unwrap();
            let since = Instant::now();
            while out.text() != text {
                assert!(since.elapsed() < Duration::from_secs(20), "{}", out.text());
                thread::yield_now();
            }
        }
    }

    /// Takes nothing before it is allowed to.
    struct Stuck(mpsc::Receiver<()>, Captured);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An end of those who allow it does so too.
            let _allowed = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_too_much_waits_and_nothing_is_lost() {
        let (allow, allowed) = mpsc::channel();
        let out = Captured::default();
        let (lines, writing) = Lines::start(Stuck(allowed, out.clone())).unwrap();
        let (all, line) = (3 * MOST / 1024, [b'x'; 1024]);
        let ours = Arc::clone(&lines);
        let logging = thread::spawn(move || {
            for _ in 0..all {
                (&*ours).write_all(&line).unwrap();
            }
        });
        let since = Instant::now();
        while lines.lock().waiting.len() < MOST {
            assert!(since.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
        assert!(!logging.is_finished() && lines.lock().waiting.len() < MOST + 1024);
        drop(allow);
        logging.join().unwrap();
        drop(writing);
        assert_eq!(out.text().len(), all * 1024);
    }
}
