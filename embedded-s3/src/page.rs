//! Pages of a listing: prefixes, delimiters and markers over any source of sorted keys.
//!
//! The cost of a page depends only on its entries. A page is read as consecutive ranges. After a
//! common prefix, the next range starts after all keys in it, so these keys are not read.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::error::StoreError;

/// The largest number of entries on a page, as S3 limits it.
pub(crate) const MAX_PAGE: i32 = 1000;

/// The number of keys to read at the start of a listing with a delimiter, and after a common
/// prefix. It is small, because another common prefix probably follows.
const FIRST_READ: usize = 8;
const READ_AFTER_PREFIX: usize = 2;

/// The start of each continuation token, so that the format can change later.
const TOKEN_VERSION: u8 = 1;

/// The start of a range in the order of keys, inclusive. The id orders multipart uploads of the
/// same key; it is empty for objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bound {
    pub key: Vec<u8>,
    pub id: String,
}

impl Bound {
    pub(crate) fn at(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), id: String::new() }
    }

    /// The first position after a key.
    pub(crate) fn above(key: &str) -> Self {
        let mut key = key.as_bytes().to_vec();
        key.push(0);
        Self::at(key)
    }

    /// The next position.
    pub(crate) fn successor(mut self) -> Self {
        if self.id.is_empty() {
            self.key.push(0);
        } else {
            // Ids are hex digits, so no id is between this one and this one with a zero appended.
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

/// The first key after all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Keys are UTF-8, which never contains this byte.
    vec![u8::MAX]
}

/// A request for a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub from: Bound,
    pub limit: usize,
}

impl Query {
    /// The common prefix that a key belongs to.
    pub(crate) fn common_prefix<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let delimiter = self.delimiter.as_deref().filter(|d| !d.is_empty())?.as_bytes();
        let skip = self.prefix.len();
        let at = key.get(skip..)?.windows(delimiter.len()).position(|w| w == delimiter)?;
        key.get(..skip + at + delimiter.len())
    }
}

/// A source of keys in ascending order.
pub(crate) trait Source: Sync {
    type Item: Send;

    /// The first `limit` entries from `from`, inclusive, to `until`, exclusive.
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
    /// The start of the next page, if there is one.
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

    /// A sorted set that counts how many of its keys were read.
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
    async fn a_page_reads_as_many_rows_in_a_large_bucket_as_in_a_small_one() {
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
    async fn alternating_keys_and_prefixes_read_a_few_rows_for_each_entry() {
        let keys = (0..2_000).map(|n| format!("{n:04}"));
        let nested = (0..100_000).map(|n| format!("{:04}/{n:08}", n % 2_000));
        let bucket = Counted::of(keys.chain(nested));
        let (page, rows) = bucket.read(&query("", Some("/"), "")).await;
        assert_eq!(page.entries.len(), 1000);
        assert!(rows <= 4_000, "{rows} rows");
        assert_eq!(page.next, Some(Bound::at("0500")));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_after_it() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b""), b"\xff");
    }

    #[test]
    fn a_token_decodes_to_its_position_and_other_text_is_refused() {
        let bound = Bound::at("a b/ü");
        assert_eq!(Bound::from_token(&bound.to_token()), Some(bound));
        assert_eq!(Bound::from_token("nonsense!"), None);
        assert_eq!(Bound::from_token(""), None);
    }
}
