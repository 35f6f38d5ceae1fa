//! The output of `reconcile --inspect`. A file that was not accepted is printed at once, and the
//! counts are printed at the end. So the memory does not grow with the number of files, and a
//! backfill that is killed has already printed its results.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::app::inspections::backfill::Backfilled;
use crate::domain::Upload;
use crate::domain::inspection::InspectorName;

/// The numbers of examinations by result.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Counts {
    pub examined: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub withheld: u64,
    pub deferred: u64,
    pub unresolved: u64,
    pub failed: u64,
}

/// A file with another result than acceptance.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    outcome: &'static str,
    upload: String,
    key: &'a str,
    inspector: &'a str,
    reason: Option<&'a str>,
}

/// The output of a backfill in progress.
pub(super) struct Output {
    json: bool,
    findings: u64,
    counts: Counts,
}

impl Output {
    /// Begins the output, as JSON or as lines.
    pub fn begin(json: bool) -> io::Result<Self> {
        if json {
            print("{\"findings\": [")?;
        }
        Ok(Self { json, findings: 0, counts: Counts::default() })
    }

    /// Counts a result, and prints it if it is not an acceptance.
    pub fn add(
        &mut self,
        inspector: &InspectorName,
        upload: &Upload,
        found: &Backfilled,
    ) -> io::Result<()> {
        let counts = &mut self.counts;
        counts.examined += 1;
        let count = match found {
            Backfilled::Accepted => &mut counts.accepted,
            Backfilled::Rejected(_) => &mut counts.rejected,
            Backfilled::Withheld(_) => &mut counts.withheld,
            Backfilled::Deferred => &mut counts.deferred,
            Backfilled::Unresolved(_) => &mut counts.unresolved,
            Backfilled::Failed(_) => &mut counts.failed,
        };
        *count += 1;
        if *found == Backfilled::Accepted {
            return Ok(());
        }
        let (outcome, key, reason) = (found.name(), upload.key.as_str(), found.reason());
        if !self.json {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            return print(&format!("{outcome:<10} {key}  {inspector}{reason}\n"));
        }
        let (upload, inspector) = (upload.id.to_string(), inspector.as_str());
        let finding = Finding { outcome, upload, key, inspector, reason };
        let separator = if self.findings == 0 { "\n  " } else { ",\n  " };
        self.findings += 1;
        print(&format!("{separator}{}", serde_json::to_string(&finding)?))
    }

    /// Prints the counts, and returns them.
    pub fn end(self) -> io::Result<Counts> {
        let counts = self.counts;
        if self.json {
            let numbers = serde_json::to_string(&counts)?;
            print(&format!("\n],\n{}\n", numbers.trim_start_matches('{')))?;
        } else {
            let Counts { examined, accepted, rejected, withheld, deferred, unresolved, failed } =
                counts;
            print(&format!(
                "{examined} examined, {accepted} accepted, {rejected} rejected, {withheld} \
                 withheld, {deferred} deferred, {unresolved} unresolved, {failed} failed\n"
            ))?;
        }
        Ok(counts)
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
