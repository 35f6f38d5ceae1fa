//! The counters and findings of a shard that are not written yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db::reconcile::shards::ShardProgress;
use crate::domain::RejectReason;
use crate::domain::reconcile::{Listed, UploadSummary};
use crate::domain::run::{CandidateKind, Counters, Finding, FindingKind, Mode, RunShard, Stage};
use crate::domain::upload::{Inspecting, State};
use crate::domain::{Location, Status, Timestamp, Upload, UploadId};

/// The largest number of findings that a shard of a run records. More are counted but not recorded,
/// because a bucket with many foreign objects would otherwise fill the database.
const MAX_FINDINGS: u64 = 100_000;

/// The counters, findings and candidates of a shard.
#[derive(Debug, Clone)]
pub struct Tally(ShardProgress);

impl Tally {
    /// Starts from the counters that were written before.
    pub fn of(shard: &RunShard, mode: Mode) -> Self {
        Self(ShardProgress {
            at: None,
            is_audit: mode == Mode::Audit,
            counters: shard.counters,
            found: shard.findings,
            findings: Vec::new(),
            candidates: Vec::new(),
            unverified: shard.unverified.clone(),
        })
    }

    /// Changes the counters.
    pub fn count(&mut self, f: impl FnOnce(&mut Counters)) {
        f(&mut self.0.counters);
    }

    /// Records findings, up to [`MAX_FINDINGS`].
    pub fn record(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let left = MAX_FINDINGS.saturating_sub(self.0.found).saturating_sub(self.unsaved());
        self.0
            .findings
            .extend(findings.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)));
    }

    fn unsaved(&self) -> u64 {
        self.0.findings.len() as u64
    }

    /// Adds an upload that the finalizing shard must process.
    pub fn add_candidate(&mut self, kind: CandidateKind, id: UploadId) {
        self.0.candidates.push((kind, id));
    }

    /// Records why an absence is unverified. Only the first reason is kept.
    pub fn set_unverified(&mut self, why: impl FnOnce() -> String) {
        self.0.unverified.get_or_insert_with(why);
    }

    /// The first reason why an absence is unverified.
    pub fn unverified(&self) -> Option<&str> {
        self.0.unverified.as_deref()
    }

    /// The counters so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How many findings and candidates are not yet written.
    pub fn unwritten(&self) -> usize {
        self.0.findings.len() + self.0.candidates.len()
    }

    /// Everything that is to be written, with the shard's stage and cursor.
    pub fn progress(&self, at: Option<(Stage, Option<String>)>) -> ShardProgress {
        ShardProgress { at, ..self.0.clone() }
    }

    /// The tally after all of it is written.
    #[must_use]
    fn written(mut self) -> Self {
        self.0.found += self.unsaved();
        self.0.findings.clear();
        self.0.candidates.clear();
        self
    }

    /// Counts and reports an object that was deleted, or in a dry run would be.
    pub fn count_deletion(&mut self, upload: &Upload, now: Timestamp) {
        self.0.counters.deleted += 1;
        self.record([deletion_of(upload, now)]);
    }

    /// Counts an object that was moved, or in a dry run would be.
    pub fn count_move(&mut self, upload: &Upload, dry_run: bool) {
        let moves = &mut self.0.counters.moves;
        moves.moved += 1;
        moves.bytes += upload.state.facts().map_or(0, |facts| facts.size);
        moves.compared += u64::from(!dry_run);
    }

    /// Counts the change of an upload.
    pub fn count_change(&mut self, before: &Upload, after: &Upload) {
        if after.deletion.done.is_some() && before.deletion.done.is_none() {
            self.count_deletion(after, after.updated_at);
        }
        let counters = &mut self.0.counters;
        match &after.state {
            _ if before.status() == after.status() => {}
            State::Inspecting(Inspecting { arrived: verified, .. }) | State::Uploaded(verified) => {
                counters.confirmed += 1;
                counters.late += u64::from(verified.late);
            }
            // Verified, and superseded by a newer upload of its track.
            State::Removed { verified: Some(verified), .. }
                if matches!(before.status(), Status::Pending | Status::Expired) =>
            {
                counters.confirmed += 1;
                counters.late += u64::from(verified.late);
            }
            State::Rejected { reason, .. } => {
                counters.rejected += 1;
                counters.overwritten += u64::from(*reason == RejectReason::Overwritten);
            }
            State::Expired => counters.expired += 1,
            State::Missing(_) => counters.missing += 1,
            State::Pending | State::Cancelled | State::Removed { .. } => {}
        }
    }
}

/// A shard's tally, shared by the concurrent steps of its work.
pub struct Report(Mutex<Tally>);

