//! Lets an operator resolve that two databases have the same id: the copy gets a new id, then the
//! original reclaims its markers.

use uuid::Uuid;

use super::check::MarkerCheck;
use super::{App, AppError, CheckOptions, Result};
use crate::domain::marker::{BucketIdentity, Marker, Mismatch};
use crate::domain::{Policy, PolicyName};
use crate::storage::StoreError;

/// This database's identity, and the markers of its policies.
#[derive(Debug)]
pub struct InstanceReport {
    /// The id in its markers.
    pub id: Uuid,
    /// The id before it was reissued.
    pub former: Option<Uuid>,
    /// Each policy's marker.
    pub markers: Vec<MarkerReport>,
}

/// A policy's marker.
#[derive(Debug)]
pub struct MarkerReport {
    /// The policy.
    pub policy: PolicyName,
    /// Its store.
    pub store: String,
    /// The store's bucket.
    pub bucket: String,
    /// The marker's key.
    pub key: String,
    /// Whether it belongs to this database.
    pub identity: BucketIdentity,
}

impl App {
    /// Returns this database's identity and the state of its markers. Changes nothing.
    ///
    /// # Errors
    /// If a store or the database fails.
    pub async fn inspect_instance(&self) -> Result<InstanceReport> {
        self.report_instance(CheckOptions { dry_run: true, ..CheckOptions::default() }).await
    }

    /// For the copy of a database: gives this database a new id, and deletes its records of all
    /// markers. No marker is written, because each may belong to the original. A policy is trusted
    /// again when it has its own bucket or prefix, or when [`Self::reclaim_markers`] reclaims its
    /// marker.
    ///
    /// # Errors
    /// If a store or the database fails.
    pub async fn reissue_instance(&self) -> Result<InstanceReport> {
        let markers = self.db.markers();
        let before = markers.instance(self.ids.uuid()).await?.id;
        let id = self.ids.uuid();
        if !markers.reissue(before, id).await? {
            return Err(AppError::Contended);
        }
        tracing::warn!(%before, %id, "this database has a new id; none of the markers belongs to \
            it any more");
        self.report_instance(CheckOptions::default()).await
    }

    /// For the original database: reclaims the markers with its id, or with the id that it had
    /// before it was reissued. Missing markers and markers of other databases stay as they are.
    ///
    /// # Errors
    /// If there is no such policy, or a store or the database fails.
    pub async fn reclaim_markers(&self, policy: Option<&PolicyName>) -> Result<InstanceReport> {
        let policies: Vec<&Policy> = match policy {
            Some(name) => vec![self.policy(Some(name))?],
            None => self.policies.values().collect(),
        };
        for policy in policies {
            self.reclaim_marker(policy).await?;
        }
        self.report_instance(CheckOptions::default()).await
    }

    async fn reclaim_marker(&self, policy: &Policy) -> Result<()> {
        let store = self.store_of(policy)?;
        let check = MarkerCheck { app: self, policy, store, options: CheckOptions::default() };
        for _ in 0..crate::app::MAX_TRIES {
            let Some(found) = check.read().await? else { return Ok(()) };
            let instance = check.instance().await?;
            let is_own = |marker: &Marker| {
                marker.instance == instance.id || Some(marker.instance) == instance.former
            };
            let Some(marker) = found.marker.filter(is_own) else { return Ok(()) };
            let lap = self.ids.uuid();
            self.db.markers().take(check.location(), marker.lap, lap).await?;
            let taken = Marker { instance: instance.id, lap: Some(lap), contested: false };
            match check.put(&taken, Some(&found.etag)).await {
                Ok(()) => {
                    tracing::warn!(policy = %policy.name, instance = %instance.id,
                        "the marker was taken back");
                    return Ok(());
                }
                Err(AppError::Store(StoreError::PreconditionFailed)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(AppError::Contended)
    }

    async fn report_instance(&self, options: CheckOptions) -> Result<InstanceReport> {
        let mut markers = Vec::new();
        for policy in self.policies.values() {
            let store = self.store_of(policy)?;
            markers.push(MarkerReport {
                policy: policy.name.clone(),
                store: store.name.clone(),
                bucket: store.bucket.clone(),
                key: policy.prefix.marker(),
                identity: self.check_bucket(policy, options).await?,
            });
        }
        let instance = self.db.markers().instance(self.ids.uuid()).await?;
        Ok(InstanceReport { id: instance.id, former: instance.former, markers })
    }
}

impl MarkerReport {
    /// Whether `instance reclaim` can take this marker.
    pub fn can_be_reclaimed(&self, instance: &InstanceReport) -> bool {
        match self.identity {
            BucketIdentity::Match
            | BucketIdentity::Unsettled(_)
            | BucketIdentity::Mismatch(Mismatch::Contested) => true,
            BucketIdentity::Mismatch(Mismatch::Foreign(other)) => {
                other.is_some() && other == instance.former
            }
            BucketIdentity::Mismatch(Mismatch::Missing) => false,
        }
    }
}
