//! Observations of single objects: of events, and of clients that ask about their upload. When a
//! whole bucket is rewritten, they come one by one. So what they take from owners counts together,
//! for each policy and hour, and beyond the limit it is left to the runs and to an operator.

use super::transitions::Applied;
use super::{App, Result};
use crate::domain::transition::{Event, step};
use crate::domain::{Policy, Status, Upload};
use crate::telemetry::metrics as names;

impl App {
    /// Applies an observation of one object. If it takes the verified file from its owner and the
    /// damage of this hour exceeds the limit, nothing is changed. Only such a change costs more
    /// than [`Self::apply`]: one statement, and a count of the verified uploads once an hour.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(super) async fn apply_within_limit(
        &self,
        upload: Upload,
        event: &Event,
    ) -> Result<Applied> {
        if self.is_within_damage_limit(&upload, event).await? {
            self.apply(upload, event).await
        } else {
            Ok(Applied { upload, changed: false })
        }
    }

    /// Whether an observation may change its upload. If it takes the verified file from its owner,
    /// it is counted in the damage of this hour.
    pub(super) async fn is_within_damage_limit(
        &self,
        upload: &Upload,
        event: &Event,
    ) -> Result<bool> {
        if !matches!(upload.status(), Status::Uploaded | Status::Missing) {
            return Ok(true);
        }
        let (policy, _) = self.rules_of(upload)?;
        let next = step(upload.clone(), event.clone(), self.now(), policy)?;
        if !upload.is_damaged_by(&next.upload) || self.spend_damage(policy).await? {
            return Ok(true);
        }
        let status = next.upload.status().name();
        tracing::error!(upload = %upload.id, policy = %policy.name, withheld = status,
            "not changed, because the damage of this hour exceeds the limit; an audit \
             or an operator decides");
        metrics::counter!(names::DAMAGE_WITHHELD,
            "policy" => policy.name.as_str().to_owned(), "source" => "request")
        .increment(1);
        Ok(false)
    }

    /// Counts one upload in this hour's damage. Returns whether the limit allows it.
    async fn spend_damage(&self, policy: &Policy) -> Result<bool> {
        let (damage, now) = (self.db.damage(), self.now());
        if let Some(allowed) = damage.spend(&policy.name, now).await? {
            return Ok(allowed);
        }
        let verified = self.db.scan().count_verified(&policy.name).await?;
        damage.open_hour(&policy.name, now, self.damage.of(verified)).await?;
        // Forgotten hours are far from this one.
        Ok(damage.spend(&policy.name, now).await?.unwrap_or(false))
    }
}
