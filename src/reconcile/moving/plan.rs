//! Plans a move.

use crate::app::{App, AppError};
use crate::domain::run::{Moving, NewShard};
use crate::domain::{Policy, Shard};

/// The shards of a move: the key ranges of each former location on the store. A move reads rows and
/// lists no objects, so it can have several shards on any store.
///
/// # Errors
/// If the policy has no former location on that store ([`AppError::Invalid`]), or the database
/// fails.
pub(in crate::reconcile) async fn shards_of_move(
    app: &App,
    policy: &Policy,
    moving: &Moving,
) -> Result<Vec<NewShard>, AppError> {
    let locations = app.former_locations(policy, &moving.from).await?;
    let shards = locations.iter().flat_map(|location| {
        Shard::all().map(|shard| NewShard {
            policy: policy.name.clone(),
            location: location.number,
            range: Some(shard.range(&location.prefix)),
            finalizes: false,
        })
    });
    Ok(shards.collect())
}
