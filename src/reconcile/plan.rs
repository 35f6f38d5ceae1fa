//! Plans the requests of a run: its shards, and in an incremental run the requests for each part of
//! a shard. The oldest open rows of a part (see [`OpenWindow`]) get a HEAD each, and the other rows
//! are covered by a listing. The cut between the two is chosen so that the requests cost least.
//!
//! A few old open rows (uploads that were renewed again and again) would make a listing start at a
//! very old key. They get a HEAD each, and the listing starts after them.

mod cost;
mod shards;

use std::collections::VecDeque;

use chrono::TimeDelta;

use self::cost::{Cut, HEADS_PER_TWO_LISTS, candidates, cheapest};
use crate::app::{App, AppError};
use crate::db::reconcile::scan::{OpenWindow, PolicyLocation};
use crate::domain::limits::MAX_PAGE;
use crate::domain::reconcile::UploadSummary;
use crate::domain::{KeyRange, Location, Policy, Timestamp};
use crate::storage::Store;

pub use shards::{shards, shards_of_run};

/// The largest number of rows of a part that get a HEAD each. About as many open rows are read at
/// once, which limits the memory.
const MAX_HEADS: usize = 500;

/// What to request for one part of a range.
#[derive(Debug, Default)]
pub struct PartPlan {
    /// The keys that get a HEAD each, in order.
    pub heads: Vec<String>,
    /// The keys after them, which are listed.
    pub list: Option<Listing>,
}

/// A range that is listed and compared with its rows.
#[derive(Debug)]
pub struct Listing {
    /// The range.
    pub range: KeyRange,
    /// The time when the first request for the range started, including requests for rows. All
    /// evidence is at least as new as this time.
    pub requested_at: Timestamp,
    /// All rows of the range, if they were already read to count them.
    pub rows: Option<Vec<UploadSummary>>,
}

impl Listing {
    /// The number of keys that the first request asks for: the expected keys and some more, so that
    /// the page reaches past the end of the range. A listing has no end key: without this limit it
    /// would return many keys of the next shard.
    pub fn first_page(&self, most: usize) -> usize {
        let expected = self.rows.as_ref().map(Vec::len);
        expected.map_or(most, |keys| (keys + keys / 8 + 16).min(most))
    }
}

/// The window of open rows of a policy, whose objects are in these stores.
pub fn open_window<'a>(
    app: &App,
    policy: &Policy,
    stores: impl IntoIterator<Item = &'a Store>,
    late_window: TimeDelta,
) -> OpenWindow {
    let now = app.now();
    let (mut write_once_holds, mut part_urls_write_objects) = (true, false);
    for store in stores {
        write_once_holds &= store.capabilities.write_once_is_effective();
        part_urls_write_objects |= store.capabilities.part_urls_write_objects;
    }
    OpenWindow {
        late_since: now - late_window,
        writable_since: now - policy.replacement_window(),
        write_once_holds,
        part_urls_write_objects,
    }
}

/// Plans an incremental run in a range of keys, part by part.
pub struct Planner<'a> {
    app: &'a App,
    location: &'a Location,
    store: &'a Store,
    range: KeyRange,
    window: OpenWindow,
    /// Keys of open rows that were already read: those of this part and of later parts.
    ahead: VecDeque<String>,
    /// Whether `ahead` has all the open rows of the range.
    all_read: bool,
}

impl<'a> Planner<'a> {
    /// A planner that has not read any rows.
    pub fn new(
        app: &'a App,
        location: &'a Location,
        store: &'a Store,
        range: KeyRange,
        window: OpenWindow,
    ) -> Self {
        Self { app, location, store, range, window, ahead: VecDeque::new(), all_read: false }
    }

