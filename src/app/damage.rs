//! The damage limit for single observations: from events, and from clients that confirm or
//! download. Damage is the loss of a verified file that its owner did not request
//! ([`crate::domain::damage`]).
//!
//! If a whole bucket is rewritten, its objects are observed one by one. So the damage of all these
//! observations is counted together, for each policy and hour. Above the limit nothing is changed,
//! and a run or an operator decides.

use super::transitions::Applied;
use super::{App, Result};
use crate::domain::transition::{Event, step};
use crate::domain::{Policy, Status, Upload};
use crate::telemetry::metrics as names;

impl App {
    /// Applies an observation of one object. If the change is damage, and the damage of this hour
    /// exceeds the limit, nothing is changed. For damage, this executes one SQL statement more than
    /// [`Self::apply`]. Once an hour it also counts the verified uploads.
    ///
    /// # Errors
    /// The errors of [`Self::apply`].
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

    /// Whether an observation may change its upload. If the change is damage, it is counted in this
    /// hour.
    pub(super) async fn is_within_damage_limit(
        &self,
        upload: &Upload,
        event: &Event,
    ) -> Result<bool> {
        if !matches!(upload.status(), Status::Uploaded | Status::Missing) {
            return Ok(true);
        }
        let (policy, _) = self.rules_of(upload).await?;
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
        // The row exists now: `open_hour` deletes only much older hours.
        Ok(damage.spend(&policy.name, now).await?.unwrap_or(false))
    }
}
