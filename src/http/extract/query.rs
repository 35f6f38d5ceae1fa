//! The query string. Each parameter must be known, occur once and be valid.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;

use super::text::{record_error, refuse_control};
use crate::db::{Cursor, CursorKey};
use crate::domain::policy::FieldErrors;
use crate::http::problem::ApiError;
use crate::http::state::SecurityConfig;

/// The number of rows per page: default and maximum.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;

/// The parameters of a request. Handlers take the parameters that they know, then call
/// [`Self::finish`], which refuses the others. Otherwise a list with a misspelled filter would
/// return everything.
#[derive(Debug, Default)]
pub struct Query {
    values: BTreeMap<String, String>,
    errors: FieldErrors,
    cursor_key: CursorKey,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// The end of the previous page.
    pub cursor: Option<Cursor>,
    /// The maximum number of rows.
    pub limit: u64,
}

impl Query {
    /// Parses a query string.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decoded(name).filter(|name| refuse_control(name).is_ok()) else {
                query.errors.add("query", "Parameter names must be plain text");
                continue;
            };
            let Some(value) = decoded(value) else {
                query.errors.add(&name, "Must be UTF-8");
                continue;
            };
            if let Err(sentence) = refuse_control(&value) {
                query.errors.add(&name, sentence);
            } else if query.values.insert(name.clone(), value).is_some() {
                query.errors.add(&name, "Must be given only once");
            }
        }
        query
    }

    /// Signs the cursors of the response.
    pub fn cursor_key(&self) -> CursorKey {
        self.cursor_key.clone()
    }

    /// Takes a parameter as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Takes all parameters of the form `name[member]`. Returns each member with its value.
    pub fn members(&mut self, name: &str) -> Vec<(String, String)> {
        let before = std::mem::take(&mut self.values);
        let mut members = Vec::new();
        for (parameter, value) in before {
            let member = parameter
                .strip_prefix(name)
                .and_then(|remaining| remaining.strip_prefix('['))
                .and_then(|remaining| remaining.strip_suffix(']'));
            match member {
                Some(member) => members.push((member.to_owned(), value)),
                None => drop(self.values.insert(parameter, value)),
            }
        }
        members
    }

    /// Takes a parameter as a value.
    pub fn value<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.values.remove(name)?;
        record_error(read(&text), name, &mut self.errors)
    }

    /// Takes `limit` and `cursor` of a list in this order. `fits` returns whether a cursor of this
    /// order can contain a value.
    pub fn paging(&mut self, order: &str, fits: impl FnOnce(&str) -> bool) -> Paging {
        let limit = self.value("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
            limit.ok_or_else(|| format!("Must be a whole number from 1 to {MAX_LIMIT}"))
        });
        let cursor_key = self.cursor_key.clone();
        let cursor = self.value("cursor", |text| {
            let cursor = Cursor::decode(text, order, &cursor_key)
                .filter(|cursor| refuse_control(&cursor.value).is_ok() && fits(&cursor.value));
            cursor.ok_or_else(|| {
                "Must be the next_cursor of a page of the same list in the same order".to_owned()
            })
        });
        Paging { cursor, limit: limit.unwrap_or(DEFAULT_LIMIT) }
    }

    /// Refuses invalid parameters and ignores unknown ones, because other versions of a client add
    /// their own.
    pub fn ignore_others(self) -> Result<(), ApiError> {
        Ok(self.errors.into_result()?)
    }

    /// Refuses invalid parameters and parameters that were not taken.
    pub fn finish(mut self) -> Result<(), ApiError> {
        for name in self.values.keys() {
            self.errors.add(name, "There is no such parameter");
        }
        Ok(self.errors.into_result()?)
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl FromRequest for Query {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let security = request.app_data::<Data<SecurityConfig>>();
        let cursor_key = security.map(|security| security.cursor_key.clone());
        let query = Self::parse(request.query_string());
        ready(Ok(Self { cursor_key: cursor_key.unwrap_or_default(), ..query }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::{changed, mutated_text};

    fn encoded(pairs: &BTreeMap<String, String>) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("\\PC{1,8}", "\\PC{0,12}", 0..4)
    }

    proptest! {
        #[test]
        fn every_parameter_survives_its_encoding(pairs in pairs()) {
            let mut query = Query::parse(&encoded(&pairs));
            for (name, value) in pairs {
                prop_assert_eq!(query.text(&name), Some(value));
            }
            prop_assert!(query.finish().is_ok());
        }

        #[test]
        fn a_mutated_query_is_plain_text_or_is_refused(
            text in prop_oneof![mutated_text(pairs().prop_map(|pairs| encoded(&pairs))), ".{0,60}"],
        ) {
            let mut query = Query::parse(&text);
            let strings = query.values.iter().flat_map(|(name, value)| [name, value]);
            prop_assert!(strings.flat_map(|text| text.chars()).all(|c| !c.is_control()));
            let paging = query.paging("title", |_| true);
            prop_assert!((1..=MAX_LIMIT).contains(&paging.limit) && paging.cursor.is_none());
            let left = !query.values.is_empty();
            prop_assert!(!(left && query.finish().is_ok()));
        }

        #[test]
        fn a_changed_cursor_is_refused(
            (_, cursor) in changed("\\PC{0,8}".prop_map(|value| {
                let id = uuid::Uuid::nil();
                Cursor { order: "title".into(), value, id }.encode(&CursorKey::default())
            })),
        ) {
            let cursor: String = url::form_urlencoded::byte_serialize(&cursor).collect();
            let mut query = Query::parse(&format!("cursor={cursor}"));
            prop_assert_eq!(query.paging("title", |_| true).cursor, None);
            prop_assert!(errors(query).contains("cursor: "));
        }
    }

    fn errors(query: Query) -> String {
        query.finish().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        assert!(errors(Query::parse("statsu=pending")).contains("statsu: There is no such"));
    }

    #[test]
    fn only_plain_text_is_accepted() {
        for (text, sentence) in [
            ("search=a%00b", "search: Must not contain control characters"),
            ("search=%ff", "search: Must be UTF-8"),
            ("a%00=b", "query: Parameter names must be plain text"),
            ("search=a&search=b", "search: Must be given only once"),
        ] {
            let mut query = Query::parse(text);
            query.text("search");
            assert!(errors(query).contains(sentence), "{text}");
        }
    }

    #[test]
    fn a_limit_is_from_1_to_1000_and_100_by_default() {
        let limit = |text: &str| {
            let mut query = Query::parse(text);
            let paging = query.paging("x", |_| true);
            query.finish().map(|()| paging.limit).ok()
        };
        assert_eq!(limit(""), Some(100));
        assert_eq!((limit("limit=1"), limit("limit=1000")), (Some(1), Some(1000)));
        for bad in ["0", "1001", "-1", "x", "", "1.0", "99999999999999999999"] {
            assert_eq!(limit(&format!("limit={bad}")), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_with_an_impossible_value_is_refused() {
        let cursor = |value: &str| Cursor {
            order: "title".into(),
            value: value.into(),
            id: uuid::Uuid::nil(),
        };
        let take = |cursor: &Cursor| {
            let mut query =
                Query::parse(&format!("cursor={}", cursor.encode(&CursorKey::default())));
            let paging = query.paging("title", |value| value != "odd");
            query.finish().is_ok() && paging.cursor.is_some()
        };
        assert!(take(&cursor("a")));
        assert!(!take(&cursor("a\0b")) && !take(&cursor("odd")));
        assert!(!take(&Cursor { order: "-title".into(), ..cursor("a") }));
    }
}
