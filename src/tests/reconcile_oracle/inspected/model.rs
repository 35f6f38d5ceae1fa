//! The model of a world with inspectors: which bytes were stored, and the verdict of each inspector
//! about them.

use std::collections::{BTreeMap, BTreeSet};

use upload_coordinator::domain::inspection::{
    InspectionStatus, InspectorName, QueuedInspection, Verdict,
};
use upload_coordinator::domain::upload::State;
use upload_coordinator::domain::{RejectReason, Status, Upload};

/// An ETag, and whether a scanner rejects the bytes.
pub(super) type Bytes = (String, bool);

/// An inspector and the ETag of bytes. No two files of a world have the same bytes.
type About = (InspectorName, String);

#[derive(Default)]
struct Life {
    /// All bytes that were ever stored.
    ever: Vec<Bytes>,
    current: Option<Bytes>,
    /// The ETags of bytes that were served. Other bytes are then rejected as `overwritten`.
    served: BTreeSet<String>,
    status: Option<Status>,
}

pub(super) struct Model {
    inspectors: Vec<InspectorName>,
    lives: BTreeMap<String, Life>,
    accepted: BTreeSet<About>,
    rejected: BTreeSet<About>,
    /// How often an inspector examined bytes, and how often examinations may have been lost.
    examined: BTreeMap<About, (u32, u32)>,
}

impl Model {
    pub fn new(inspectors: Vec<InspectorName>) -> Self {
        Self {
            inspectors,
            lives: BTreeMap::new(),
            accepted: BTreeSet::new(),
            rejected: BTreeSet::new(),
            examined: BTreeMap::new(),
        }
    }

    /// Other bytes were stored at a key, or the object was deleted.
    pub fn stored(&mut self, key: &str, bytes: Option<Bytes>) {
        let life = self.lives.entry(key.to_owned()).or_default();
        life.ever.extend(bytes.clone());
        life.current = bytes;
    }

    pub fn current(&self, key: &str) -> Option<Bytes> {
        self.lives.get(key)?.current.clone()
    }

    /// All bytes that were ever stored at a key.
    pub fn ever(&self, key: &str) -> Vec<Bytes> {
        self.lives.get(key).map_or_else(Vec::new, |life| life.ever.clone())
    }

    /// A verdict of an inspector.
    pub fn says(&mut self, inspector: &InspectorName, etag: &str, verdict: &Verdict) {
        let about = (inspector.clone(), etag.to_owned());
        match verdict {
            Verdict::Accept => self.accepted.insert(about),
            Verdict::Reject(_) => self.rejected.insert(about),
        };
    }

    /// An inspector read bytes and has a verdict. It is repeated only if it may have been lost.
    pub fn examined(&mut self, inspector: &InspectorName, etag: &str, verdict: &Verdict) {
        let (count, lost) = self.examined.entry((inspector.clone(), etag.to_owned())).or_default();
        *count += 1;
        assert!(*count <= 1 + *lost, "{inspector}, {etag}: {count} examinations, {lost} lost");
        self.says(inspector, etag, verdict);
    }

    /// The verdict of one examination may be lost.
    pub fn loses(&mut self, inspector: &InspectorName, etag: &str) {
        self.examined.entry((inspector.clone(), etag.to_owned())).or_default().1 += 1;
    }

    /// Conditions that must always be true.
    pub fn check(&mut self, row: &Upload, queued: &[QueuedInspection]) {
        let life = self.lives.get(row.key.as_str());
        let before = life.and_then(|life| life.status);
        if let Some(before) = before.filter(|status| status.is_final()) {
            assert_eq!(row.status(), before, "a final status changed: {row:?}");
        }
        let waiting = queued.iter().filter(|it| it.status != InspectionStatus::Backfill);
        let waiting: BTreeSet<_> = waiting.map(|it| (&it.inspector, it.etag.as_str())).collect();
        let mut expected = BTreeSet::new();
        match &row.state {
            State::Inspecting(inspecting) => {
                let etag = inspecting.arrived.facts.etag.as_str();
                expected.extend(inspecting.waiting_for.iter().map(|name| (name, etag)));
                let done = self.inspectors.iter().filter(|it| !inspecting.waiting_for.contains(it));
                for inspector in done {
                    self.check_accepted(inspector, etag, row);
                }
            }
            State::Uploaded(verified) => {
                for inspector in &self.inspectors {
                    self.check_accepted(inspector, &verified.facts.etag, row);
                }
            }
            State::Rejected { reason: RejectReason::Inspection, facts, .. } => {
                let says =
                    |it: &InspectorName| self.rejected.contains(&(it.clone(), facts.etag.clone()));
                let refused = self.inspectors.iter().any(|it| says(it) || is_forced(row, it));
                assert!(refused, "no inspector has rejected {row:?}");
            }
            State::Rejected { reason: RejectReason::Overwritten, .. } => {
                let served = life.is_some_and(|life| !life.served.is_empty());
                assert!(served, "no bytes of it were ever served: {row:?}");
            }
            State::Rejected { .. } => panic!("no file breaks a rule of the policy: {row:?}"),
            _ => {}
        }
        assert_eq!(waiting, expected, "the queue of {row:?}");
        let life = self.lives.entry(row.key.as_str().to_owned()).or_default();
        life.status = Some(row.status());
        if let State::Uploaded(verified) = &row.state {
            life.served.insert(verified.facts.etag.clone());
        }
    }

    fn check_accepted(&self, inspector: &InspectorName, etag: &str, row: &Upload) {
        let accepted = self.accepted.contains(&(inspector.clone(), etag.to_owned()));
        assert!(accepted || is_forced(row, inspector), "{inspector} has not accepted {row:?}");
    }

    /// The end of an upload, after everything worked again for some time.
    pub fn check_end(&self, row: &Upload) {
        let life = &self.lives[row.key.as_str()];
        let forced = self.inspectors.iter().any(|it| is_forced(row, it));
        let status = row.status();
        if status.is_final() && !matches!(row.state, State::Rejected { .. }) {
            return;
        }
        let expected: &[Status] = match &life.current {
            _ if matches!(row.state, State::Rejected { .. }) => &[Status::Rejected],
            None if life.served.is_empty() => &[Status::Expired],
            None => &[Status::Missing],
            Some((etag, _)) if life.served.contains(etag) => &[Status::Uploaded],
            Some((_, bad)) if !bad || forced => &[Status::Uploaded],
            Some(_) => &[Status::Rejected],
        };
        assert!(expected.contains(&status), "{expected:?}: {row:?}");
    }
}

/// Whether the configuration decided, because the inspector had no verdict.
fn is_forced(row: &Upload, inspector: &InspectorName) -> bool {
    let annotation = row.annotations.get(inspector);
    annotation.is_some_and(|it| it.contains_key("error") || it.contains_key("unscannable"))
}
