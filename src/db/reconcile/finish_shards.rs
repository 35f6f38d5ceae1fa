//! Writes the ends of shards, several in one commit: the shards of a run end at about the same
//! time, and each process works on several.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbBackend};
use uuid::Uuid;

use entity::reconcile_shard as shard;

use super::runs::end_run;
use super::shard_row::end_of;
use super::shard_writes::{
    ShardProgress, claim_one, ends_of, held, lock_run, skip, write_progress,
};
use crate::db::Result;
use crate::db::engine::batcher::Batcher;
use crate::db::engine::clock::time;
use crate::db::engine::transaction::begin;
use crate::domain::run::{Progress, RunOutcome, RunShard, ShardStatus, run_outcome};
use crate::domain::{LocationNumber, PolicyName, RunId, Timestamp};

/// Largest number of ends in one commit. A process works on fewer shards at the same time.
const MAX_BATCH: usize = 64;

/// The result of ending a shard.
#[derive(Debug)]
pub enum Finished {
    /// The end is written, and other shards are not finished. Contains the shard that was claimed
    /// in the same commit, if one could be claimed.
    Shard(Option<RunShard>),
    /// The end is written, and so is the run's end.
    Run(Box<Progress>),
    /// Nothing was written: another process holds the shard, or its run has ended.
    Lost,
}

/// A shard's end to write.
pub(in crate::db) struct End {
    pub shard: RunShard,
    pub status: ShardStatus,
    pub progress: ShardProgress,
    /// The process that claims the next shard, and the length of the lease.
    pub claim: (Uuid, Duration),
    pub now: Timestamp,
}

impl End {
    /// Writes the end; `false` if another process holds the shard.
    async fn write(&self, txn: &DatabaseTransaction, postgres: bool) -> Result<bool> {
        let update = held(&self.shard, postgres, Duration::ZERO)
            .col_expr(shard::Column::Status, Expr::value(self.status.name()));
        write_progress(txn, &self.shard, &self.progress, update).await
    }
}

/// Submits ends to the task that writes them.
pub(in crate::db) type ShardFinisher = Batcher<End, Finished>;

/// Starts the task that writes the ends of shards, on the current runtime.
pub(in crate::db) fn start(write: DatabaseConnection) -> ShardFinisher {
    Batcher::start("ending shards", MAX_BATCH, move |ends| finish_batch(write.clone(), ends))
}

async fn finish_batch(write: DatabaseConnection, ends: Vec<End>) -> Vec<Result<Finished>> {
    let mut runs: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
    for (index, end) in ends.iter().enumerate() {
        runs.entry(end.shard.run).or_default().push(index);
    }
    let mut results: Vec<Result<Finished>> = ends.iter().map(|_| Ok(Finished::Lost)).collect();
    for (run, indexes) in runs {
        let of_run: Vec<&End> = indexes.iter().map(|index| &ends[*index]).collect();
        match finish_run_shards(&write, run, &of_run).await {
            Ok(done) => {
                for (index, done) in indexes.into_iter().zip(done) {
                    results[index] = Ok(done);
                }
            }
            Err(error) => {
                for index in indexes {
                    results[index] = Err(error.clone());
                }
            }
        }
    }
    results
}

/// Ends shards of one run in one transaction.
async fn finish_run_shards(
    write: &DatabaseConnection,
    id: RunId,
    ends: &[&End],
) -> Result<Vec<Finished>> {
    let postgres = write.get_database_backend() == DbBackend::Postgres;
    let txn = begin(write).await?;
    let mut results: Vec<Finished> = ends.iter().map(|_| Finished::Lost).collect();
    // The run is locked first. So if the last two shards end at the same time, the transaction of
    // the second one sees the end of the first one.
    let Some(run) = lock_run(&txn, id).await? else {
        txn.rollback().await?;
        return Ok(results);
    };
    let mut written = Vec::new();
    for (index, end) in ends.iter().enumerate() {
        if end.write(&txn, postgres).await? {
            results[index] = Finished::Shard(None);
            written.push(index);
        }
    }
    let Some(&first) = written.first() else {
        txn.rollback().await?;
        return Ok(results);
    };
    let rows = ends_of(&txn, id).await?;
    let ends_now = rows.iter().map(end_of).collect::<Result<Vec<_>>>()?;
    match run_outcome(&ends_now) {
        RunOutcome::Continues(given_up) => {
            skip(&txn, id, Some(&given_up)).await?;
            let given_up = |row: &shard::Model| {
                let is_location_of_row = |(policy, at): &(PolicyName, LocationNumber)| {
                    policy.as_str() == row.policy && at.0 == row.location
                };
                given_up.iter().any(is_location_of_row)
            };
            let mut unclaimed: Vec<_> = rows.into_iter().filter(|row| !given_up(row)).collect();
            let now = time(&txn, Duration::ZERO).await?;
            for index in written {
                let claim = ends[index].claim;
                let Some(next) = claim_one(&txn, postgres, &unclaimed, now, claim).await? else {
                    break;
                };
                unclaimed.retain(|row| row.number != next.number);
                results[index] = Finished::Shard(Some(next));
            }
        }
        RunOutcome::Ended(status, error) => {
            skip(&txn, id, None).await?;
            // Read again, because a skipped shard may have saved a batch in the meantime.
            let rows = ends_of(&txn, id).await?;
            let ended = end_run(&txn, run, &rows, status, error, ends[first].now).await?;
            results[first] = Finished::Run(ended.into());
        }
    }
    txn.commit().await?;
    Ok(results)
}
