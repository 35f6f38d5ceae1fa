//! When records attach uploads: at creation, later or never. In every second world, uploads that
//! are not attached in time are removed.

use std::fmt::Display;

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::transition::TransitionError;
use upload_coordinator::domain::upload::RemoveReason;
use upload_coordinator::domain::{Policy, Status, Subject};

use super::super::fates::Fate;
use super::{End, Oracle};
use crate::support::world::World;

/// Shorter than a script, so that some records attach too late.
const RETENTION: TimeDelta = TimeDelta::hours(2);

/// Removes unattached uploads in every second world.
pub fn set_retention(policy: &mut Policy, seed: u64) {
    policy.unattached_retention = seed.is_multiple_of(2).then_some(RETENTION);
}

/// Removes unattached uploads at the end of a world.
pub async fn remove_unclaimed(world: &World) {
    if world.policy().unattached_retention.is_some() {
        let run = world.reconcile(Mode::Incremental).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    }
}

/// The subject `name:n`. Uploads share a subject only if a caller passes the same name and number.
pub fn record(name: &str, n: impl Display) -> Subject {
    format!("{name}:{n}").parse().unwrap()
}

impl Oracle<'_> {
    /// The subject of an upload at its creation. If unattached uploads are removed, all other
    /// uploads have one.
    pub(super) async fn subject_at_creation(&mut self, n: usize, fate: Fate) -> Option<Subject> {
        match fate {
            Fate::IsReplaced => Some(Subject::of_track(self.world.track().await.id)),
            Fate::Replaces => self.life(n - 1).upload.subject().cloned(),
            Fate::IsClaimed | Fate::IsUnclaimed | Fate::IsReplacedLater | Fate::ReplacesLater => {
                None
            }
            _ if self.world.policy().unattached_retention.is_some() => Some(record("own", n)),
            _ => None,
        }
    }

    /// A record attaches an upload before or after its bytes arrive, or after it was removed.
    pub(super) async fn attach(&mut self, n: usize) {
        let (id, fate) = (self.life(n).upload.id, self.life(n).fate);
        let older = if fate == Fate::ReplacesLater { n - 1 } else { n };
        let subject = record("claimed", older);
        let attached = self.world.app.attach(&self.world.owner, &subject, id).await;
        let row = self.world.get(id).await;
        match attached {
            Ok(_) => {
                assert_eq!(row.subject(), Some(&subject));
                self.life(n).is_claimed = true;
                if older != n && self.life(older).is_claimed {
                    // The newer upload always arrives.
                    self.life(older).end = End::Removed(RemoveReason::Superseded);
                }
            }
            Err(AppError::State(TransitionError::NotAttachable(Status::Removed))) => {
                assert!(self.world.policy().unattached_retention.is_some());
                assert_eq!((row.status(), row.subject()), (Status::Removed, None));
            }
            Err(error) => panic!("{error:?}: {row:?}"),
        }
    }

    /// The expected final state of an upload that was never attached.
    pub(super) fn end_of_life(&self, n: usize) -> Option<End> {
        let life = self.lives[n].as_ref()?;
        let is_verified = matches!(life.end, End::Uploaded { .. });
        let is_lost = self.world.policy().unattached_retention.is_some()
            && !life.is_claimed
            && life.upload.slot.is_none();
        Some(match life.end {
            _ if is_verified && is_lost => End::Removed(RemoveReason::Unattached),
            end => end,
        })
    }
}
