//! The request body for a move.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::policy::FieldErrors;
use crate::domain::run::{MAX_TRANSFERS, Moving, RunRequest, Trigger};
use crate::domain::{Policy, PolicyName};
use crate::http::extract::text::REQUIRED;

/// A move to start. The objects are moved to the location that the configuration names.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMove, example = json!({"policy": "tracks", "from": "default"}))]
pub struct MoveBody {
    /// The policy.
    #[schema(required, value_type = String)]
    policy: Option<String>,
    /// The store that contains the policy's former locations.
    #[schema(required, value_type = String)]
    from: Option<String>,
    /// How many objects each process transfers at the same time, at most 256. The default is
    /// `reconcile.concurrency`.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 256)]
    concurrency: Option<u64>,
    /// Report what would be moved, without changing anything.
    dry_run: Option<bool>,
}

impl MoveBody {
    /// Validates the body and converts it to a request for a run.
    pub fn request(
        self,
        policies: &BTreeMap<PolicyName, Policy>,
        default_concurrency: usize,
    ) -> Result<RunRequest, FieldErrors> {
        let Self { policy, from, concurrency, dry_run } = self;
        let mut errors = FieldErrors::default();
        let policy = policy.map(PolicyName::new);
        match &policy {
            None => errors.add("policy", REQUIRED),
            Some(policy) if !policies.contains_key(policy) => {
                errors.add("policy", format!("There is no policy `{policy}`"));
            }
            Some(_) => {}
        }
        if from.is_none() {
            errors.add("from", REQUIRED);
        }
        let concurrency = concurrency.unwrap_or(default_concurrency as u64);
        let concurrency = u16::try_from(concurrency).unwrap_or(u16::MAX);
        if !(1..=MAX_TRANSFERS).contains(&concurrency) {
            errors.add("concurrency", format!("Must be from 1 to {MAX_TRANSFERS}"));
        }
        errors.clone().into_result()?;
        let (Some(policy), Some(from)) = (policy, from) else { return Err(errors) };
        let moving = Moving { from, concurrency };
        Ok(RunRequest::of_move(policy, moving, dry_run.unwrap_or_default(), Trigger::Api))
    }
}
