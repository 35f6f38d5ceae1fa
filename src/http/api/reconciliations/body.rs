//! The request body for a run.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::policy::FieldErrors;
use crate::domain::run::{Mode, RunRequest, Trigger};
use crate::domain::{Policy, PolicyName};
use crate::http::extract::text::{self, REQUIRED, record_error};
use crate::http::views::RunMode;

/// The message for a request that still has `force`.
const FORCE_IS_GONE: &str = "`force` was replaced: use `accept_damage` to raise the damage limit \
                             to a number, or `adopt_bucket` to write a missing marker again";

/// A run to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRun, example = json!({"mode": "audit", "dry_run": true}))]
pub struct RunBody {
    /// What to check.
    #[schema(required, value_type = RunMode)]
    mode: Option<String>,
    /// The policy to check. The default is all policies.
    policy: Option<String>,
    /// Report findings without changing anything.
    dry_run: Option<bool>,
    /// The damage limit: how many uploads of each policy the run may mark `missing`, reject or
    /// delete without a request from their owners. Only uploads that have been verified are
    /// counted. The default is the configured limit.
    #[schema(value_type = Option<u64>, example = 0)]
    accept_damage: Option<u64>,
    /// Write the marker again if it is missing, and treat the bucket as this database's own. The
    /// marker is the object in the bucket that contains the id of the database.
    adopt_bucket: Option<bool>,
    /// Replaced by `accept_damage` and `adopt_bucket`. A request with this field is refused.
    #[schema(ignore)]
    force: Option<serde_json::Value>,
}

impl RunBody {
    /// Validates the body and converts it to a request for a run.
    pub fn request(
        self,
        policies: &BTreeMap<PolicyName, Policy>,
    ) -> Result<RunRequest, FieldErrors> {
        let Self { mode, policy, dry_run, accept_damage, adopt_bucket, force } = self;
        let mut errors = FieldErrors::default();
        let policy = policy.map(PolicyName::new);
        if let Some(policy) = policy.as_ref().filter(|policy| !policies.contains_key(policy)) {
            errors.add("policy", format!("There is no policy `{policy}`"));
        }
        let names = Mode::RECONCILIATIONS.iter().copied().map(Mode::name);
        let mode = mode.ok_or(REQUIRED.to_owned()).and_then(|mode| text::one_of(names)(&mode));
        let mode = record_error(mode, "mode", &mut errors);
        if force.is_some() {
            errors.add("force", FORCE_IS_GONE);
        }
        errors.clone().into_result()?;
        Ok(RunRequest {
            mode: mode.ok_or(errors)?,
            policy,
            dry_run: dry_run.unwrap_or_default(),
            accept_damage: accept_damage.unwrap_or_default(),
            adopt_bucket: adopt_bucket.unwrap_or_default(),
            adopt: None,
            moving: None,
            trigger: Trigger::Api,
        })
    }
}
