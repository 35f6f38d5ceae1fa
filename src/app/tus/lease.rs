//! One request writes an upload at a time, across processes.
//!
//! A newcomer is right: a client that lost its connection comes back while the old request still waits for
//! bytes that never come. So the newcomer raises the fence, the writer saves what it has, and the newcomer
//! goes on. The lease of a process that has died ends by itself.

use std::time::Duration;

use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::TusError;
use crate::app::{App, Result};
use crate::db::Db;
use crate::domain::tus::TusUpload;
use crate::domain::{Status, Upload, UploadId};

/// Shorter than the patience of a client that comes back.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How often a writer renews its lease, and so how long it takes to notice a newcomer.
const RENEWAL: Duration = Duration::from_secs(1);

/// How long a newcomer waits: for a dead process's lease, and the time to save a part.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a newcomer tries to take the lease.
const RETRY: Duration = Duration::from_millis(100);

/// The right to write. It is renewed until it is dropped.
pub(super) struct Lease {
    db: Db,
    id: UploadId,
    /// The number of the request.
    pub writer: i64,
    /// Cancelled when a newer request waits, or another one has the lease.
    pub stop: CancellationToken,
    _renewal: AbortOnDropHandle<()>,
}

impl App {
    /// Takes the lease, from an older request if there is one.
    ///
    /// # Errors
    /// [`TusError::Busy`] if the older request does not stop in time, or if an even newer one waits.
    pub(super) async fn take_lease(&self, upload: &Upload) -> Result<(Lease, TusUpload)> {
        let (id, tus) = (upload.id, self.db.tus());
        let Some(claim) = tus.claim(id, LEASE).await? else {
            // The process that created the upload failed before it had answered.
            return Err(TusError::Ended(Status::Expired).into());
        };
        let (writer, mut taken) = (claim.number, claim.taken);
        let patience = Instant::now() + PATIENCE;
        while taken.is_none() && Instant::now() < patience {
            sleep(RETRY).await;
            taken = tus.take(id, writer, LEASE).await?;
        }
        let state = taken.ok_or(TusError::Busy)?;
        let (db, stop) = (self.db.clone(), CancellationToken::new());
        let renewal = tokio::spawn(renew(db.clone(), id, writer, stop.clone()));
        Ok((Lease { db, id, writer, stop, _renewal: AbortOnDropHandle::new(renewal) }, state))
    }
}

impl Lease {
    /// Ends the lease, so that the next request need not wait for its end.
    pub(super) async fn release(&self) {
        if let Err(error) = self.db.tus().release(self.id, self.writer).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(upload = %self.id, error, "a lease was not released; it ends by itself");
        }
    }
}

/// Renews a lease while its request saves what it has, too.
async fn renew(db: Db, id: UploadId, writer: i64, stop: CancellationToken) {
    let mut ticks = interval(RENEWAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match db.tus().renew(id, writer, LEASE).await {
            Ok(Some(fence)) if fence == writer => {}
            Ok(Some(_)) => stop.cancel(),
            Ok(None) => return stop.cancel(),
            // The next renewal may still be in time. If not, the commits say so.
            Err(error) => tracing::debug!(upload = %id,
                error = &error as &dyn std::error::Error, "a lease was not renewed"),
        }
    }
}