    /// Cuts the range into parts that lie in one shard each, in order. If one LIST covers the whole
    /// range, returns the whole range, because one LIST costs no more than several.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn parts(&mut self) -> Result<Vec<KeyRange>, AppError> {
        let whole = self.range.clone();
        let shards = shards(self.location, self.store);
        let parts: Vec<_> = shards.iter().filter_map(|shard| whole.common(shard)).collect();
        self.read_ahead(&whole).await?;
        let open = self.ahead.len() as u64;
        if parts.len() > 1
            && self.all_read
            && 2 * open > HEADS_PER_TWO_LISTS
            && let Some(oldest) = self.ahead.front()
        {
            let (listed, page) = (from(&whole, oldest, true), MAX_PAGE as u64);
            let scan = self.app.db.scan();
            if scan.count_in_range(self.location.into(), &listed, page).await? < page {
                return Ok(vec![whole]);
            }
        }
        Ok(parts)
    }

    /// Plans a part. The plan is empty if no row is open.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn plan(&mut self, part: &KeyRange) -> Result<PartPlan, AppError> {
        let mut open = self.open(part).await?;
        let anywhere = self.store.capabilities.may_start_after();
        let (mut cuts, mut short) = (Vec::new(), None);
        if open.len() <= MAX_HEADS {
            cuts.push(Cut { heads: open.len(), keys: None });
        }
        // With fewer rows, no listing is cheaper than a HEAD for each.
        if 2 * open.len() as u64 > HEADS_PER_TWO_LISTS {
            // Listing more keys than this costs more than a HEAD for each row.
            let most = (2 * open.len() as u64 / HEADS_PER_TWO_LISTS + 1) * MAX_PAGE as u64;
            for heads in candidates(open.len()).take(if anywhere { usize::MAX } else { 1 }) {
                let listed = from(part, &open[heads], anywhere);
                let (scan, at) = (self.app.db.scan(), PolicyLocation::from(self.location));
                let requested_at = self.app.now();
                let rows = scan.list_summaries(at, &listed, MAX_PAGE as u64).await?;
                if rows.len() < MAX_PAGE {
                    cuts.push(Cut { heads, keys: Some(rows.len() as u64) });
                    short =
                        Some((heads, Listing { range: listed, requested_at, rows: Some(rows) }));
                    // This listing has one page. A listing that starts at a later key would not
                    // cost less.
                    break;
                }
                let keys = scan.count_in_range(at, &listed, most).await?;
                cuts.push(Cut { heads, keys: Some(keys) });
            }
        }
        let heads = cheapest(cuts).map_or(0, |cut| cut.heads);
        let list = match short {
            Some((at, listing)) if at == heads => Some(listing),
            _ => open.get(heads).map(|oldest| Listing {
                range: from(part, oldest, anywhere),
                requested_at: self.app.now(),
                rows: None,
            }),
        };
        open.truncate(heads);
        Ok(PartPlan { heads: open, list })
    }

    /// The oldest open rows of a part: more than [`MAX_HEADS`] of them, if the part has that many.
    async fn open(&mut self, part: &KeyRange) -> Result<Vec<String>, AppError> {
        let behind = |key: &String| part.until.as_ref().is_some_and(|until| key > until);
        // The part may have more open rows than were read.
        if !self.all_read && !self.ahead.back().is_some_and(behind) {
            self.read_ahead(&KeyRange { after: part.after.clone(), ..self.range.clone() }).await?;
        }
        let here = self.ahead.iter().position(behind).unwrap_or(self.ahead.len());
        Ok(self.ahead.drain(..here).collect())
    }

    /// Reads the oldest open rows of the remaining range.
    async fn read_ahead(&mut self, remaining: &KeyRange) -> Result<(), AppError> {
        let (at, most) = (self.location.into(), MAX_HEADS + 1);
        let scan = self.app.db.scan();
        let keys = scan.list_open_keys(at, remaining, &self.window, most as u64).await?;
        self.all_read = keys.len() < most;
        self.ahead = keys.into();
        Ok(())
    }
}

/// The keys of a range from `key` on, if the store can start a listing there. Otherwise the whole
/// range.
fn from(range: &KeyRange, key: &str, anywhere: bool) -> KeyRange {
    if anywhere { range.resumed_after(just_before(key)) } else { range.clone() }
}

/// A text that sorts just before a key, because S3's `start-after` excludes the key that it names.
/// The key without its last digit sorts before the key, and no other key of this service is between
/// them.
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
    fn the_first_page_has_room_for_the_expected_keys_and_is_never_larger_than_a_page() {
        let row = UploadSummary::from(&upload_in(Status::Pending));
        let first = |rows: Option<usize>| {
            let (range, requested_at) = (Prefix::parse("t/").unwrap().whole(), at(0));
            let rows = rows.map(|count| vec![row.clone(); count]);
            Listing { range, requested_at, rows }.first_page(1000)
        };
        assert_eq!([None, Some(0), Some(80), Some(990)].map(first), [1000, 16, 106, 1000]);
    }

    proptest! {
        #[test]
        fn no_key_of_ours_lies_between_a_key_and_the_text_before_it(a: u128, b: u128) {
            let prefix = Prefix::parse("t/").unwrap();
            let key = prefix.key(UploadId(Uuid::from_u128(a)));
            let other = prefix.key(UploadId(Uuid::from_u128(b)));
            prop_assert!(just_before(key.as_str()) < key.as_str());
            let between = other.as_str() > just_before(key.as_str()) && other < key;
            prop_assert!(!between);
        }
    }
}
