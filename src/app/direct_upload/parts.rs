//! The parts of a direct upload that are being sent to the store.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::file::File;
use crate::app::Result;
use crate::domain::limits::MAX_PARTS;
use crate::storage::{ObjectStore, Part, PartIntegrity};

/// Sends several parts at a time. The first part in memory needs no permit. Each additional part
/// needs one of the `spare` permits that all uploads share.
pub(super) struct Parts<'a> {
    objects: &'a dyn ObjectStore,
    spare: &'a Semaphore,
    key: String,
    id: String,
    integrity: PartIntegrity,
    number: u16,
    in_flight: FuturesUnordered<BoxFuture<'a, (Result<Part>, bool)>>,
    stored: Vec<Part>,
    /// Whether a part in memory has no permit.
    without_permit: bool,
}

/// The permit to hold a part in memory. `None` for the one part that each upload holds without a
/// permit.
type Permit<'a> = Option<SemaphorePermit<'a>>;

impl<'a> Parts<'a> {
    /// Starts without stored parts. The caller already has the first part in memory.
    pub(super) fn new(
        objects: &'a dyn ObjectStore,
        spare: &'a Semaphore,
        key: &str,
        id: &str,
        integrity: PartIntegrity,
    ) -> Self {
        Self {
            objects,
            spare,
            key: key.to_owned(),
            id: id.to_owned(),
            integrity,
            number: 0,
            in_flight: FuturesUnordered::new(),
            stored: Vec::new(),
            without_permit: true,
        }
    }

    /// Sends the next part. Returns `false` and sends nothing if S3's limit of parts is reached.
    pub(super) fn send(&mut self, body: Bytes, permit: Permit<'a>) -> bool {
        if self.number >= MAX_PARTS {
            return false;
        }
        self.number += 1;
        let (objects, number, integrity) = (self.objects, self.number, self.integrity);
        let (key, id) = (self.key.clone(), self.id.clone());
        let send = async move {
            let sent = objects.upload_part(&key, &id, number, body, integrity).await;
            // The part's memory is released here, and its permit at the end of this block.
            (sent.map_err(Into::into), permit.is_none())
        };
        self.in_flight.push(send.boxed());
        true
    }

    /// Reads the next part while others are being sent, after waiting for its permit.
    pub(super) async fn read<B>(&mut self, file: &mut File<'_, B>) -> Result<(Bytes, Permit<'a>)>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let mut permit = None;
        while std::mem::replace(&mut self.without_permit, true) {
            permit = self.spare.try_acquire().ok();
            if permit.is_some() {
                break;
            }
            self.one_arrives().await?;
        }
        let mut reading = std::pin::pin!(file.next_part());
        loop {
            tokio::select! {
                // Parts that were sent come first, because the body may always have more bytes
                // ready.
                biased;
                Some(sent) = self.in_flight.next() => {
                    arrived(&mut self.stored, &mut self.without_permit, sent)?;
                    if !self.without_permit {
                        // The part that is being read now needs no permit.
                        (self.without_permit, permit) = (true, None);
                    }
                }
                part = &mut reading => return Ok((part?, permit)),
            }
        }
    }

    async fn one_arrives(&mut self) -> Result<()> {
        match self.in_flight.next().await {
            Some(sent) => arrived(&mut self.stored, &mut self.without_permit, sent),
            None => Ok(()),
        }
    }

    /// Waits until all parts have arrived, and returns them in order.
    pub(super) async fn all(&mut self) -> Result<Vec<Part>> {
        while !self.in_flight.is_empty() {
            self.one_arrives().await?;
        }
        self.stored.sort_unstable_by_key(|part| part.number);
        Ok(std::mem::take(&mut self.stored))
    }

    /// Waits until no part is being sent, whether the parts succeed or not. A part that arrives
    /// after the abort would remain in the store.
    pub(super) async fn settle(&mut self) {
        while self.in_flight.next().await.is_some() {}
    }
}

/// Records a part that was sent, and whether it had no permit.
fn arrived(
    stored: &mut Vec<Part>,
    without_permit: &mut bool,
    sent: (Result<Part>, bool),
) -> Result<()> {
    let (part, had_none) = sent;
    *without_permit &= !had_none;
    stored.push(part?);
    Ok(())
}
