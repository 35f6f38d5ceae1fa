//! Prints the results of `doctor` as text.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

use super::Diagnosis;
use crate::storage::probe::{Check, Outcome};

/// The longest line, so that it fits into a terminal of 100 columns.
const WIDTH: usize = 98;
/// The column where a check's result begins, after the outcome and the name.
const INDENT: usize = 29;

pub(super) fn text(found: &Diagnosis) -> String {
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    text_with(found, colours)
}

fn text_with(found: &Diagnosis, colours: bool) -> String {
    let Diagnosis {
        ok: _,
        passed,
        warnings,
        failed,
        database,
        stores,
        events,
        webhooks,
        inspectors,
    } = found;
    let mut out = format!("\ndatabase  {}\n", database.url);
    checks(&mut out, &database.checks, colours);
    for store in stores {
        let bucket = store.bucket.as_deref().unwrap_or("-");
        let _ = write!(out, "\nstore {}  bucket {bucket}", store.name);
        if let Some(url) = &store.public_url {
            let _ = write!(out, "  URLs for clients: {url}");
        }
        out.push('\n');
        checks(&mut out, &store.checks, colours);
    }
    if !events.is_empty() {
        out.push_str("\nbucket events\n");
        checks(&mut out, events, colours);
    }
    if !webhooks.is_empty() {
        out.push_str("\nwebhooks\n");
        checks(&mut out, webhooks, colours);
    }
    if !inspectors.is_empty() {
        out.push_str("\ninspectors\n");
        checks(&mut out, inspectors, colours);
    }
    let plural = if *warnings == 1 { "" } else { "s" };
    let _ = writeln!(out, "\n{passed} passed, {warnings} warning{plural}, {failed} failed");
    out
}

fn checks(out: &mut String, checks: &[Check], colours: bool) {
    for Check { name, outcome, saw, mend } in checks {
        let (word, colour) = match outcome {
            Outcome::Pass => ("pass", 32),
            Outcome::Warn => ("warn", 33),
            Outcome::Fail => ("FAIL", 31),
        };
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let _ = writeln!(out, "  {word}  {name:<20} {}", wrapped(saw, INDENT));
        if let Some(mend) = mend {
            let _ = writeln!(out, "{:INDENT$}→ {}", "", wrapped(mend, INDENT + 2));
        }
    }
}

/// Wraps a text at [`WIDTH`], with `indent` spaces before each further line. A line that begins
/// with a brace is JSON that the reader copies, so it is not wrapped.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        if line.starts_with('{') {
            out.push_str(line);
            continue;
        }
        let mut column = indent;
        for (number, word) in line.split(' ').enumerate() {
            let len = word.chars().count() + 1;
            if number > 0 && column + len > WIDTH {
                let _ = write!(out, "\n{:indent$}", "");
                column = indent;
            } else if number > 0 {
                out.push(' ');
            }
            out.push_str(word);
            column += len;
        }
    }
    out
}
