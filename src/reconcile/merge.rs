//! An ordered outer join of two streams that holds one item of each side in memory.

use futures_util::stream::try_unfold;
use futures_util::{Stream, TryStreamExt as _};

/// The items of the two sides under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair<L, R> {
    /// Only the left side has it.
    Left(L),
    /// Only the right side has it.
    Right(R),
    /// Both have it.
    Both(L, R),
}

/// Why a join ended early.
#[derive(Debug, thiserror::Error)]
pub enum MergeError<E> {
    /// The keys of a side are not in ascending order. Continuing would report false differences.
    #[error("the keys of the {side} are not in ascending order: `{key}` comes after `{last}`")]
    Disorder {
        /// The name of the side: `database` or `bucket listing`.
        side: &'static str,
        /// The key that is out of order.
        key: String,
        /// The key before it.
        last: String,
    },
    /// A side failed.
    #[error(transparent)]
    Side(#[from] E),
}

/// An item that has a key.
pub trait Keyed {
    /// The key by which both sides are sorted, byte by byte.
    fn key(&self) -> &str;
}

struct Side<S, T> {
    name: &'static str,
    stream: S,
    head: Option<T>,
    last: Option<String>,
    ended: bool,
}

impl<S, T, E> Side<S, T>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    T: Keyed,
{
    fn new(name: &'static str, stream: S) -> Self {
        Self { name, stream, head: None, last: None, ended: false }
    }

    /// Reads the next item, unless it was read already or the side has ended.
    async fn fill(&mut self) -> Result<(), MergeError<E>> {
        if self.head.is_some() || self.ended {
            return Ok(());
        }
        let Some(item) = self.stream.try_next().await? else {
            self.ended = true;
            return Ok(());
        };
        match &mut self.last {
            Some(last) if item.key() <= last.as_str() => {
                let (key, last) = (item.key().to_owned(), last.clone());
                return Err(MergeError::Disorder { side: self.name, key, last });
            }
            Some(last) => item.key().clone_into(last),
            None => self.last = Some(item.key().to_owned()),
        }
        self.head = Some(item);
        Ok(())
    }
}

/// Joins two ascending streams by key: rows of the database, and the objects of a listing.
pub fn merge<L, R, E>(
    left: impl Stream<Item = Result<L, E>>,
    right: impl Stream<Item = Result<R, E>>,
) -> impl Stream<Item = Result<Pair<L, R>, MergeError<E>>>
where
    L: Keyed,
    R: Keyed,
{
    let left = Side::new("database", Box::pin(left));
    let right = Side::new("bucket listing", Box::pin(right));
    try_unfold((left, right), |(mut left, mut right)| async move {
        // Concurrently, so that the requests for the next page of both sides overlap.
        futures_util::try_join!(left.fill(), right.fill())?;
        let order = match (&left.head, &right.head) {
            (None, None) => return Ok(None),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(l), Some(r)) => l.key().cmp(r.key()),
        };
        let l = if order.is_le() { left.head.take() } else { None };
        let r = if order.is_ge() { right.head.take() } else { None };
        let pair = match (l, r) {
            (Some(l), Some(r)) => Pair::Both(l, r),
            (Some(l), None) => Pair::Left(l),
            (None, Some(r)) => Pair::Right(r),
            (None, None) => return Ok(None),
        };
        Ok(Some((pair, (left, right))))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use futures_util::stream::iter;
    use proptest::prelude::*;

    use super::*;

    impl Keyed for String {
        fn key(&self) -> &str {
            self
        }
    }

    type Joined = Result<Vec<Pair<String, String>>, MergeError<Infallible>>;

    fn join(left: Vec<String>, right: Vec<String>) -> Joined {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (left, right) = (iter(left.into_iter().map(Ok)), iter(right.into_iter().map(Ok)));
        runtime.block_on(merge(left, right).try_collect())
    }

    proptest! {
        #[test]
        fn the_join_equals_a_naive_set_difference(
            left in prop::collection::btree_set("[a-d/é-]{0,3}", 0..30),
            right in prop::collection::btree_set("[a-d/é-]{0,3}", 0..30),
        ) {
            let keys: BTreeSet<&String> = left.union(&right).collect();
            let expected: Vec<_> = keys.into_iter().map(|key| {
                match (left.contains(key), right.contains(key)) {
                    (true, true) => Pair::Both(key.clone(), key.clone()),
                    (true, false) => Pair::Left(key.clone()),
                    _ => Pair::Right(key.clone()),
                }
            }).collect();
            let joined = join(left.into_iter().collect(), right.into_iter().collect());
            prop_assert_eq!(joined.unwrap(), expected);
        }

        #[test]
        fn a_side_out_of_order_ends_the_join(
            mut keys in prop::collection::btree_set("[a-d]{1,3}", 2..10)
                .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
            at in any::<prop::sample::Index>(),
            repeat: bool,
        ) {
            let at = at.index(keys.len() - 1);
            if repeat { keys[at + 1] = keys[at].clone(); } else { keys.swap(at, at + 1); }
            let disorder = |joined: Joined| matches!(joined, Err(MergeError::Disorder { .. }));
            prop_assert!(disorder(join(keys.clone(), vec![])));
            prop_assert!(disorder(join(vec![], keys)));
        }
    }
}
