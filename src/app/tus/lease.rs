//! Allows one request at a time to write an upload, across processes.
//!
//! The newest request has priority: a client that lost its connection returns while the old request
//! still waits for bytes that never arrive. So the newer request raises the upload's fence, which
//! is the number of the newest request. The older request notices this, saves the bytes that it
//! has, and releases the lease to the newer request. The lease of a process that has died expires.

use std::time::Duration;

use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::TusError;
use crate::app::{App, Result};
use crate::db::Db;
use crate::domain::tus::TusUpload;
use crate::domain::{Status, Upload, UploadId};

/// How long a lease lasts. Clients that reconnect wait longer than this for a response.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How often a writer renews its lease. It notices a newer request within this time.
const RENEWAL: Duration = Duration::from_secs(1);

/// How long a newer request waits for the lease. It is long enough for the lease of a dead process
/// to expire, and for an older request to save a part.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// How often a newer request tries to take the lease.
const RETRY: Duration = Duration::from_millis(100);

/// The right to write an upload. A task renews it until it is dropped.
pub(super) struct Lease {
    db: Db,
    id: UploadId,
    /// The number of the request.
    pub writer: i64,
    /// Cancelled if this request must stop: a newer request waits, or another one has the lease.
    pub stop: CancellationToken,
    _renewal: AbortOnDropHandle<()>,
}

impl App {
    /// Takes the lease, from an older request if there is one.
    ///
    /// # Errors
    /// [`TusError::Busy`] if the older request does not stop in time, or if an even newer one
    /// waits.
    pub(super) async fn take_lease(&self, upload: &Upload) -> Result<(Lease, TusUpload)> {
        let (id, tus) = (upload.id, self.db.tus());
        let Some(claim) = tus.claim(id, LEASE).await? else {
            // The creation failed before it stored the row of the progress. No client received a
            // response for this upload.
            return Err(TusError::Ended(Status::Expired).into());
        };
        let (writer, mut taken) = (claim.number, claim.taken);
        let give_up = Instant::now() + MAX_WAIT;
        while taken.is_none() && Instant::now() < give_up {
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
    /// Ends the lease, so that the next request does not have to wait until it expires.
    pub(super) async fn release(&self) {
        if let Err(error) = self.db.tus().release(self.id, self.writer).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(upload = %self.id, error, "a lease was not released; it will expire");
        }
    }
}

/// Renews a lease until it is dropped or lost. If a newer request waits, the lease is still renewed
/// while this request saves its bytes.
async fn renew(db: Db, id: UploadId, writer: i64, stop: CancellationToken) {
    let mut ticks = interval(RENEWAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match db.tus().renew(id, writer, LEASE).await {
            Ok(Some(fence)) if fence == writer => {}
            Ok(Some(_)) => stop.cancel(),
            Ok(None) => return stop.cancel(),
            // The next renewal may still be in time. If it is not, the next commit fails.
            Err(error) => tracing::debug!(upload = %id,
                error = &error as &dyn std::error::Error, "a lease was not renewed"),
        }
    }
}
