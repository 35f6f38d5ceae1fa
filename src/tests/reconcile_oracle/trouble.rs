//! Trouble that affects a whole world once: stricter rules, a tool that rewrites an owner's files,
//! an owner that creates and deletes uploads in large numbers, or new versions of the same bytes.

use chrono::TimeDelta;
use rand::RngExt as _;
use rand::rngs::StdRng;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::{Owner, Policy};
use upload_coordinator::reconcile::DamageLimit;

use super::oracle::Oracle;
use super::oracle::attaching::record;
use crate::support::mp3;
use crate::support::world::World;

/// The owner whose files are rewritten.
pub const OWNER: &str = "`retagged`";

/// The damage limit of a run. It is more than the script alone can cause.
const LIMIT: u64 = 30;

/// The number of rewritten files: more than the limit, even if a run fails to read some of them.
const REWRITTEN: u64 = 2 * LIMIT;

/// The number of uploads that the attacker creates and deletes: more than every limit.
const ATTACKS: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// `max_size` becomes less than the size of the verified files. In every second one of these
    /// worlds, the policy does not allow to read files for a comparison.
    StricterRules {
        blind: bool,
    },
    /// A tool rewrites the files of one owner.
    Retagger,
    /// An owner creates and deletes many uploads.
    Attacker,
    /// The bucket has versioning, and a tool writes the same bytes again.
    Versions,
}

impl Trouble {
    pub fn of(seed: u64) -> Self {
        match seed % 7 {
            1 => Self::StricterRules { blind: false },
            2 => Self::StricterRules { blind: true },
            3 => Self::Retagger,
            4 => Self::Attacker,
            5 => Self::Versions,
            _ => Self::None,
        }
    }

    /// The world before the trouble and after it. Both have the same database and bucket.
    pub async fn worlds(self, world: &World) -> (World, World) {
        let limit = match self {
            Self::Retagger => DamageLimit { max: LIMIT, ..DamageLimit::default() },
            _ => DamageLimit::default(),
        };
        let stricter = |policy: &mut Policy| {
            policy.max_size = 899;
            if self == (Self::StricterRules { blind: true }) {
                policy.verify_max_read = 0;
            }
        };
        if self == Self::Versions {
            world.store.keep_versions();
        }
        (world.reconfigured(|_| {}, limit).await, world.reconfigured(stricter, limit).await)
    }

    pub async fn come<'a>(
        self,
        world: &'a World,
        strict: &'a World,
        oracle: &mut Oracle<'a>,
        rng: &mut StdRng,
    ) {
        match self {
            Self::None => {}
            Self::StricterRules { .. } => {
                // Earlier files are validated by the earlier rules.
                audit(world).await;
                oracle.tighten(strict, 800);
            }
            Self::Retagger => {
                let owner = Owner::named(OWNER.trim_matches('`'));
                let mut uploads = Vec::new();
                for n in 0..REWRITTEN {
                    let attach_to = Some(record("retagged", n));
                    let new = NewUpload { attach_to, ..NewUpload::default() };
                    let new = world.app.create_upload(&owner, new).await;
                    let upload = new.unwrap().upload;
                    world.put(&upload, mp3(900, 200)).await;
                    uploads.push(upload);
                }
                audit(world).await;
                for upload in &uploads {
                    world.put(upload, mp3(901, 201)).await;
                }
                oracle.retagged = uploads;
            }
            Self::Versions => {
                // The existing files are verified long before they are written again, so
                // differences between clocks do not matter.
                audit(world).await;
                world.pass(TimeDelta::minutes(20));
                oracle.store_again(rng).await;
            }
            Self::Attacker => {
                let owner = Owner::named("mallory");
                for _ in 0..ATTACKS {
                    let new = world.app.create_upload(&owner, NewUpload::default()).await;
                    world.app.delete_upload(&owner, new.unwrap().upload.id).await.unwrap();
                }
            }
        }
    }
}

/// Runs an audit with a working store.
async fn audit(world: &World) {
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!(run.counters.errors, 0);
}

/// The operator accepts the rewritten files.
pub async fn operate(world: &World, oracle: &Oracle<'_>, rng: &mut StdRng) {
    let uploads = &oracle.retagged;
    if uploads.is_empty() {
        return;
    }
    let stopped = world.reconcile(Mode::Audit).await;
    assert_eq!(stopped.status, RunStatus::Stopped);
    assert!(stopped.error.unwrap().contains(OWNER));
    if rng.random_bool(0.5) {
        for upload in uploads {
            world.app.verify_upload(&world.owner, upload.id, true).await.unwrap();
        }
        return;
    }
    // First they are rejected by mistake.
    let count = uploads.len() as u64;
    let run = world.reconcile_with(|request| request.accept_damage = count, Mode::Audit).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, count));
    let counts = world.app.verify_rejected_by(&world.owner, run.id, true).await.unwrap();
    assert_eq!(counts.verified, count, "{counts:?}");
}
