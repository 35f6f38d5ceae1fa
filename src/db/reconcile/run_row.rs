//! Conversion between a row of `reconcile_runs` and the domain's run.

use entity::reconcile_run as run;
use sea_orm::ActiveValue::Set;

use crate::db::{DbError, Result};
use crate::domain::run::{Mode, Moving, Run, RunRequest};
use crate::domain::{Owner, PolicyName, RunId, Timestamp};

pub(super) fn to_row(run: &Run, scheduled_for: Option<Timestamp>) -> run::ActiveModel {
    let Run { id, request, status, counters, error, started_at, finished_at } = run;
    let RunRequest { mode, policy, dry_run, accept_damage, adopt_bucket, adopt, moving, trigger } =
        request;
    run::ActiveModel {
        id: Set(id.0),
        mode: Set(mode.name().to_owned()),
        policy: Set(policy.as_ref().map(|policy| policy.as_str().to_owned())),
        trigger: Set(trigger.name().to_owned()),
        dry_run: Set(*dry_run),
        forced: Set(false),
        accept_damage: Set(i64::try_from(*accept_damage).unwrap_or(i64::MAX)),
        adopt_bucket: Set(*adopt_bucket),
        adopt_owner: Set(adopt.as_ref().map(|owner| owner.as_str().to_owned())),
        status: Set(status.name().to_owned()),
        cancel_requested: Set(false),
        counters: Set(serde_json::json!(counters)),
        error: Set(error.clone()),
        started_at: Set(*started_at),
        finished_at: Set(*finished_at),
        scheduled_for: Set(scheduled_for),
        deletions: Set(0),
        move_from: Set(moving.as_ref().map(|moving| moving.from.clone())),
        move_concurrency: Set(moving.as_ref().map(|moving| moving.concurrency.into())),
    }
}

impl TryFrom<run::Model> for Run {
    type Error = DbError;

    fn try_from(row: run::Model) -> Result<Self> {
        let run::Model {
            id,
            mode,
            policy,
            trigger,
            dry_run,
            forced,
            accept_damage,
            adopt_bucket,
            adopt_owner,
            status,
            cancel_requested: _,
            counters,
            error,
            started_at,
            finished_at,
            scheduled_for: _,
            deletions: _,
            move_from,
            move_concurrency,
        } = row;
        let bad = |column| DbError::Corrupt { table: "reconcile_runs", column, id: id.to_string() };
        // Runs of version 0.1 accepted either all damage or none.
        let accept_damage = if forced { i64::MAX } else { accept_damage };
        let moving = match (move_from, move_concurrency) {
            (Some(from), Some(concurrency)) => {
                let concurrency =
                    u16::try_from(concurrency).map_err(|_| bad("move_concurrency"))?;
                Some(Moving { from, concurrency })
            }
            _ => None,
        };
        Ok(Self {
            id: RunId(id),
            request: RunRequest {
                mode: mode.parse::<Mode>().map_err(|()| bad("mode"))?,
                policy: policy.map(PolicyName::new),
                dry_run,
                accept_damage: u64::try_from(accept_damage).map_err(|_| bad("accept_damage"))?,
                adopt_bucket: adopt_bucket || forced,
                adopt: adopt_owner.map(Owner::named),
                moving,
                trigger: trigger.parse().map_err(|()| bad("trigger"))?,
            },
            status: status.parse().map_err(|()| bad("status"))?,
            counters: serde_json::from_value(counters).map_err(|_| bad("counters"))?,
            error,
            started_at,
            finished_at,
        })
    }
}
