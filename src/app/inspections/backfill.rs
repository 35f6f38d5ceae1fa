//! Inspects files that were verified before their policy had inspectors. During the inspection they
//! are still served.

use super::{App, AppError, Attempt, ExamineError, Inspector, Opinion, Result, about};
use crate::app::inspect_media::inspect_media;
use crate::app::observe::read_head;
use crate::domain::inspection::{
    Fallback, Inspected, InspectionStatus, InspectorName, MEDIA, QueuedInspection, Verdict,
};
use crate::domain::transition::Event;
use crate::domain::upload::{ObjectFacts, State};
use crate::domain::{Policy, Upload, UploadId};
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
    /// The inspector sends its verdict later. Until then it is still served.
    Deferred,
    /// There is no verdict about this file, for this reason. It is still served.
    Unresolved(String),
    /// The inspector or the store failed, with this error. The file is still served.
    Failed(String),
}

impl Backfilled {
    /// The name in the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Withheld(_) => "withheld",
            Self::Deferred => "deferred",
            Self::Unresolved(_) => "unresolved",
            Self::Failed(_) => "failed",
        }
    }

    /// The reason, if there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted | Self::Deferred => None,
            Self::Rejected(why)
            | Self::Withheld(why)
            | Self::Unresolved(why)
            | Self::Failed(why) => Some(why),
        }
    }
}

/// An inspector that examines verified files.
#[derive(Clone, Copy)]
pub enum Backfiller<'a> {
    /// An inspector that runs after the verification of new files.
    Queued(&'a Inspector),
    /// The built-in inspector, which is part of the verification of new files.
    Media,
}

impl Backfiller<'_> {
    /// `[inspectors.<name>]`.
    pub fn name(&self) -> InspectorName {
        match self {
            Self::Queued(inspector) => inspector.name.clone(),
            Self::Media => InspectorName::new(MEDIA),
        }
    }

    /// The number of files that it examines at the same time.
    pub fn concurrency(&self) -> usize {
        match self {
            Self::Queued(inspector) => inspector.concurrency,
            // Its threads are limited for the whole process.
            Self::Media => 4,
        }
    }

    /// Whether it has no result about a file yet. If `on_error` accepted the file without a
    /// verdict, there is no result.
    pub fn is_new(&self, upload: &Upload) -> bool {
        upload.annotations.get(&self.name()).is_none_or(|known| known.contains_key("error"))
    }
}

/// The verdict of an attempt.
enum Found {
    Verdict(Inspected),
    /// An acceptance without facts: there is nothing to record.
    Nothing,
    Deferred,
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

