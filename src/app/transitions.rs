//! Applies an event to an upload: transition, guarded save, and what follows the commit.

use super::{App, AppError, Result};
use crate::db::uploads::{Change, Saved};
use crate::domain::transition::{Effect, Event, step};
use crate::domain::upload::State;
use crate::domain::{Policy, Status, Upload};
use crate::telemetry::metrics as names;

/// How often a lost race is read again before the caller is told to come back.
const MAX_TRIES: usize = 8;

/// What became of an event.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The upload as it is committed.
    pub upload: Upload,
    /// Whether this event changed it.
    pub changed: bool,
}

impl App {
    /// Applies one event. When another writer is first, the row is read again and the
    /// event decided again. A sight of the object may be older than what the other writer
    /// verified, and would make good bytes look overwritten: then it is taken anew.
    pub async fn apply(&self, mut upload: Upload, event: &Event) -> Result<Applied> {
        let mut event = event.clone();
        for _ in 0..MAX_TRIES {
            let (policy, store) = self.rules_of(&upload)?;
            let now = self.now();
            let (id, multipart_id) = (upload.id, upload.multipart_id.clone());
            let before = upload.status();
            let step = step(upload, event.clone(), now, policy)?;
            if !step.changed {
                return Ok(Applied { upload: step.upload, changed: false });
            }
            let aborts = step.effects.contains(&Effect::AbortMultipart);
            let change = Change { upload: step.upload, effects: step.effects, policy };
            let reopens = before == Status::Expired && change.upload.status() == Status::Pending;
            let saved = if reopens {
                Box::pin(self.db.uploads().reopen(change, now)).await?
            } else {
                self.db.uploads().save(change, now).await?
            };
            if let Saved::Done(upload) = saved {
                if aborts && let Some(multipart_id) = multipart_id {
                    self.abort_multipart(store, &upload, &multipart_id).await;
                }
                record(before, &upload, &event, policy);
                return Ok(Applied { upload, changed: true });
            }
            upload =
                self.db.uploads().find_any_owner(id).await?.ok_or(AppError::NotFound("upload"))?;
            if let Event::Observed(seen) = &event
                && matches!(upload.status(), Status::Uploaded | Status::Missing)
            {
                event = self.observe_object(&upload, seen.by).await?;
            }
        }
        Err(AppError::Contended)
    }

    /// Applies events to several uploads in one transaction. One that another writer was
    /// faster with is applied by itself; one that fails leaves the others be. The answers
    /// are in the events' order.
    pub async fn apply_many(&self, events: Vec<(Upload, Event)>) -> Result<Vec<Result<Applied>>> {
        let now = self.now();
        let mut answers: Vec<Option<Result<Applied>>> = Vec::with_capacity(events.len());
        let (mut changes, mut pending) = (Vec::new(), Vec::new());
        for (i, (upload, event)) in events.into_iter().enumerate() {
            let before = upload.clone();
            let decided = self.rules_of(&before).and_then(|(policy, store)| {
                Ok((step(upload, event.clone(), now, policy)?, policy, store))
            });
            answers.push(match decided {
                Err(error) => Some(Err(error)),
                Ok((step, ..)) if !step.changed => {
                    Some(Ok(Applied { upload: step.upload, changed: false }))
                }
                Ok((step, policy, store)) => {
                    let aborts = step.effects.contains(&Effect::AbortMultipart);
                    changes.push(Change { upload: step.upload, effects: step.effects, policy });
                    pending.push((i, before, event, policy, store, aborts));
                    None
                }
            });
        }
        let saved = if changes.is_empty() {
            Vec::new()
        } else {
            self.db.uploads().save_many(changes, now).await?
        };
        for ((i, row, event, policy, store, aborts), saved) in pending.into_iter().zip(saved) {
            answers[i] = Some(match saved {
                Saved::Done(upload) => {
                    if aborts && let Some(multipart_id) = &row.multipart_id {
                        self.abort_multipart(store, &upload, multipart_id).await;
                    }
                    record(row.status(), &upload, &event, policy);
                    Ok(Applied { upload, changed: true })
                }
                Saved::Lost => self.apply(row, &event).await,
            });
        }
        Ok(answers.into_iter().map(|a| a.unwrap_or(Err(AppError::Contended))).collect())
    }
}

/// Logs and counts a change that is committed.
pub(crate) fn record(before: Status, upload: &Upload, event: &Event, policy: &Policy) {
    if before != upload.status() {
        let (name, status) = (|| policy.name.as_str().to_owned(), upload.status().name());
        metrics::counter!(names::TRANSITIONS,
            "policy" => name(), "status" => status, "source" => source(event))
        .increment(1);
        if let State::Uploaded(verified) = &upload.state {
            let took = (verified.at - upload.created_at).as_seconds_f64().max(0.0);
            metrics::histogram!(names::CREATION_TO_UPLOADED,
                "policy" => name(), "source" => verified.confirmed_by.name())
            .record(took);
        }
    }
    tracing::info!(upload = %upload.id, policy = %policy.name, status = upload.status().name(),
        version = upload.version, "upload changed");
}

/// What brought a change about, for metrics.
fn source(event: &Event) -> &'static str {
    match event {
        Event::Observed(seen) => seen.by.name(),
        Event::Absent(_) => "absence",
        Event::Renew { .. }
        | Event::ExtendDeadline { .. }
        | Event::MultipartOpened { .. }
        | Event::Delete => "client",
        Event::Supersede => "superseded",
        Event::ObjectDeleted => "deleted",
    }
}
