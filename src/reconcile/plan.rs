//! What an incremental run looks at: per shard, either a HEAD for each open row or a
//! listing from the oldest of them, whichever asks the store for less.

use chrono::TimeDelta;

use crate::app::{App, AppError};
use crate::db::scan::OpenWindow;
use crate::domain::key::{ObjectKey, Shard};
use crate::domain::{KeyRange, Policy, Upload};
use crate::storage::Store;

/// What a LIST request costs in HEAD requests: 5.00 to 0.40 dollars a million (S3
/// Standard, `us-east-1`).
const HEADS_PER_LIST: u64 = 12;

/// What to look at in one shard.
#[derive(Debug)]
pub enum Look {
    /// These rows, each by a HEAD of its own.
    Heads(Vec<Upload>),
    /// This range, by listing it.
    List(KeyRange),
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

/// What an incremental run looks at in one shard; `None` where nothing is open.
pub async fn incremental(
    app: &App,
    policy: &Policy,
    store: &Store,
    range: KeyRange,
    late_window: TimeDelta,
) -> Result<Option<Look>, AppError> {
    let now = app.now();
    let window = OpenWindow {
        late_since: now - late_window,
        overwritable_since: now - policy.grace,
        write_once_holds: store.capabilities.write_once_is_effective(),
    };
    let open = app.db.open_rows(&policy.name, &range, &window, HEADS_PER_LIST + 1).await?;
    let Some(oldest) = open.first() else { return Ok(None) };
    if open.len() as u64 <= HEADS_PER_LIST {
        return Ok(Some(Look::Heads(open)));
    }
    let range = if store.capabilities.may_start_after() {
        range.resumed_after(just_before(&oldest.key))
    } else {
        range
    };
    Ok(Some(Look::List(range)))
}

/// A text just below a key: S3's `start-after` leaves out the key it names. Without its
/// last digit the key sorts before itself, and no other key of ours lies between.
fn just_before(key: &ObjectKey) -> &str {
    let text = key.as_str();
    &text[..text.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Prefix, UploadId};

    proptest! {
        #[test]
        fn nothing_of_ours_lies_between_a_key_and_the_text_before_it(a: u128, b: u128) {
            let prefix = Prefix::parse("t/").expect("a good prefix");
            let key = prefix.key(UploadId(Uuid::from_u128(a)));
            let other = prefix.key(UploadId(Uuid::from_u128(b)));
            prop_assert!(just_before(&key) < key.as_str());
            let between = other.as_str() > just_before(&key) && other < key;
            prop_assert!(!between);
        }
    }
}
