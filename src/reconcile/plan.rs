//! What an incremental run looks at: per shard, a HEAD for each of the oldest open rows
//! and a listing from the next one on, whichever cut asks the store for least.
//!
//! A few old open ids (uploads that were renewed again and again) would drag a listing
//! far back: those are asked for one by one, and the listing begins behind them.

use std::collections::VecDeque;

use chrono::TimeDelta;

use super::ReconcileSettings;
use crate::app::{App, AppError};
use crate::db::reconcile::scan::OpenWindow;
use crate::domain::key::{SHARD_COUNT, Shard};
use crate::domain::limits::MAX_PAGE;
use crate::domain::reconcile::UploadSummary;
use crate::domain::run::{Mode, NewShard, RunRequest};
use crate::domain::{KeyRange, Policy, Timestamp};
use crate::storage::Store;

/// What two LIST requests cost in HEAD requests: 5.00 to 0.40 dollars a million each (S3
/// Standard, `us-east-1`), so one LIST is 12.5 HEADs.
const HEADS_PER_TWO_LISTS: u64 = 25;

/// The most rows of a shard that are asked for one by one; also about what is read of the
/// open rows at once, so that no number of them fills the memory.
const MAX_HEADS: usize = 500;

/// What to look at in one shard.
#[derive(Debug, Default)]
pub struct Look {
    /// The rows with these keys, in their order, each by a HEAD of its own.
    pub heads: Vec<String>,
    /// What lies behind them, by listing it.
    pub list: Option<Listing>,
}

/// A range that is listed, and compared with its rows.
#[derive(Debug)]
pub struct Listing {
    /// Its keys.
    pub range: KeyRange,
    /// When the first request for it was made, be it for rows: evidence is never younger.
    pub asked_at: Timestamp,
    /// All its rows, where they were read to see how many there are.
    pub rows: Option<Vec<UploadSummary>>,
}

impl Listing {
    /// How many keys to ask for first: those expected and some more, so that the page ends
    /// behind the range. A listing knows no end, and would give as many again of the next shard.
    pub fn first_page(&self, most: usize) -> usize {
        let expected = self.rows.as_ref().map(Vec::len);
        expected.map_or(most, |keys| (keys + keys / 8 + 16).min(most))
    }
}

/// The whole of a policy's prefix, cut into shards where the store can begin a listing
/// anywhere.
pub fn shards(policy: &Policy, store: &Store) -> Vec<KeyRange> {
    if store.capabilities.may_start_after() {
        Shard::all().map(|shard| shard.range(&policy.prefix)).collect()
    } else {
        vec![policy.prefix.whole()]
    }
}

/// The same, in so many ranges of neighbouring shards.
fn ranges(policy: &Policy, store: &Store, count: usize) -> Vec<KeyRange> {
    let shards = shards(policy, store);
    let joined = shards.chunks(shards.len().div_ceil(count)).filter_map(|shards| {
        let until = shards.last()?.until.clone();
        Some(KeyRange { until, ..shards.first()?.clone() })
    });
    joined.collect()
}

/// A way to look at a shard's open rows: HEAD the first `heads` of them, and list from
/// the next on, past about `keys` keys; `None` where none is left to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    heads: usize,
    keys: Option<u64>,
}

impl Cut {
    /// Its cost, in half HEADs.
    fn cost(self) -> u64 {
        let pages = self.keys.map_or(0, |keys| keys / MAX_PAGE as u64 + 1);
        2 * self.heads as u64 + HEADS_PER_TWO_LISTS * pages
    }
}

/// The cheapest of some cuts; of equal ones the first.
pub fn cheapest(cuts: impl IntoIterator<Item = Cut>) -> Option<Cut> {
    cuts.into_iter().min_by_key(|cut| cut.cost())
}

/// Where to cut `open` rows, so that with few questions the best cut is not missed by
/// much: nowhere, and behind the oldest 1, 4, 16 and so on.
fn candidates(open: usize) -> impl Iterator<Item = usize> {
    let growing = std::iter::successors(Some(1_usize), |n| n.checked_mul(4));
    std::iter::once(0).chain(growing).take_while(move |heads| *heads < open)
}

/// For so many open rows an incremental run has a shard of its own: with fewer, to claim and to
/// end it would cost more than to look at them.
const ROWS_A_SHARD: u64 = 512;

