//! The request body for a run.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::policy::FieldErrors;
use crate::domain::run::{Mode, RunRequest, Trigger};
use crate::domain::{Policy, PolicyName};
use crate::http::extract::text::{self, REQUIRED, record_error};

/// A run to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRun, example = json!({"mode": "audit", "dry_run": true}))]
pub struct RunBody {
    /// `incremental` checks open uploads, `audit` checks everything.
    #[schema(required, value_type = String, example = "incremental")]
    mode: Option<String>,
    /// One policy. The default is all policies.
    policy: Option<String>,
    /// Report findings without changing anything.
    dry_run: Option<bool>,
    /// Continue where the safety limits would stop the run.
    force: Option<bool>,
}

impl RunBody {
    /// The request. Its policy must be one of these.
    pub fn request(
        self,
        policies: &BTreeMap<PolicyName, Policy>,
    ) -> Result<RunRequest, FieldErrors> {
        let Self { mode, policy, dry_run, force } = self;
        let mut errors = FieldErrors::default();
        let policy = policy.map(PolicyName::new);
        if let Some(policy) = policy.as_ref().filter(|policy| !policies.contains_key(policy)) {
            errors.add("policy", format!("There is no policy `{policy}`"));
        }
        let names = Mode::ALL.iter().copied().map(Mode::name);
        let mode = mode.ok_or(REQUIRED.to_owned()).and_then(|mode| text::one_of(names)(&mode));
        let mode = record_error(mode, "mode", &mut errors);
        errors.clone().into_result()?;
        Ok(RunRequest {
            mode: mode.ok_or(errors)?,
            policy,
            dry_run: dry_run.unwrap_or_default(),
            force: force.unwrap_or_default(),
            trigger: Trigger::Api,
        })
    }
}
