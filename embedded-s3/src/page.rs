//! Ordered paging: prefixes, delimiters and markers over any source of sorted keys.
//!
//! A page costs what it shows. It is read as ranges that begin where the last one ended,
//! and a common prefix is left by seeking to its end, never by reading what is in it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::error::StoreError;

/// What S3 shows at most on a page.
pub(crate) const MAX_PAGE: i32 = 1000;

/// The first read of a listing with a delimiter, and the one after a common prefix: what
/// follows is likely to be one more prefix, so little is read ahead.
const FIRST_READ: usize = 8;
const READ_AFTER_PREFIX: usize = 2;

/// Continuation tokens begin with this, so that their form can change.
const TOKEN_VERSION: u8 = 1;

/// A place in the order of keys: everything at or above it is meant. The id tells apart
/// multipart uploads of one key; for objects it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bound {
    pub key: Vec<u8>,
    pub id: String,
}

impl Bound {
    pub(crate) fn at(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), id: String::new() }
    }

    /// Just above a key.
    pub(crate) fn above(key: &str) -> Self {
        let mut key = key.as_bytes().to_vec();
        key.push(0);
        Self::at(key)
    }

    /// Just above this place.
    pub(crate) fn successor(mut self) -> Self {
        if self.id.is_empty() {
            self.key.push(0);
        } else {
            // Ids are hex digits, so none lies between this one and itself with a zero.
            self.id.push('0');
        }
        self
    }

    pub(crate) fn to_token(&self) -> String {
        let mut raw = vec![TOKEN_VERSION];
        raw.extend_from_slice(&self.key);
        BASE64_URL_SAFE_NO_PAD.encode(raw)
    }

    pub(crate) fn from_token(token: &str) -> Option<Self> {
        match BASE64_URL_SAFE_NO_PAD.decode(token).ok()?.split_first()? {
            (&TOKEN_VERSION, key) => Some(Self::at(key)),
            _ => None,
        }
    }
}

/// The first place above everything that begins with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Keys are UTF-8, in which this byte does not occur.
    vec![u8::MAX]
}

/// What to show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub from: Bound,
    pub limit: usize,
}

impl Query {
    /// The common prefix that a key falls under.
    pub(crate) fn common_prefix<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let delimiter = self.delimiter.as_deref().filter(|d| !d.is_empty())?.as_bytes();
        let skip = self.prefix.len();
        let at = key.get(skip..)?.windows(delimiter.len()).position(|w| w == delimiter)?;
        key.get(..skip + at + delimiter.len())
    }
}

/// Where keys come from, in order.
pub(crate) trait Source: Sync {
    type Item: Send;

    /// Up to `limit` entries from `from` on and below `until`.
    fn range(
        &self,
        from: &Bound,
        until: &[u8],
        limit: i64,
    ) -> impl Future<Output = Result<Vec<(Bound, Self::Item)>, StoreError>> + Send;
}

