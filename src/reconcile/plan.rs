//! What an incremental run looks at: per shard, a HEAD for each of the oldest open rows
//! and a listing from the next one on, whichever cut asks the store for least.
//!
//! A few old open ids (uploads that were renewed again and again) would drag a listing
//! far back: those are asked for one by one, and the listing begins behind them.

use chrono::TimeDelta;

use super::ReconcileSettings;
use crate::app::{App, AppError};
use crate::db::scan::OpenWindow;
use crate::domain::key::{SHARD_COUNT, Shard};
use crate::domain::run::{Mode, NewShard, RunRequest};
use crate::domain::{KeyRange, Policy};
use crate::storage::{MAX_PAGE, Store};

/// What two LIST requests cost in HEAD requests: 5.00 to 0.40 dollars a million each (S3
/// Standard, `us-east-1`), so one LIST is 12.5 HEADs.
const HEADS_PER_TWO_LISTS: u64 = 25;

/// The most rows of a shard that are asked for one by one; also what is read of the open
/// rows, so that no number of them fills the memory.
const MAX_HEADS: usize = 500;

/// What to look at in one shard.
#[derive(Debug, Default)]
pub struct Look {
    /// The rows with these keys, in their order, each by a HEAD of its own.
    pub heads: Vec<String>,
    /// This range, by listing it.
    pub list: Option<KeyRange>,
    /// How many keys are expected there; `None` is any number.
    pub expected: Option<u64>,
}

impl Look {
    /// How many keys to ask for first: those expected and some more, so that the page ends
    /// behind the range. A listing knows no end, and would give as many again of the next shard.
    pub fn first_page(&self, most: usize) -> usize {
        let keys = self.expected.and_then(|keys| usize::try_from(keys + keys / 8 + 16).ok());
        keys.map_or(most, |keys| keys.min(most))
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

/// As many open rows of a policy are never worth a listing of each shard: asking for each
/// costs no more than one LIST a shard does.
const FEW: u64 = SHARD_COUNT as u64 * HEADS_PER_TWO_LISTS / 2;

/// The shards that a run has for a policy. An incremental run with little to look at has
/// one, and with nothing to look at none.
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
    if request.mode == Mode::Incremental {
        let window = open_window(app, policy, store, settings.late_window);
        let open = app.db.count_open(&policy.name, &window, FEW + 1).await?;
        if open == 0 {
            let now = app.now();
            let due = app.db.count_due(&policy.name, now, 1).await? > 0
                || !app.db.due_aborts(&policy.name, now, 1).await?.is_empty();
            // A forced run writes a marker that was lost.
            let closes = due || request.force;
            return Ok(if closes { vec![shard(None, true)] } else { Vec::new() });
        }
        if open <= FEW {
            return Ok(vec![shard(Some(policy.prefix.whole()), true)]);
        }
    }
    let mut all: Vec<_> =
        shards(policy, store).into_iter().map(|range| shard(Some(range), false)).collect();
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

/// What an incremental run looks at in one shard; nothing where nothing is open.
pub async fn incremental(
    app: &App,
    policy: &Policy,
    store: &Store,
    range: KeyRange,
    late_window: TimeDelta,
) -> Result<Look, AppError> {
    let window = open_window(app, policy, store, late_window);
    let mut open = app.db.open_keys(&policy.name, &range, &window, MAX_HEADS as u64 + 1).await?;
    let anywhere = store.capabilities.may_start_after();
    let mut cuts = Vec::new();
    if open.len() <= MAX_HEADS {
        cuts.push(Cut { heads: open.len(), keys: None });
    }
    // With so few, no listing is cheaper than asking for each.
    if 2 * open.len() as u64 > HEADS_PER_TWO_LISTS {
        // Rows behind which a listing would cost more than all HEADs need no counting.
        let most = (2 * open.len() as u64 / HEADS_PER_TWO_LISTS + 1) * MAX_PAGE as u64;
        for heads in candidates(open.len()).take(if anywhere { usize::MAX } else { 1 }) {
            let rest = from(&range, &open[heads], anywhere);
            let keys = app.db.count_in(&policy.name, &rest, most).await?;
            cuts.push(Cut { heads, keys: Some(keys) });
            // One page: behind a later cut it would not be fewer.
            if keys < MAX_PAGE as u64 {
                break;
            }
        }
    }
    let cut = cheapest(cuts);
    let (heads, expected) = cut.map_or((0, None), |cut| (cut.heads, cut.keys));
    let list = open.get(heads).map(|oldest| from(&range, oldest, anywhere));
    open.truncate(heads);
    Ok(Look { heads: open, list, expected })
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
    use crate::domain::{Prefix, UploadId};

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
        let first = |expected| Look { expected, ..Look::default() }.first_page(1000);
        assert_eq!([None, Some(0), Some(80), Some(5000)].map(first), [1000, 16, 106, 1000]);
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