/// The shards that a run has for a policy. An incremental run with little to look at has
/// few, and with nothing to look at none.
pub async fn shards_of_run(
    app: &App,
    policy: &Policy,
    request: &RunRequest,
    settings: &ReconcileSettings,
) -> Result<Vec<NewShard>, AppError> {
    let shard = |range, closing| NewShard { policy: policy.name.clone(), range, closing };
    let Ok(store) = app.store_of(policy) else {
        // Whoever works on it finds out, and the other policies have their turn.
        return Ok(vec![shard(Some(policy.prefix.whole()), true)]);
    };
    let mut count = SHARD_COUNT.into();
    if request.mode == Mode::Incremental {
        let window = open_window(app, policy, store, settings.late_window);
        let most = ROWS_A_SHARD * u64::from(SHARD_COUNT);
        let open = app.db.scan().count_open(&policy.name, &window, most).await?;
        if open == 0 {
            let now = app.now();
            let due = app.db.scan().count_due(&policy.name, now, 1).await? > 0
                || !app.db.multipart_aborts().list_due(&policy.name, now, 1).await?.is_empty();
            // A forced run writes a marker that was lost.
            let closes = due || request.force;
            return Ok(if closes { vec![shard(None, true)] } else { Vec::new() });
        }
        if open <= ROWS_A_SHARD {
            return Ok(vec![shard(Some(policy.prefix.whole()), true)]);
        }
        // A power of two, so that all have the same number of shards.
        let enough = open.div_ceil(ROWS_A_SHARD).next_power_of_two();
        count = usize::try_from(enough).unwrap_or(count);
    }
    // What closes is apart: whatever becomes of a listing, the rest has its turn.
    let ranges = ranges(policy, store, count);
    let mut all: Vec<_> = ranges.into_iter().map(|range| shard(Some(range), false)).collect();
    all.push(shard(None, true));
    Ok(all)
}

fn open_window(app: &App, policy: &Policy, store: &Store, late_window: TimeDelta) -> OpenWindow {
    let now = app.now();
    OpenWindow {
        late_since: now - late_window,
        overwritable_since: now - policy.grace,
        write_once_holds: store.capabilities.write_once_is_effective(),
    }
}

/// What an incremental run looks at in a range of keys, shard by shard.
pub struct Planner<'a> {
    app: &'a App,
    policy: &'a Policy,
    store: &'a Store,
    range: KeyRange,
    window: OpenWindow,
    /// Keys of open rows that were read, of this shard and the next ones.
    ahead: VecDeque<String>,
    /// Whether these are all of the range.
    all_read: bool,
}

impl<'a> Planner<'a> {
    /// Nothing is read yet.
    pub fn new(
        app: &'a App,
        policy: &'a Policy,
        store: &'a Store,
        range: KeyRange,
        late_window: TimeDelta,
    ) -> Self {
        let window = open_window(app, policy, store, late_window);
        Self { app, policy, store, range, window, ahead: VecDeque::new(), all_read: false }
    }

    /// The parts of the range that lie in one shard each, to be looked at in this order; all of
    /// it where one LIST shows as much, which costs no more than the parts do.
    pub async fn parts(&mut self) -> Result<Vec<KeyRange>, AppError> {
        let whole = self.range.clone();
        let shards = shards(self.policy, self.store);
        let parts: Vec<_> = shards.iter().filter_map(|shard| whole.common(shard)).collect();
        self.read_ahead(&whole).await?;
        let open = self.ahead.len() as u64;
        if parts.len() > 1
            && self.all_read
            && 2 * open > HEADS_PER_TWO_LISTS
            && let Some(oldest) = self.ahead.front()
        {
            let (rest, page) = (from(&whole, oldest, true), MAX_PAGE as u64);
            if self.app.db.scan().count_in_range(&self.policy.name, &rest, page).await? < page {
                return Ok(vec![whole]);
            }
        }
        Ok(parts)
    }

    /// What to look at in a part; nothing where nothing is open.
    pub async fn look(&mut self, part: &KeyRange) -> Result<Look, AppError> {
        let mut open = self.open(part).await?;
        let anywhere = self.store.capabilities.may_start_after();
        let (mut cuts, mut short) = (Vec::new(), None);
        if open.len() <= MAX_HEADS {
            cuts.push(Cut { heads: open.len(), keys: None });
        }
        // With so few, no listing is cheaper than asking for each.
        if 2 * open.len() as u64 > HEADS_PER_TWO_LISTS {
            // Rows behind which a listing would cost more than all HEADs need no counting.
            let most = (2 * open.len() as u64 / HEADS_PER_TWO_LISTS + 1) * MAX_PAGE as u64;
            for heads in candidates(open.len()).take(if anywhere { usize::MAX } else { 1 }) {
                let rest = from(part, &open[heads], anywhere);
                let (db, policy, asked_at) = (&self.app.db, &self.policy.name, self.app.now());
                let rows = db.scan().list_summaries(policy, &rest, MAX_PAGE as u64).await?;
                if rows.len() < MAX_PAGE {
                    cuts.push(Cut { heads, keys: Some(rows.len() as u64) });
                    short = Some((heads, Listing { range: rest, asked_at, rows: Some(rows) }));
                    // One page: behind a later cut it would not be fewer.
                    break;
                }
                let keys = db.scan().count_in_range(policy, &rest, most).await?;
                cuts.push(Cut { heads, keys: Some(keys) });
            }
        }
        let heads = cheapest(cuts).map_or(0, |cut| cut.heads);
        let list = match short {
            Some((at, listing)) if at == heads => Some(listing),
            _ => open.get(heads).map(|oldest| Listing {
                range: from(part, oldest, anywhere),
                asked_at: self.app.now(),
                rows: None,
            }),
        };
        open.truncate(heads);
        Ok(Look { heads: open, list })
    }

