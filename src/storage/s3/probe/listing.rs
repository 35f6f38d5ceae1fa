//! Whether listings can be merged with a table, and where they may begin.

use super::{Check, Prober, Step};
use crate::storage::{ListRequest, PutOptions, StoreError};

/// In byte order. `-` and `.` sort before `/`, and `0` behind it: a store that walks
/// directories gets these wrong. None is a directory of another.
const NAMES: [&str; 6] = ["a-b", "a.b/c", "a/b", "a/c/d", "a0", "b"];
/// Between and on the names.
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
            Check::pass("listing", "listings ascend byte by byte")
        } else {
            let mend = "The service's own keys are listed in order: keep other objects out of its \
                        prefixes, because an audit stops where a listing descends.";
            Check::warn("listing", format!("{NAMES:?} is listed as {listed:?}"), mend)
        })
    }

    pub(super) async fn start_after(&self) -> Step<Check> {
        let mut wrong = None;
        for start in STARTS {
            let mut listed = self.names(Some(start), 1000).await?;
            listed.sort();
            let expected: Vec<_> = NAMES.into_iter().filter(|name| *name > start).collect();
            if listed != expected {
                wrong = Some(format!("behind {start:?}, {expected:?} is listed as {listed:?}"));
                break;
            }
        }
        self.learn(|can| can.start_after = wrong.is_none());
        Ok(match wrong {
            None => Check::pass("start_after", "a listing may begin behind any text"),
            Some(saw) => {
                let mend = "Nothing is lost: listings begin at their shard's first key.";
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
            let saw = format!(
                "of {} objects {} were not deleted in a batch",
                keys.len(),
                left.max(failed)
            );
            Check::warn("batch_delete", saw, "Nothing is lost: objects are deleted one by one.")
        })
    }

    /// The names below the probe's `list/`, page by page in the store's order.
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
            // A store that repeats a page forever is caught by the count.
            match page.next {
                Some(token) if names.len() <= NAMES.len() => request.token = Some(token),
                _ => return Ok(names),
            }
        }
    }
}
