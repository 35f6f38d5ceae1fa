//! Pages of a list by keyset pagination: a cursor names the last row of a page, not an offset. Each
//! page has the same cost, and no row is skipped if rows are added.
//!
//! Cursors are signed: a cursor that was changed or made up is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sea_orm::sea_query::{Expr, ExprTrait as _, Func};
use sea_orm::{ColumnTrait, Condition};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

/// One page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The start of the next page; `None` on the last page.
    pub next: Option<Cursor>,
}

/// The position of the last row of a page: its value in the column that sorts the list, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The list and its order. A cursor of another list or order is refused.
    #[serde(rename = "o")]
    pub order: String,
    /// The row's value in the column that sorts the list.
    #[serde(rename = "v")]
    pub value: String,
    /// The row's id.
    #[serde(rename = "i")]
    pub id: Uuid,
}

/// Bytes of the HMAC in a cursor: half of SHA-256's output.
const TAG_LEN: usize = 16;

/// The key that signs cursors.
#[derive(Clone, Default)]
pub struct CursorKey([u8; 32]);

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(..)")
    }
}

impl CursorKey {
    /// A key from these bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(bytes);
        Some(mac)
    }
}

impl Cursor {
    /// The signed text that clients get.
    pub fn encode(&self, key: &CursorKey) -> String {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        if let Some(mac) = key.mac(&bytes) {
            bytes.extend_from_slice(&mac.finalize().into_bytes()[..TAG_LEN]);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text of [`Self::encode`] for the same order; `None` for anything else.
    pub fn decode(text: &str, order: &str, key: &CursorKey) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (json, tag) = bytes.split_at(bytes.len().checked_sub(TAG_LEN)?);
        // Compares in constant time.
        key.mac(json)?.verify_truncated_left(tag).ok()?;
        let cursor: Self = serde_json::from_slice(json).ok()?;
        (cursor.order == order).then_some(cursor)
    }
}

/// An expression with the same value as the column. The planner can't use an index for it.
pub(in crate::db) fn no_index<C: ColumnTrait>(column: C) -> Expr {
    Func::coalesce([column.into_expr(), column.into_expr()]).into()
}

/// Rows after a cursor: `(column, id) > (value, id)`, or `<` if the list is descending. Both
/// databases use an index for it. The first condition is redundant, but PostgreSQL starts its index
/// scan there.
pub(in crate::db) fn keyset<C: ColumnTrait>(
    column: C,
    id_column: C,
    value: sea_orm::Value,
    id: Uuid,
    descending: bool,
) -> Condition {
    keyset_by(column.into_expr(), id_column.into_expr(), value, id, descending)
}

pub(in crate::db) fn keyset_by(
    by: Expr,
    id_column: Expr,
    value: sea_orm::Value,
    id: Uuid,
    descending: bool,
) -> Condition {
    let (bound, further, tie) = if descending {
        (by.clone().lte(value.clone()), by.lt(value), id_column.lt(id))
    } else {
        (by.clone().gte(value.clone()), by.gt(value), id_column.gt(id))
    };
    Condition::all().add(bound).add(Condition::any().add(further).add(tie))
}

impl<T> Page<T> {
    /// Makes a page from up to `limit + 1` rows. The extra row shows that there is a next page.
    pub fn cut(mut rows: Vec<T>, limit: u64, cursor: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows, next }
    }

    /// Converts the rows.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::changed;

    fn signed() -> impl Strategy<Value = String> {
        ".{0,40}".prop_map(|value| {
            Cursor { order: "title".into(), value, id: Uuid::nil() }
                .encode(&CursorKey::new([7; 32]))
        })
    }

    proptest! {
        #[test]
        fn a_cursor_is_accepted_only_with_its_own_order_and_key(value in ".{0,40}", id: u128) {
            let cursor = Cursor { order: "title".into(), value, id: Uuid::from_u128(id) };
            let key = CursorKey::new([7; 32]);
            let text = cursor.encode(&key);
            prop_assert_eq!(Cursor::decode(&text, "title", &key), Some(cursor));
            prop_assert_eq!(Cursor::decode(&text, "-title", &key), None);
            prop_assert_eq!(Cursor::decode(&text, "title", &CursorKey::new([8; 32])), None);
        }

        #[test]
        fn a_changed_cursor_is_refused(
            (_, text) in changed(signed()),
            (_, bytes) in changed(signed().prop_map(|text| URL_SAFE_NO_PAD.decode(text).unwrap())),
        ) {
            let key = CursorKey::new([7; 32]);
            let text = String::from_utf8_lossy(&text);
            prop_assert_eq!(Cursor::decode(&text, "title", &key), None);
            let below = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(Cursor::decode(&below, "title", &key), None);
        }

        #[test]
        fn a_text_that_is_no_cursor_is_refused(text in ".{0,60}") {
            prop_assert_eq!(Cursor::decode(&text, "title", &CursorKey::default()), None);
        }
    }
}
