//! Plans the shards of a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::open_window;
use crate::app::{App, AppError};
use crate::domain::key::{SHARD_COUNT, Shard};
use crate::domain::run::{Mode, NewShard, RunRequest};
use crate::domain::{KeyRange, Location, LocationNumber, Policy};
use crate::reconcile::ReconcileSettings;
use crate::reconcile::moving::shards_of_move;
use crate::reconcile::unattached::unattached_before;
use crate::storage::Store;

/// The number of open rows for one shard of an incremental run. With fewer rows per shard, claiming
/// and ending a shard would cost more than its rows.
const ROWS_PER_SHARD: u64 = 512;

/// Open rows are counted up to this number, which is enough for the most shards.
const MAX_OPEN: u64 = ROWS_PER_SHARD * SHARD_COUNT as u64;

/// A location's whole prefix, cut into shards if the store can start a listing anywhere.
pub fn shards(location: &Location, store: &Store) -> Vec<KeyRange> {
    if store.capabilities.may_start_after() {
        Shard::all().map(|shard| shard.range(&location.prefix)).collect()
    } else {
        vec![location.prefix.whole()]
    }
}

/// A location's whole prefix, cut into at most `count` ranges of neighbouring shards.
fn ranges(location: &Location, store: &Store, count: usize) -> Vec<KeyRange> {
    let shards = shards(location, store);
    let joined = shards.chunks(shards.len().div_ceil(count)).filter_map(|shards| {
        let until = shards.last()?.until.clone();
        Some(KeyRange { until, ..shards.first()?.clone() })
    });
    joined.collect()
}

/// The shards of a run for a policy, at all its locations. An incremental run has few shards if few
/// rows are open, and none if there is nothing to do.
///
/// # Errors
/// If the database fails.
pub async fn shards_of_run(
    app: &App,
    policy: &Policy,
    request: &RunRequest,
    settings: &ReconcileSettings,
) -> Result<Vec<NewShard>, AppError> {
    if let Some(moving) = &request.moving {
        return shards_of_move(app, policy, moving).await;
    }
    let locations = app.locations_of(policy).await?;
    let open = match request.mode {
        Mode::Incremental if locations.len() > 1 => {
            open_locations(app, policy, &locations, settings).await?
        }
        _ => None,
    };
    let (mut all, mut locations_with_shards) = (Vec::new(), 0);
    if locations.is_empty() {
        // Without a location, the worker of this shard reports the error. The other policies are
        // still reconciled.
        all.push(NewShard {
            policy: policy.name.clone(),
            location: LocationNumber(0),
            range: Some(policy.prefix.whole()),
            finalizes: true,
        });
    }
    for location in &locations {
        let plan = LocationPlan { app, policy, location, request, settings };
        let may_be_open = open.as_ref().is_none_or(|open| open.contains(&location.number));
        let shards = plan.shards(may_be_open).await?;
        locations_with_shards += usize::from(!shards.is_empty());
        all.extend(shards);
    }
    Ok(if locations_with_shards > 1 { finalize_last(all) } else { all })
}

/// The damage limit of a policy covers all its locations. So no shard finalizes before the ranges
/// of all locations are compared.
fn finalize_last(shards: Vec<NewShard>) -> Vec<NewShard> {
    let finalizing: Vec<NewShard> = shards
        .iter()
        .filter(|shard| shard.finalizes)
        .map(|shard| NewShard { range: None, ..shard.clone() })
        .collect();
    let ranges = shards.into_iter().filter(|shard| shard.range.is_some());
    let ranges = ranges.map(|shard| NewShard { finalizes: false, ..shard });
    ranges.chain(finalizing).collect()
}

/// The locations that have open rows. `None` if so many rows are open that some were not counted.
async fn open_locations(
    app: &App,
    policy: &Policy,
    locations: &[Arc<Location>],
    settings: &ReconcileSettings,
) -> Result<Option<BTreeSet<LocationNumber>>, AppError> {
    // If a store does not enforce write-once, verified rows are open too.
    let stores = locations.iter().filter_map(|location| app.store_at(location).ok());
    let window = open_window(app, policy, stores, settings.late_window);
    Ok(app.db.scan().open_locations(&policy.name, &window, MAX_OPEN).await?)
}

