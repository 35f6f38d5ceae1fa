//! Pages of a list, by keyset: a cursor names the last row seen, never an offset, so a
//! page costs the same wherever it is and nothing is skipped when rows are added.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// Where a page ended: the last row's value in the list's order, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The order, so that a cursor of one list is refused by another.
    #[serde(rename = "o")]
    pub order: String,
    /// The value.
    #[serde(rename = "v")]
    pub value: String,
    /// The id.
    #[serde(rename = "i")]
    pub id: Uuid,
}

impl Cursor {
    /// As clients see it.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`Self::encode`] wrote for the same order; `None` for anything else.
    pub fn decode(text: &str, order: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let cursor: Self = serde_json::from_slice(&bytes).ok()?;
        (cursor.order == order).then_some(cursor)
    }
}

impl<T> Page<T> {
    /// Makes a page of up to `limit + 1` rows: the one too many shows that there are more.
    pub fn cut(mut rows: Vec<T>, limit: u64, cursor: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows, next }
    }

    /// The same page of other values.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_and_only_in_its_own_order(value in ".{0,40}", id: u128) {
            let cursor = Cursor { order: "title".into(), value, id: Uuid::from_u128(id) };
            let text = cursor.encode();
            prop_assert_eq!(Cursor::decode(&text, "title"), Some(cursor));
            prop_assert_eq!(Cursor::decode(&text, "-title"), None);
        }

        #[test]
        fn garbage_is_no_cursor(text in ".{0,60}") {
            prop_assert_eq!(Cursor::decode(&text, "title"), None);
        }
    }
}
