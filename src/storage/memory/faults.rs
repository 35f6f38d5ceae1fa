//! What tests do to a store: let calls fail, lose their answers, hold them at a gate, and
//! spoil listings.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::storage::StoreError;

/// The calls of the seam, as faults and counters name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum Operation {
    Head,
    Read,
    Put,
    Delete,
    List,
    CreateMultipart,
    UploadPart,
    ListParts,
    CompleteMultipart,
    AbortMultipart,
    ListMultiparts,
    CheckBucket,
    CreateBucket,
}

/// How a listing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFault {
    /// The page begins anew at the listing's first key, as if there were no token.
    Repeat,
    /// The page is the last one, whatever is behind it.
    CutOff,
    /// The page's keys descend.
    Descend,
}

pub(super) type MakeError = Arc<dyn Fn() -> StoreError + Send + Sync>;

#[derive(Clone)]
pub(super) enum Fault {
    /// Nothing is done.
    Fail(MakeError),
    /// All is done, but the caller never hears of it.
    Lose,
}

#[derive(Default)]
pub(super) struct Faults {
    pub(super) calls: BTreeMap<Operation, usize>,
    pub(super) next: BTreeMap<Operation, VecDeque<Fault>>,
    pub(super) lists: VecDeque<Option<ListFault>>,
    pub(super) gates: BTreeMap<Operation, Arc<Gate>>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Holds calls before they do anything, so that a test can let things happen meanwhile
/// without sleeping.
#[derive(Debug)]
pub struct Gate {
    arrived: Semaphore,
    pass: Semaphore,
}

impl Gate {
    pub(super) fn closed() -> Self {
        Self { arrived: Semaphore::new(0), pass: Semaphore::new(0) }
    }

    pub(super) async fn wait(&self) {
        self.arrived.add_permits(1);
        // A closed semaphore is an open gate.
        if let Ok(permit) = self.pass.acquire().await {
            permit.forget();
        }
    }

    /// Waits until one more call has come to the gate.
    pub async fn arrival(&self) {
        if let Ok(permit) = self.arrived.acquire().await {
            permit.forget();
        }
    }

    /// Lets so many calls through.
    pub fn let_through(&self, calls: usize) {
        self.pass.add_permits(calls);
    }

    /// Lets all calls through from now on.
    pub fn open(&self) {
        self.pass.close();
    }
}