#[derive(Debug)]
pub(crate) enum Entry<T> {
    Item(Bound, T),
    CommonPrefix(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Page<T> {
    pub entries: Vec<Entry<T>>,
    /// Where the next page begins, if there is one.
    pub next: Option<Bound>,
}

pub(crate) async fn read<S: Source>(
    source: &S,
    query: &Query,
) -> Result<Page<S::Item>, StoreError> {
    let mut entries = Vec::new();
    if query.limit == 0 {
        return Ok(Page { entries, next: None });
    }
    let until = prefix_end(query.prefix.as_bytes());
    let mut from = query.from.clone().max(Bound::at(query.prefix.as_bytes()));
    let rolls_up = query.delimiter.as_deref().is_some_and(|d| !d.is_empty());
    let mut batch = if rolls_up { FIRST_READ } else { usize::MAX };
    loop {
        let want = batch.min(query.limit - entries.len() + 1);
        let limit = i64::try_from(want).unwrap_or(i64::MAX);
        let rows = source.range(&from, &until, limit).await?;
        let exhausted = rows.len() < want;
        let mut after_prefix = false;
        for (at, item) in rows {
            if at < from {
                continue;
            }
            if entries.len() == query.limit {
                return Ok(Page { entries, next: Some(at) });
            }
            if let Some(prefix) = query.common_prefix(&at.key) {
                from = Bound::at(prefix_end(prefix));
                entries.push(Entry::CommonPrefix(prefix.to_vec()));
                after_prefix = true;
            } else {
                from = at.clone().successor();
                entries.push(Entry::Item(at, item));
                after_prefix = false;
            }
        }
        if exhausted {
            return Ok(Page { entries, next: None });
        }
        batch = if after_prefix { READ_AFTER_PREFIX } else { batch.saturating_mul(2) };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A sorted set that counts how many of its keys were looked at.
    struct Counted {
        keys: BTreeSet<Vec<u8>>,
        rows: AtomicUsize,
    }

    impl Counted {
        fn of(keys: impl Iterator<Item = String>) -> Self {
            Self { keys: keys.map(String::into_bytes).collect(), rows: AtomicUsize::new(0) }
        }

        async fn read(&self, query: &Query) -> (Page<()>, usize) {
            self.rows.store(0, Ordering::Relaxed);
            let page = read(self, query).await.unwrap();
            (page, self.rows.load(Ordering::Relaxed))
        }
    }

    impl Source for Counted {
        type Item = ();

        async fn range(
            &self,
            from: &Bound,
            until: &[u8],
            limit: i64,
        ) -> Result<Vec<(Bound, ())>, StoreError> {
            let range = self.keys.range(from.key.clone()..until.to_vec());
            let limit = usize::try_from(limit).unwrap();
            let rows: Vec<_> = range.take(limit).map(|k| (Bound::at(k.clone()), ())).collect();
            self.rows.fetch_add(rows.len(), Ordering::Relaxed);
            Ok(rows)
        }
    }

    fn query(prefix: &str, delimiter: Option<&str>, from: &str) -> Query {
        let from = Bound::at(from);
        Query { prefix: prefix.into(), delimiter: delimiter.map(Into::into), from, limit: 1000 }
    }

    #[tokio::test]
    async fn a_page_looks_at_as_many_rows_in_a_large_bucket_as_in_a_small_one() {
        for size in [1_000, 100_000] {
            let bucket = Counted::of((0..size).map(|n| format!("k/{n:08}")));
            let (page, rows) = bucket.read(&query("k/", None, "k/00000010")).await;
            assert_eq!(page.entries.len(), 1000.min(size - 10));
            assert!(rows <= 1001, "{rows} rows of {size}");
        }
    }

    #[tokio::test]
    async fn a_common_prefix_is_skipped_not_read() {
        for size in [1_000, 100_000] {
            let bucket = Counted::of((0..size).map(|n| format!("{}/{n:08}", n % 20)));
            let (page, rows) = bucket.read(&query("", Some("/"), "")).await;
            assert_eq!(page.entries.len(), 20);
            assert!(rows <= 60, "{rows} rows of {size}");
        }
    }

    #[tokio::test]
    async fn keys_and_prefixes_by_turns_cost_a_small_multiple_of_what_is_shown() {
        let keys = (0..2_000).map(|n| format!("{n:04}"));
        let nested = (0..100_000).map(|n| format!("{:04}/{n:08}", n % 2_000));
        let bucket = Counted::of(keys.chain(nested));
        let (page, rows) = bucket.read(&query("", Some("/"), "")).await;
        assert_eq!(page.entries.len(), 1000);
        assert!(rows <= 4_000, "{rows} rows");
        assert_eq!(page.next, Some(Bound::at("0500")));
    }

    #[test]
    fn the_end_of_a_prefix_is_just_above_everything_in_it() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b""), b"\xff");
    }

    #[test]
    fn a_token_comes_back_and_nonsense_does_not() {
        let bound = Bound::at("a b/ü");
        assert_eq!(Bound::from_token(&bound.to_token()), Some(bound));
        assert_eq!(Bound::from_token("nonsense!"), None);
        assert_eq!(Bound::from_token(""), None);
    }
}
