//! Failures that tests inject into a store: failed calls, lost responses, delayed calls and invalid
//! listings.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::storage::StoreError;

/// A method of [`ObjectStore`](crate::storage::ObjectStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has the name of its method")]
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

/// An invalid page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFailure {
    /// The page starts at the first key of the listing, as if there were no token.
    Repeat,
    /// The page says that it is the last one, although more keys follow.
    CutOff,
    /// The keys of the page are in descending order.
    Descend,
}

pub(super) type MakeError = Arc<dyn Fn() -> StoreError + Send + Sync>;

#[derive(Clone)]
pub(super) enum Failure {
    /// The call fails and does nothing.
    Fail(MakeError),
    /// The call does its work, but its response is lost.
    Lose,
}

#[derive(Default)]
pub(super) struct Failures {
    pub(super) calls: BTreeMap<Operation, usize>,
    pub(super) next: BTreeMap<Operation, VecDeque<Failure>>,
    pub(super) lists: VecDeque<Option<ListFailure>>,
    pub(super) gates: BTreeMap<Operation, Arc<Gate>>,
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Delays calls before they do anything, so that a test can act in the meantime without sleeping.
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
        // If the semaphore is closed, the gate is open.
        if let Ok(permit) = self.pass.acquire().await {
            permit.forget();
        }
    }

    /// Waits until one more call has arrived at the gate.
    pub async fn next_call(&self) {
        if let Ok(permit) = self.arrived.acquire().await {
            permit.forget();
        }
    }

    /// Lets this number of calls continue.
    pub fn let_through(&self, calls: usize) {
        self.pass.add_permits(calls);
    }

    /// Lets all calls continue from now on.
    pub fn open(&self) {
        self.pass.close();
    }
}
