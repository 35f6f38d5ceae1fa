//! Receives the bytes of one request.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::TusError;
use super::writer::Writer;
use crate::app::{AppError, Result};
use crate::domain::tus::{PieceChecksum, next_part};

/// A request's body.
struct Source<B> {
    body: B,
    /// Received bytes that are not in the buffer yet.
    pending: Bytes,
    /// How many bytes of the body are not received yet, if that is known.
    left: Option<u64>,
    /// How many more bytes the file may have.
    room: u64,
    /// How many bytes the file may have in total.
    limit: u64,
    checksum: Option<PieceChecksum>,
    ended: bool,
    /// Why the body ended early.
    error: Option<AppError>,
}

impl<B> Source<B> {
    /// The number of bytes between the last part and the end of the body, if it is known. `before`
    /// is how many of them are in tails or in the buffer.
    fn coming(&self, before: u64) -> Option<u64> {
        let received = before + self.pending.len() as u64;
        if self.ended { Some(received) } else { self.left.map(|left| received + left) }
    }

    fn take(&mut self, chunk: Option<Result<Bytes>>) {
        match chunk {
            None => self.ended = true,
            Some(Err(error)) => self.stop(error),
            Some(Ok(chunk)) if chunk.len() as u64 > self.room => {
                self.stop(TusError::TooLong { limit: self.limit }.into());
            }
            Some(Ok(chunk)) => {
                let size = chunk.len() as u64;
                self.room -= size;
                self.left = self.left.map(|left| left.saturating_sub(size));
                if let Some(checksum) = &mut self.checksum {
                    checksum.update(&chunk);
                }
                self.pending = chunk;
            }
        }
    }

    fn stop(&mut self, error: AppError) {
        self.ended = true;
        self.error.get_or_insert(error);
    }
}

impl Writer<'_> {
    /// Stores the bytes of a body that starts at the end of the stored bytes. If they are the whole
    /// file and fit into one PUT, it sends that PUT.
    ///
    /// # Errors
    /// After an error of the body, or if a newer request waits, the received bytes are stored.
    pub(super) async fn receive<B>(
        &mut self,
        body: B,
        size: Option<u64>,
        checksum: Option<PieceChecksum>,
    ) -> Result<()>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        self.hold = checksum.is_some();
        let mut source = Source {
            body,
            pending: Bytes::new(),
            left: size,
            room: self.limit().saturating_sub(self.stored()),
            limit: self.limit(),
            checksum,
            ended: false,
            error: None,
        };
        // Tails are read only if they are sent again as a part, together with bytes of this body.
        let saved = self.stored() - self.parts_end;
        let coming = source.coming(saved);
        let mut unread = saved;
        let mut buffer = BytesMut::new();
        if saved > 0 && self.next_size(coming).is_some() {
            let capacity = self.next_size(coming).unwrap_or_default().max(saved);
            buffer = self.load_tails(to_usize(capacity)).await?;
            unread = 0;
        }
        loop {
            let have = buffer.len() as u64;
            let coming = source.coming(unread + have);
            let size = self.next_size(coming);
            match size {
                Some(size) if unread == 0 && have >= size => {
                    self.send(std::mem::take(&mut buffer).freeze()).await?;
                }
                _ if source.ended && source.pending.is_empty() => break,
                _ => {
                    let most = size.or(coming).unwrap_or(u64::MAX).saturating_sub(unread + have);
                    self.read(&mut source, &mut buffer, to_usize(most.max(1))).await?;
                }
            }
        }
        self.arrive().await?;
        let Source { checksum, error, .. } = source;
        if let Some(checksum) = checksum {
            // If the end of the bytes is missing, they cannot be compared with the checksum.
            error.map_or(Ok(()), Err)?;
            if !checksum.matches() {
                return Err(TusError::Checksum.into());
            }
            return self.save(buffer.freeze(), unread).await;
        }
        self.save(buffer.freeze(), unread).await?;
        error.map_or(Ok(()), Err)
    }

    /// The size of the next part, if `coming` bytes follow the last part. `None` if these bytes are
    /// saved as a tail, or are a whole file that is sent with one PUT.
    fn next_size(&self, coming: Option<u64>) -> Option<u64> {
        let ends = coming.is_some_and(|coming| Some(self.parts_end + coming) == self.length());
        let whole = ends && self.parts_end == 0 && self.upload.multipart_id.is_none();
        let size = next_part(coming, ends, self.least());
        size.filter(|size| !(whole && Some(*size) == coming))
    }

    /// Moves at most `most` received bytes into the buffer. If there are none, waits for the next
    /// bytes of the body, the end of the part that is being sent, or a newer request.
    async fn read<B>(
        &mut self,
        source: &mut Source<B>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Result<()>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        // Without a permit for a second part, no memory is allocated for the next part until the
        // current one is sent.
        let reads = source.ended || self.in_flight.is_none() || self.spare.is_some();
        if reads && !source.pending.is_empty() {
            if buffer.capacity() == 0 && source.left.is_some() {
                // Allocated in one step: a buffer that grows is copied, and then exists twice for a
                // moment.
                buffer.reserve(most);
            }
            let taken = source.pending.split_to(most.min(source.pending.len()));
            buffer.extend_from_slice(&taken);
            return Ok(());
        }
        let in_flight = self.in_flight.as_mut();
        let sending = async {
            match in_flight {
                Some(sending) => sending.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.lease.stop.cancelled() => source.stop(TusError::Busy.into()),
            sent = sending => self.record(sent).await?,
            chunk = source.body.next(), if reads => source.take(chunk),
        }
        Ok(())
    }

    /// Stores the bytes that are not sent as a part, and commits. `unread` is how many bytes of
    /// tails come before them.
    async fn save(&mut self, bytes: Bytes, unread: u64) -> Result<()> {
        let start = self.parts_end + unread;
        let end = start + bytes.len() as u64;
        let new = end.saturating_sub(self.stored().max(start));
        let known = bytes.len().saturating_sub(to_usize(new));
        if new == 0 || bytes.is_empty() {
            return self.commit().await;
        }
        let whole = Some(end) == self.length() && start == 0 && self.held.is_empty();
        if whole && self.upload.multipart_id.is_none() {
            self.commit().await?;
            return self.put_whole(bytes).await;
        }
        self.open_multipart().await?;
        let tail = self.save_tail(start + known as u64, bytes.slice(known..)).await?;
        self.held.push(tail);
        self.commit().await
    }
}

fn to_usize(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
