//! The result of probing a store: checks with advice, and the capabilities found. Each kind of
//! store has its own probe in its folder.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Capabilities;
use crate::domain::PolicyName;
use crate::domain::object_settings::ObjectSettings;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The store behaves as expected.
    Pass,
    /// The service works, but the store enforces or reports less than it could.
    Warn,
    /// Uploads do not work.
    Fail,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A stable name, for example `write_once`.
    pub name: Cow<'static, str>,
    /// The outcome.
    pub outcome: Outcome,
    /// The observation, as a sentence.
    pub saw: String,
    /// The advice, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
}

impl Check {
    /// A check that passed.
    pub fn pass(name: impl Into<Cow<'static, str>>, saw: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Pass, saw: saw.into(), mend: None }
    }

    /// A warning with advice.
    pub fn warn(name: impl Into<Cow<'static, str>>, saw: impl Into<String>, mend: &str) -> Self {
        let mend = Some(mend.to_owned());
        Self { name: name.into(), outcome: Outcome::Warn, saw: saw.into(), mend }
    }

    /// A failure with advice.
    pub fn fail(name: impl Into<Cow<'static, str>>, saw: impl Into<String>, mend: &str) -> Self {
        Self { outcome: Outcome::Fail, ..Self::warn(name, saw, mend) }
    }
}

/// The result of a probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What the store enforces and returns. The conservative set if the probe failed.
    pub capabilities: Capabilities,
    /// In the order of execution. The probe ends at a failure that would make later checks
    /// meaningless.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether uploads work.
    pub fn is_usable(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Fail)
    }
}

/// What a client sends to the bucket from a page.
#[derive(Debug, Clone, Copy)]
pub struct BrowserClient<'a> {
    /// The name of its check.
    pub check: &'static str,
    /// Each method that it sends, with the headers that the preflight names. Empty if its files go
    /// through this service.
    pub requests: &'a [(&'a str, &'a [&'a str])],
    /// The headers of responses that it reads.
    pub exposed: &'a [&'a str],
}

/// Options of a probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// The settings of the policies whose objects go to the store, by the policy's name.
    pub objects: BTreeMap<PolicyName, ObjectSettings>,
    /// The part of every key before `.probe/`. Empty, or ends with `/`.
    pub prefix: String,
    /// Separates this probe's keys from those of concurrent probes.
    pub run: Uuid,
    /// Web origins whose pages upload directly. Empty if no browser uploads.
    pub origins: Vec<String>,
}
