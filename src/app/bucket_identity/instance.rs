//! The commands for an operator whose two databases have the same id, because one is a copy of the
//! other: the copy gets a new id, then the original reclaims its markers.

use std::sync::Arc;

use uuid::Uuid;

use super::check::MarkerCheck;
use super::{App, AppError, CheckOptions, Result};
use crate::domain::marker::{BucketIdentity, Marker, Mismatch};
use crate::domain::{Location, Policy, PolicyName};
use crate::storage::StoreError;

/// This database's identity, and the markers of its policies' locations.
#[derive(Debug)]
pub struct InstanceReport {
    /// The id in its markers.
    pub id: Uuid,
    /// The id before it was reissued.
    pub former: Option<Uuid>,
    /// The marker of each location whose store is configured.
    pub markers: Vec<MarkerReport>,
}

/// The marker of a policy's location.
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
            for location in self.usable_locations_of(policy).await? {
                self.reclaim_marker(&location).await?;
            }
        }
        self.report_instance(CheckOptions::default()).await
    }

    /// The locations of a policy whose store is configured.
    async fn usable_locations_of(&self, policy: &Policy) -> Result<Vec<Arc<Location>>> {
        self.store_of(policy)?;
        let mut locations = self.locations_of(policy).await?;
        locations.retain(|location| self.store_at(location).is_ok());
        Ok(locations)
    }

    async fn reclaim_marker(&self, location: &Location) -> Result<()> {
        let store = self.store_at(location)?;
        let check = MarkerCheck { app: self, location, store, options: CheckOptions::default() };
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
                    tracing::warn!(policy = %location.policy, instance = %instance.id,
                        "the marker was reclaimed");
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
            for location in self.usable_locations_of(policy).await? {
                markers.push(MarkerReport {
                    policy: policy.name.clone(),
                    store: location.store.clone(),
                    bucket: location.bucket.clone(),
                    key: location.prefix.marker(),
                    identity: self.check_location(&location, options).await?,
                });
            }
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