    /// The oldest open rows of a part: some more than [`MAX_HEADS`] where there are so many.
    async fn open(&mut self, part: &KeyRange) -> Result<Vec<String>, AppError> {
        let behind = |key: &String| part.until.as_ref().is_some_and(|until| key > until);
        // There may be more of the part than was read.
        if !self.all_read && !self.ahead.back().is_some_and(behind) {
            self.read_ahead(&KeyRange { after: part.after.clone(), ..self.range.clone() }).await?;
        }
        let here = self.ahead.iter().position(behind).unwrap_or(self.ahead.len());
        Ok(self.ahead.drain(..here).collect())
    }

    /// Reads the oldest open rows of the rest of the range.
    async fn read_ahead(&mut self, rest: &KeyRange) -> Result<(), AppError> {
        let (policy, most) = (&self.policy.name, MAX_HEADS + 1);
        let keys =
            self.app.db.scan().list_open_keys(policy, rest, &self.window, most as u64).await?;
        self.all_read = keys.len() < most;
        self.ahead = keys.into();
        Ok(())
    }
}

/// The part of a range from a key on, where the store can begin there.
fn from(range: &KeyRange, key: &str, anywhere: bool) -> KeyRange {
    if anywhere { range.resumed_after(just_before(key)) } else { range.clone() }
}

/// A text just below a key: S3's `start-after` leaves out the key it names. Without its
/// last digit the key sorts before itself, and no other key of ours lies between.
fn just_before(key: &str) -> &str {
    let mut characters = key.chars();
    characters.next_back();
    characters.as_str()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::transition::tests::{at, upload_in};
    use crate::domain::{Prefix, Status, UploadId};

    #[test]
    fn the_cheaper_of_asking_and_listing_is_taken() {
        let cut = |heads, keys| Cut { heads, keys };
        // Open rows asked for one by one, the cuts with a listing, and the best.
        let table = [
            (12, vec![cut(0, Some(10))], cut(12, None)),
            (13, vec![cut(0, Some(10))], cut(0, Some(10))),
            // A long listing costs more than a HEAD for each.
            (13, vec![cut(0, Some(5_000))], cut(13, None)),
            // An outlier far back, and many young ones.
            (300, vec![cut(0, Some(900_000)), cut(1, Some(400))], cut(1, Some(400))),
            (300, vec![cut(0, Some(1_000)), cut(16, Some(999))], cut(0, Some(1_000))),
            (300, vec![cut(0, Some(2_000)), cut(8, Some(999))], cut(8, Some(999))),
        ];
        for (open, mut cuts, best) in table {
            cuts.insert(0, cut(open, None));
            assert_eq!(cheapest(cuts.clone()), Some(best), "{cuts:?}");
        }
        assert_eq!(cheapest([]), None);
    }

    #[test]
    fn the_first_page_has_room_for_what_is_expected_and_never_for_more_than_a_page() {
        let row = UploadSummary::from(&upload_in(Status::Pending));
        let first = |rows: Option<usize>| {
            let (range, asked_at) = (Prefix::parse("t/").expect("a good prefix").whole(), at(0));
            let rows = rows.map(|count| vec![row.clone(); count]);
            Listing { range, asked_at, rows }.first_page(1000)
        };
        assert_eq!([None, Some(0), Some(80), Some(990)].map(first), [1000, 16, 106, 1000]);
    }

    #[test]
    fn candidates_grow_and_leave_something_to_list() {
        assert_eq!(candidates(0).count(), 0);
        assert_eq!(candidates(1).collect::<Vec<_>>(), [0]);
        assert_eq!(candidates(9).collect::<Vec<_>>(), [0, 1, 4]);
    }

    proptest! {
        #[test]
        fn nothing_costs_less_than_the_cheapest_cut(
            cuts in prop::collection::vec((0..600_usize, prop::option::of(0..2_000_000_u64)), 1..12),
        ) {
            let cuts: Vec<_> = cuts.into_iter().map(|(heads, keys)| Cut { heads, keys }).collect();
            let best = cheapest(cuts.clone()).expect("one of them");
            // In dollars, and apart from the code.
            let dollars = |cut: &Cut| {
                let lists = cut.keys.map_or(0, |keys| keys / 1_000 + 1);
                u128::from(lists) * 500 + cut.heads as u128 * 40
            };
            prop_assert!(cuts.iter().all(|cut| dollars(cut) >= dollars(&best)));
        }

        #[test]
        fn nothing_of_ours_lies_between_a_key_and_the_text_before_it(a: u128, b: u128) {
            let prefix = Prefix::parse("t/").expect("a good prefix");
            let key = prefix.key(UploadId(Uuid::from_u128(a)));
            let other = prefix.key(UploadId(Uuid::from_u128(b)));
            prop_assert!(just_before(key.as_str()) < key.as_str());
            let between = other.as_str() > just_before(key.as_str()) && other < key;
            prop_assert!(!between);
        }
    }
}
