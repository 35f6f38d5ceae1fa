//! Inspects files that were verified before their policy had inspectors. During the inspection they
//! are still served.

use super::{App, AppError, Attempt, ExamineError, Inspector, Opinion, Result};
use crate::domain::inspection::{Fallback, Inspected, Verdict};
use crate::domain::transition::Event;
use crate::domain::upload::State;
use crate::domain::{Policy, Upload};
use crate::storage::StoreError;
use crate::telemetry::chain;

/// The result of a backfill for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backfilled {
    /// The inspector accepted it.
    Accepted,
    /// The inspector rejected it for this reason, and it is no longer served.
    Rejected(String),
    /// The inspector rejected it for this reason. It is still served, because the deletion would
    /// exceed the damage limit of this hour, or because this is a dry run.
    Withheld(String),
    /// There is no verdict, for this reason. It is still served.
    Unresolved(String),
}

impl Backfilled {
    /// The name in the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Withheld(_) => "withheld",
            Self::Unresolved(_) => "unresolved",
        }
    }

    /// The reason, if there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted => None,
            Self::Rejected(why) | Self::Withheld(why) | Self::Unresolved(why) => Some(why),
        }
    }
}

impl App {
    /// Returns the next verified uploads of a policy after a key, in the order of the keys.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_to_backfill(
        &self,
        policy: &Policy,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        Ok(self.db.scan().list_uploaded_after(&policy.name, after, limit).await?)
    }

    /// Inspects one verified file. A rejection is damage, and counts in the damage of this hour.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn backfill(
        &self,
        inspector: &Inspector,
        upload: Upload,
        dry_run: bool,
    ) -> Result<Backfilled> {
        let State::Uploaded(verified) = &upload.state else {
            return Ok(Backfilled::Unresolved("its status is no longer `uploaded`".to_owned()));
        };
        let facts = &verified.facts;
        let attempt = inspector.examine(self, &upload, facts).await;
        let inspected = match judged(inspector, &upload, attempt) {
            Ok(inspected) => Inspected { backfill: true, ..inspected },
            Err(why) => return Ok(Backfilled::Unresolved(why)),
        };
        let reason = match &inspected.verdict {
            Verdict::Accept => None,
            Verdict::Reject(reason) => Some(reason.clone()),
        };
        if dry_run {
            return Ok(reason.map_or(Backfilled::Accepted, Backfilled::Withheld));
        }
        let event = Event::Inspected(inspected);
        let applied = self.apply_within_limit(upload, &event).await?;
        Ok(match (reason, applied.changed) {
            (None, _) => Backfilled::Accepted,
            (Some(reason), true) => Backfilled::Rejected(reason),
            (Some(reason), false) => Backfilled::Withheld(reason),
        })
    }
}

/// The verdict of an attempt, or why there is none.
fn judged(inspector: &Inspector, upload: &Upload, attempt: Attempt) -> Result<Inspected, String> {
    let facts = upload.state.facts().ok_or("it has no object")?;
    match attempt {
        Ok(Opinion::Verdict(verdict, annotation)) => {
            Ok(inspector.verdict(facts, verdict, annotation))
        }
        Ok(Opinion::Unscannable(why)) => {
            let fallback = inspector.on_unscannable;
            let forced = inspector.forced(facts, fallback, ("unscannable", &why));
            debug_assert!(forced.is_some() || fallback == Fallback::Hold);
            forced.ok_or(format!("unscannable: {why}"))
        }
        Ok(Opinion::Deferred) => {
            Err("the inspector deferred its verdict, and a backfill does not wait".to_owned())
        }
        Err(ExamineError::Store(StoreError::PreconditionFailed)) => {
            Err("the object is gone or was replaced; reconcile first".to_owned())
        }
        Err(error) => Err(chain(&AppError::from(error))),
    }
}
