//! Starts runs for clients.

use std::sync::Arc;

use super::{Reconciler, StartError};
use crate::app::idempotency::IdempotencyKey;
use crate::db::idempotency::Claim;
use crate::domain::run::{Run, RunRequest};
use crate::domain::{Owner, RunId};

impl Reconciler {
    /// Starts a run, or returns the run that an earlier request with the same key started. With
    /// `wait`, waits for the end of a run that this call started.
    pub async fn start_once(
        self: &Arc<Self>,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        request: RunRequest,
        wait: bool,
    ) -> Result<Run, StartError> {
        let create = |claim: Option<Claim>| async move {
            if let Some(claim) = claim {
                return self.start_claimed(&claim, request, wait).await;
            }
            let started = self.start(request).await?;
            Ok(if wait { started.wait().await } else { started.run })
        };
        let load = |id| async move { Ok(self.app.run(RunId(id)).await?) };
        self.app.idempotent(owner, key, create, load).await
    }

    /// The run and its idempotency key are written in two transactions. If an earlier attempt
    /// crashed between them, the run already exists.
    async fn start_claimed(
        self: &Arc<Self>,
        claim: &Claim,
        request: RunRequest,
        wait: bool,
    ) -> Result<Run, StartError> {
        let id = RunId(claim.resource);
        if let Some(run) = self.app.db.runs().find(id).await? {
            self.app.db.idempotency().complete(claim).await?;
            return Ok(run);
        }
        let started = self.start_as(id, request, None).await?;
        self.app.db.idempotency().complete(claim).await?;
        Ok(if wait { started.wait().await } else { started.run })
    }
}