    /// Inspects one file. A rejection is damage, and counts in the damage of this hour. Returns
    /// `None` if there is nothing to inspect: the file is no longer verified, or the inspector
    /// has a result about it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn backfill(
        &self,
        inspector: Backfiller<'_>,
        id: UploadId,
        dry_run: bool,
    ) -> Result<Option<Backfilled>> {
        // Read again: an earlier inspector may have rejected the file, or its owner may have
        // deleted it.
        let Some(upload) = self.db.uploads().find_any_owner(id).await? else { return Ok(None) };
        let State::Uploaded(verified) = &upload.state else { return Ok(None) };
        if !inspector.is_new(&upload) {
            return Ok(None);
        }
        let facts = &verified.facts;
        let found = match inspector {
            Backfiller::Queued(inspector) => {
                to_found(inspector, facts, inspector.examine(self, &upload, facts).await)
            }
            Backfiller::Media => self.read_media(&upload, facts).await,
        };
        let inspected = match found {
            Ok(Found::Verdict(inspected)) => Inspected { backfill: true, ..inspected },
            Ok(Found::Nothing) => return Ok(Some(Backfilled::Accepted)),
            Ok(Found::Deferred) => {
                if let (Backfiller::Queued(inspector), false) = (inspector, dry_run) {
                    self.await_later(inspector, &upload, facts).await?;
                }
                return Ok(Some(Backfilled::Deferred));
            }
            Err(without) => return Ok(Some(without)),
        };
        if dry_run {
            return Ok(Some(match inspected.verdict {
                Verdict::Accept => Backfilled::Accepted,
                Verdict::Reject(reason) => Backfilled::Withheld(reason),
            }));
        }
        self.apply_to_served(upload, inspected).await.map(|(_, done)| Some(done))
    }

    /// Applies a verdict about a file that is served, within the damage limit.
    pub(super) async fn apply_to_served(
        &self,
        upload: Upload,
        inspected: Inspected,
    ) -> Result<(Upload, Backfilled)> {
        let verdict = inspected.verdict.clone();
        let event = Event::Inspected(Inspected { backfill: true, ..inspected });
        let allowed = self.is_within_damage_limit(&upload, &event).await?;
        let (upload, changed) = if allowed {
            let applied = self.apply(upload, &event).await?;
            (applied.upload, applied.changed)
        } else {
            (upload, false)
        };
        let done = match verdict {
            Verdict::Reject(reason) if !allowed => Backfilled::Withheld(reason),
            Verdict::Reject(reason) if changed => Backfilled::Rejected(reason),
            Verdict::Accept if changed => Backfilled::Accepted,
            _ => {
                Backfilled::Unresolved("it was replaced or ended during the inspection".to_owned())
            }
        };
        Ok((upload, done))
    }

    async fn read_media(&self, upload: &Upload, facts: &ObjectFacts) -> Result<Found, Backfilled> {
        let failed = |error| Backfilled::Failed(chain(&error));
        let (policy, store) = self.rules_of(upload).await.map_err(failed)?;
        let Some(settings) = &policy.media else { return Ok(Found::Nothing) };
        let key = upload.key.as_str();
        let read = async {
            let head = read_head(policy, store, key, facts.size, &facts.etag).await?;
            inspect_media(settings, &self.media_threads, store, key, facts, head).await
        };
        let found = read.await.map_err(|error| unread(error.into()))?;
        if let Some(error) = found.error() {
            return Err(Backfilled::Unresolved(error.to_owned()));
        }
        let verdict = match found.broken {
            Some(sentence) => Verdict::Reject(sentence),
            None if found.annotation.is_none() => return Ok(Found::Nothing),
            None => Verdict::Accept,
        };
        let annotation = found.annotation.unwrap_or_default();
        let name = InspectorName::new(MEDIA);
        Ok(Found::Verdict(about(facts, name, verdict, annotation)))
    }

    /// Records that the inspector sends its verdict later.
    async fn await_later(
        &self,
        inspector: &Inspector,
        upload: &Upload,
        facts: &ObjectFacts,
    ) -> Result<()> {
        let now = self.now();
        let awaited = QueuedInspection {
            upload: upload.id,
            inspector: inspector.name.clone(),
            etag: facts.etag.clone(),
            version_id: facts.version_id.clone(),
            status: InspectionStatus::Backfill,
            attempts: 1,
            queued_at: now,
            error: None,
        };
        Ok(self.db.inspections().await_backfill(awaited, now + inspector.deadline).await?)
    }
}

/// The verdict of an attempt, or why there is none.
fn to_found(
    inspector: &Inspector,
    facts: &ObjectFacts,
    attempt: Attempt,
) -> Result<Found, Backfilled> {
    match attempt {
        Ok(Opinion::Verdict(verdict, annotation)) => {
            Ok(Found::Verdict(inspector.verdict(facts, verdict, annotation)))
        }
        Ok(Opinion::Unscannable(why)) => {
            let fallback = inspector.on_unscannable;
            let forced = inspector.forced(facts, fallback, ("unscannable", &why));
            debug_assert!(forced.is_some() || fallback == Fallback::Hold);
            forced.map(Found::Verdict).ok_or(Backfilled::Unresolved(format!("unscannable: {why}")))
        }
        Ok(Opinion::Deferred) => Ok(Found::Deferred),
        Err(error) => Err(unread(error)),
    }
}

fn unread(error: ExamineError) -> Backfilled {
    match error {
        ExamineError::Store(StoreError::PreconditionFailed) => {
            Backfilled::Unresolved("the object is gone or was replaced; reconcile first".to_owned())
        }
        error => Backfilled::Failed(chain(&AppError::from(error))),
    }
}
