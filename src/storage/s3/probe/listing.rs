//! Checks of listings: their order, and where they can start.

use super::{Check, Prober, Step};
use crate::storage::{ListRequest, PutOptions, StoreError};

/// Names in byte order. `-` and `.` sort before `/`, and `0` after it, so a store that lists
/// directories returns another order. No name is a directory of another name.
const NAMES: [&str; 6] = ["a-b", "a.b/c", "a/b", "a/c/d", "a0", "b"];
/// Start positions: texts between the names, and texts equal to a name.
const STARTS: [&str; 8] = ["a", "a-b", "a-c", "a.b", "a/", "a/b", "a/z", "aa"];

impl Prober<'_> {
    pub(super) async fn listing(&self) -> Step<Check> {
        for name in NAMES {
            let key = self.key(&format!("list/{name}"));
            let options = PutOptions::default();
            self.store.objects.put(&key, name.as_bytes().into(), &options).await?;
        }
        let listed = self.names(None, 2).await?;
        let ordered = listed == NAMES;
        self.learn(|can| can.list_order = ordered);
        Ok(if ordered {
            Check::pass("listing", "listings are in byte order")
        } else {
            let mend = "The service's own keys are listed in order. Keep other objects out of its \
                        prefixes, because an audit stops if a listing is not in order.";
            Check::warn("listing", format!("{NAMES:?} are listed as {listed:?}"), mend)
        })
    }

    pub(super) async fn start_after(&self) -> Step<Check> {
        let mut wrong = None;
        for start in STARTS {
            let mut listed = self.names(Some(start), 1000).await?;
            listed.sort();
            let expected: Vec<_> = NAMES.into_iter().filter(|name| *name > start).collect();
            if listed != expected {
                wrong = Some(format!("after {start:?}, {expected:?} are listed as {listed:?}"));
                break;
            }
        }
        self.learn(|can| can.start_after = wrong.is_none());
        Ok(match wrong {
            None => Check::pass("start_after", "a listing can start after any text"),
            Some(saw) => {
                let mend = "Nothing is lost: listings start at the first key of their shard.";
                Check::warn("start_after", saw, mend)
            }
        })
    }

    pub(super) async fn batch_delete(&self) -> Step<Check> {
        let keys: Vec<_> = NAMES.iter().map(|name| self.key(&format!("list/{name}"))).collect();
        let failed = match self.store.objects.delete_batch(&keys).await {
            Ok(failed) => failed.len(),
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            Err(_) => keys.len(),
        };
        let mut left = 0;
        for key in &keys {
            left += usize::from(self.etag(key).await?.is_some());
        }
        let works = failed == 0 && left == 0;
        self.learn(|can| can.batch_delete = works);
        Ok(if works {
            Check::pass("batch_delete", "objects are deleted in batches")
        } else {
            let failed = left.max(failed);
            let saw = format!("{failed} of {} objects were not deleted in a batch", keys.len());
            Check::warn("batch_delete", saw, "No object is lost: objects are deleted one by one.")
        })
    }

    /// Lists the names below the probe's `list/`, page by page, in the order that the store
    /// returns.
    async fn names(&self, start: Option<&str>, limit: usize) -> Step<Vec<String>> {
        let prefix = format!("{}list/", self.base);
        let start_after = start.map(|start| format!("{prefix}{start}"));
        let mut request = ListRequest { prefix, start_after, token: None, limit };
        let mut names = Vec::new();
        loop {
            let page = self.store.objects.list(&request).await?;
            names.extend(
                page.objects
                    .iter()
                    .filter_map(|object| object.key.strip_prefix(&request.prefix))
                    .map(str::to_owned),
            );
            // The count ends the loop if the store repeats a page.
            match page.next {
                Some(token) if names.len() <= NAMES.len() => request.token = Some(token),
                _ => return Ok(names),
            }
        }
    }
}