/// The plan of a run at one location.
struct LocationPlan<'a> {
    app: &'a App,
    policy: &'a Policy,
    location: &'a Location,
    request: &'a RunRequest,
    settings: &'a ReconcileSettings,
}

impl LocationPlan<'_> {
    fn shard(&self, range: Option<KeyRange>, finalizes: bool) -> NewShard {
        let Location { policy, number, .. } = self.location;
        NewShard { policy: policy.clone(), location: *number, range, finalizes }
    }

    async fn shards(&self, may_be_open: bool) -> Result<Vec<NewShard>, AppError> {
        let Self { app, policy, location, request, settings } = *self;
        let Ok(store) = app.store_at(location) else {
            // The worker of the shard reports that the store is not configured. The other locations
            // are still reconciled.
            let is_needed = match request.mode {
                Mode::Incremental => self.is_open_or_due_without_store(may_be_open).await?,
                Mode::Audit | Mode::Move => app.db.scan().needs_store(location.into()).await?,
            };
            let shard = || self.shard(Some(location.prefix.whole()), true);
            return Ok(if is_needed { vec![shard()] } else { Vec::new() });
        };
        let mut count = SHARD_COUNT.into();
        if request.mode == Mode::Incremental {
            let window = open_window(app, policy, [store], settings.late_window);
            let open = if may_be_open {
                app.db.scan().count_open(location.into(), &window, MAX_OPEN).await?
            } else {
                0
            };
            if open == 0 {
                // A run that adopts the bucket writes a missing marker.
                let finalizes = request.adopt_bucket
                    || self.is_something_due().await?
                    || self.is_copy_due().await?;
                return Ok(if finalizes { vec![self.shard(None, true)] } else { Vec::new() });
            }
            if open <= ROWS_PER_SHARD {
                return Ok(vec![self.shard(Some(location.prefix.whole()), true)]);
            }
            // A power of two, so that all ranges have the same number of shards.
            let enough = open.div_ceil(ROWS_PER_SHARD).next_power_of_two();
            count = usize::try_from(enough).unwrap_or(count);
        }
        // The finalizing shard compares no range. So a comparison that fails does not stop it.
        let ranges = ranges(location, store, count);
        let mut all: Vec<_> =
            ranges.into_iter().map(|range| self.shard(Some(range), false)).collect();
        all.push(self.shard(None, true));
        Ok(all)
    }

    /// Whether an incremental run needs the store of this location, which is not configured.
    async fn is_open_or_due_without_store(&self, may_be_open: bool) -> Result<bool, AppError> {
        let Self { app, policy, location, settings, .. } = *self;
        let window = open_window(app, policy, [], settings.late_window);
        Ok((may_be_open && app.db.scan().count_open(location.into(), &window, 1).await? > 0)
            || self.is_something_due().await?)
    }

    /// Whether a deletion, an abort or the removal of an unattached upload is due.
    async fn is_something_due(&self) -> Result<bool, AppError> {
        let Self { app, policy, location, request, .. } = *self;
        let (now, scan) = (app.now(), app.db.scan());
        if let Some(before) = unattached_before(app, policy, request).await?
            && !scan.list_unattached(location.into(), before, None, 1).await?.is_empty()
        {
            return Ok(true);
        }
        Ok(scan.count_due(location.into(), now, 1).await? > 0
            || !app.db.multipart_aborts().list_due(location.into(), now, 1).await?.is_empty())
    }

    /// Whether an object that a move left behind is due for deletion. A store that is not
    /// configured any more keeps such objects.
    async fn is_copy_due(&self) -> Result<bool, AppError> {
        let Self { app, location, .. } = *self;
        let due = app.db.object_copies().list_due(location.into(), app.now(), None, 1).await?;
        Ok(!due.is_empty())
    }
}
