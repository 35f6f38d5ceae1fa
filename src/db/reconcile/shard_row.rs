//! Conversion between the row of a shard and the domain's shard.

use entity::reconcile_shard as shard;
use uuid::Uuid;

use crate::db::{DbError, Result};
use crate::domain::run::{Counters, NewShard, RunShard, ShardEnd, ShardStatus, Stage};
use crate::domain::{KeyRange, LocationNumber, PolicyName, RunId, Timestamp};

const TABLE: &str = "reconcile_shards";

/// The row of a new shard, leased to `holder` until `lease` if there is a holder.
pub(in crate::db) fn new_row(
    run: RunId,
    number: i32,
    new: &NewShard,
    holder: Option<Uuid>,
    lease: Timestamp,
) -> shard::Model {
    let NewShard { policy, location, range, finalizes } = new;
    shard::Model {
        run_id: run.0,
        number,
        policy: policy.as_str().to_owned(),
        location: location.0,
        closing: *finalizes,
        prefix: range.as_ref().map(|range| range.prefix.clone()),
        after: range.as_ref().and_then(|range| range.after.clone()),
        until: range.as_ref().and_then(|range| range.until.clone()),
        stage: Stage::Compare.name().to_owned(),
        cursor: None,
        status: ShardStatus::Open.name().to_owned(),
        error: None,
        counters: serde_json::json!(Counters::default()),
        findings: 0,
        holder,
        fence: i64::from(holder.is_some()),
        expires_at: if holder.is_some() { lease } else { Timestamp::UNIX_EPOCH },
    }
}

fn bad(row: &shard::Model, column: &'static str) -> DbError {
    DbError::Corrupt { table: TABLE, column, id: format!("{}/{}", row.run_id, row.number) }
}

/// A shard's counters.
pub(in crate::db) fn counters_of(row: &shard::Model) -> Result<Counters> {
    serde_json::from_value(row.counters.clone()).map_err(|_| bad(row, "counters"))
}

pub(in crate::db) fn end_of(row: &shard::Model) -> Result<ShardEnd> {
    Ok(ShardEnd {
        number: row.number,
        policy: PolicyName::new(row.policy.clone()),
        location: LocationNumber(row.location),
        status: row.status.parse().map_err(|()| bad(row, "status"))?,
        error: row.error.clone(),
    })
}

/// Converts the row of a claimed shard.
pub(in crate::db) fn read_shard(row: shard::Model) -> Result<RunShard> {
    let (after, until) = (row.after.clone(), row.until.clone());
    Ok(RunShard {
        run: RunId(row.run_id),
        number: row.number,
        policy: PolicyName::new(row.policy.clone()),
        location: LocationNumber(row.location),
        range: row.prefix.clone().map(|prefix| KeyRange { prefix, after, until }),
        finalizes: row.closing,
        stage: row.stage.parse().map_err(|()| bad(&row, "stage"))?,
        cursor: row.cursor.clone(),
        counters: counters_of(&row)?,
        findings: u64::try_from(row.findings).map_err(|_| bad(&row, "findings"))?,
        unverified: row.error.clone(),
        fence: row.fence,
    })
}
