//! The parts of a direct upload on their way to the store.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::file::File;
use crate::app::Result;
use crate::domain::limits::MAX_PARTS;
use crate::storage::{ObjectStore, Part, PartIntegrity};

/// Several parts at a time. One that is held in memory, be it on its way or being read, is in the
/// upload's own place; each further one takes one of the `spare` places that all uploads share.
pub(super) struct Parts<'a> {
    objects: &'a dyn ObjectStore,
    spare: &'a Semaphore,
    key: String,
    id: String,
    integrity: PartIntegrity,
    number: u16,
    on_the_way: FuturesUnordered<BoxFuture<'a, (Result<Part>, bool)>>,
    stored: Vec<Part>,
    /// Whether a part is in the upload's own place.
    own: bool,
}

/// The place that a part takes beside the upload's own.
type Place<'a> = Option<SemaphorePermit<'a>>;

impl<'a> Parts<'a> {
    /// The first part was read, into the upload's own place, and none is sent yet.
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
            on_the_way: FuturesUnordered::new(),
            stored: Vec::new(),
            own: true,
        }
    }

    /// Sends the next part; `false`, and nothing, where there are as many as S3 takes.
    pub(super) fn send(&mut self, body: Bytes, place: Place<'a>) -> bool {
        if self.number >= MAX_PARTS {
            return false;
        }
        self.number += 1;
        let (objects, number, integrity) = (self.objects, self.number, self.integrity);
        let (key, id) = (self.key.clone(), self.id.clone());
        let send = async move {
            let sent = objects.upload_part(&key, &id, number, body, integrity).await;
            // Its memory is free again; a place that was spare is anybody's at once.
            (sent.map_err(Into::into), place.is_none())
        };
        self.on_the_way.push(send.boxed());
        true
    }

    /// Reads the next part while others are on their way, as soon as there is a place for it.
    pub(super) async fn read<B>(&mut self, file: &mut File<'_, B>) -> Result<(Bytes, Place<'a>)>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let mut place = None;
        while std::mem::replace(&mut self.own, true) {
            place = self.spare.try_acquire().ok();
            if place.is_some() {
                break;
            }
            self.one_arrives().await?;
        }
        let mut reading = std::pin::pin!(file.next_part());
        loop {
            tokio::select! {
                // What is read waits: it may well be there at once, again and again.
                biased;
                Some(sent) = self.on_the_way.next() => {
                    arrived(&mut self.stored, &mut self.own, sent)?;
                    if !self.own {
                        // The part that is being read moves there.
                        (self.own, place) = (true, None);
                    }
                }
                part = &mut reading => return Ok((part?, place)),
            }
        }
    }

    async fn one_arrives(&mut self) -> Result<()> {
        match self.on_the_way.next().await {
            Some(sent) => arrived(&mut self.stored, &mut self.own, sent),
            None => Ok(()),
        }
    }

    /// All parts, once they have arrived, in their order.
    pub(super) async fn all(&mut self) -> Result<Vec<Part>> {
        while !self.on_the_way.is_empty() {
            self.one_arrives().await?;
        }
        self.stored.sort_unstable_by_key(|part| part.number);
        Ok(std::mem::take(&mut self.stored))
    }

    /// Waits until none is on its way, whatever became of them: one that comes after an abort
    /// would stay.
    pub(super) async fn settle(&mut self) {
        while self.on_the_way.next().await.is_some() {}
    }
}

/// Notes a part that has arrived, and whether it was in the upload's own place.
fn arrived(stored: &mut Vec<Part>, own: &mut bool, sent: (Result<Part>, bool)) -> Result<()> {
    let (part, was_own) = sent;
    *own &= !was_own;
    stored.push(part?);
    Ok(())
}