impl Report {
    /// Starts from the counters that were written before.
    pub fn of(shard: &RunShard, mode: Mode) -> Self {
        Self(Mutex::new(Tally::of(shard, mode)))
    }

    /// The tally, locked.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        // No caller leaves the tally inconsistent, so a panic while it was locked does not matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the counters.
    pub fn count(&self, f: impl FnOnce(&mut Counters)) {
        self.tally().count(f);
    }

    /// Continues from a tally that was written.
    pub fn written(&self, tally: Tally) {
        *self.tally() = tally.written();
    }
}

/// The detail of a finding about an object that the run deletes, or in a dry run would.
pub const DELETE: &str = "delete";

/// The detail of a finding about a verified upload whose object was written again with the same
/// size, if there is no checksum to compare the bytes.
pub const UNDECIDED: &str = "same-size";

/// The finding about a listed object.
pub fn object_finding(
    location: &Location,
    kind: FindingKind,
    object: Listed,
    now: Timestamp,
) -> Finding {
    Finding {
        kind,
        policy: location.policy.clone(),
        upload: location.prefix.parse_key(&object.key),
        key: object.key,
        size: Some(object.size),
        detail: None,
        found_at: now,
    }
}

/// The finding about the deletion of a final row's object.
pub fn deletion_of(upload: &Upload, now: Timestamp) -> Finding {
    of_upload(FindingKind::Rejected, upload, Some(DELETE.to_owned()), now)
}

/// Whether [`finding_of`] returns a finding for the whole row.
pub fn is_worth_reporting(row: &UploadSummary) -> bool {
    match row.status {
        Status::Missing => true,
        Status::Rejected => row.deletion.done.is_none(),
        Status::Uploaded => row.late,
        Status::Pending
        | Status::Inspecting
        | Status::Expired
        | Status::Cancelled
        | Status::Removed => false,
    }
}

/// The finding about a row's state, whichever source caused the state.
pub fn finding_of(upload: &Upload, now: Timestamp) -> Option<Finding> {
    let (kind, detail) = match &upload.state {
        State::Missing(_) => (FindingKind::Missing, None),
        State::Rejected { .. } if upload.deletion.done.is_some() => return None,
        State::Rejected { reason: RejectReason::Overwritten, .. } => {
            (FindingKind::Overwritten, None)
        }
        State::Rejected { reason, .. } => (FindingKind::Rejected, Some(reason.name().to_owned())),
        State::Uploaded(verified) if verified.late => (FindingKind::Late, None),
        _ => return None,
    };
    Some(of_upload(kind, upload, detail, now))
}

/// The finding about a verified object that was written again and may have other bytes. `rule` is
/// the rule that these bytes would break if they arrived now.
pub fn overwritten(upload: &Upload, rule: Option<RejectReason>, now: Timestamp) -> Finding {
    let detail = rule.map_or(UNDECIDED, RejectReason::name).to_owned();
    of_upload(FindingKind::Overwritten, upload, Some(detail), now)
}

fn of_upload(
    kind: FindingKind,
    upload: &Upload,
    detail: Option<String>,
    now: Timestamp,
) -> Finding {
    Finding {
        kind,
        policy: upload.policy.clone(),
        key: upload.key.as_str().to_owned(),
        upload: Some(upload.id),
        size: upload.state.facts().map(|facts| facts.size),
        detail,
        found_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::{at, upload_in};
    use crate::domain::upload::Deletion;

    #[test]
    fn a_shard_records_a_bounded_number_of_findings() {
        let found = MAX_FINDINGS - 2;
        let mut tally = Tally(ShardProgress { found, ..ShardProgress::default() });
        let findings = vec![deletion_of(&upload_in(Status::Rejected), at(1)); 3];
        tally.record(findings.clone());
        assert_eq!(tally.0.findings.len(), 2);
        let mut tally = tally.written();
        assert_eq!(tally.0.found, MAX_FINDINGS);
        tally.record(findings);
        assert!(tally.0.findings.is_empty());
    }

    #[test]
    fn a_summary_shows_whether_the_whole_row_has_a_finding() {
        for status in Status::ALL {
            for late in [false, true] {
                for done in [None, Some(at(11))] {
                    let mut row = upload_in(status);
                    row.deletion = Deletion { done, ..row.deletion };
                    if let State::Uploaded(verified) | State::Missing(verified) = &mut row.state {
                        verified.late = late;
                    }
                    let finding = finding_of(&row, at(12));
                    let known = is_worth_reporting(&UploadSummary::from(&row));
                    assert_eq!(known, finding.is_some(), "{row:?}");
                }
            }
        }
    }
}
