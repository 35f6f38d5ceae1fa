//! Requests about many items. Each item is parsed separately and counts in the caller's rate limit.

use std::future::{Ready, ready};
use std::num::NonZeroU32;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::json::{self, FromBody};
use crate::app::upload_batches::MAX_BATCH;
use crate::domain::Owner;
use crate::http::middleware::rate_limit::{RateLimitHeaders, require_within_limit};
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// The largest body of a batch in bytes, unless `limits.json_body` is larger: room for 100 uploads
/// with all the metadata that S3 allows.
pub const MAX_BODY: usize = 1 << 20;

/// The items of the body `{"uploads": [...]}`. Each item is a JSON object of this type, or the
/// error about it.
#[derive(Debug)]
pub struct Batch<T>(pub Vec<Result<T, ApiError>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Items {
    uploads: Vec<Box<RawValue>>,
}

impl<T: DeserializeOwned> FromBody for Batch<T> {
    fn from_body(bytes: &[u8]) -> Result<Self, ApiError> {
        let Items { uploads } = json::Json::from_body(bytes)?.0;
        check_len("uploads", uploads.len())?;
        Ok(Self(uploads.iter().map(|item| json::parse(item.get().as_bytes())).collect()))
    }

    fn max_len(json_limit: usize) -> usize {
        json_limit.max(MAX_BODY)
    }
}

/// Refuses an empty list and one with too many items.
pub fn check_len(field: &str, len: usize) -> Result<(), ApiError> {
    if (1..=MAX_BATCH).contains(&len) {
        return Ok(());
    }
    Err(ApiError::field(field, format!("Must be from 1 to {MAX_BATCH} items, not {len}")))
}

/// Counts the items of a request in the caller's rate limit. The request itself is already counted
/// as one.
pub struct ItemLimit(HttpRequest);

impl ItemLimit {
    /// Fails if the caller may not send that many requests now. In that case none of the items is
    /// counted.
    pub fn count(&self, owner: &Owner, items: usize) -> Result<(), ApiError> {
        let security = self.0.app_data::<Data<SecurityConfig>>();
        let security = security.ok_or_else(|| ApiError::new(Code::Internal))?;
        let more = u32::try_from(items.saturating_sub(1)).ok().and_then(NonZeroU32::new);
        let (Some(limit), Some(more)) = (&security.rate_limit, more) else { return Ok(()) };
        let status = limit.check_many(owner, more);
        self.0.extensions_mut().insert(RateLimitHeaders::from(status));
        if status.retry_after.is_some() && items > status.burst as usize {
            // Waiting is not enough: the batch must be smaller. `Retry-After` is the time after
            // which the largest possible batch is allowed again.
            let (burst, rate) = (status.burst, status.per_second);
            let detail =
                format!("{items} items exceed the limit of {burst} at once ({rate} per second)");
            let error = ApiError::saying(Code::RateLimited, detail);
            return Err(error.header(RETRY_AFTER, HeaderValue::from(status.window())));
        }
        require_within_limit(status)
    }
}

impl FromRequest for ItemLimit {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.clone())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        n: u8,
    }

    fn parse(text: &str) -> Result<Vec<Result<u8, String>>, String> {
        let batch = Batch::<Item>::from_body(text.as_bytes()).map_err(|error| error.to_string())?;
        let item = |item: Result<Item, ApiError>| {
            item.map(|item| item.n).map_err(|error| error.to_string())
        };
        Ok(batch.0.into_iter().map(item).collect())
    }

    #[test]
    fn a_bad_item_does_not_affect_the_others() {
        let text =
            r#"{"uploads": [{"n": 1}, {"n": "x"}, 7, {"n": 2, "n": 3}, {"m": 1}, {"n": 4}]}"#;
        let items = parse(text).unwrap();
        assert_eq!((&items[0], &items[5]), (&Ok(1), &Ok(4)));
        for (item, said) in [
            (1, "n: Invalid type: string"),
            (2, "body: Invalid type: integer `7`, expected a JSON object"),
            (3, "n: Must be given only once"),
            (4, "m: There is no such field"),
        ] {
            let error = items[item].as_ref().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_body_itself_must_be_valid() {
        let many = format!(r#"{{"uploads": [{}]}}"#, vec![r#"{"n": 1}"#; 101].join(","));
        for (text, said) in [
            ("", "body: A JSON object is required"),
            (r#"{"uploads": []}"#, "uploads: Must be from 1 to 100 items, not 0"),
            (many.as_str(), "uploads: Must be from 1 to 100 items, not 101"),
            (r#"{"uploads": [{"n": 1}"#, "body: Must be JSON"),
            (r#"{"uploads": [{"n": 1}], "x": 1}"#, "x: There is no such field"),
            (r#"{"uploads": {"n": 1}}"#, "uploads: Invalid type: map"),
            (r#"[{"n": 1}]"#, "body: Invalid type: sequence"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_item_has_its_own_result_at_its_position(
            items in prop::collection::vec(prop::option::of(any::<u8>()), 1..=100),
        ) {
            let text = |item: &Option<u8>| match item {
                Some(n) => format!(r#"{{"n": {n}}}"#),
                None => r#"{"n": -1}"#.to_owned(),
            };
            let body: Vec<_> = items.iter().map(text).collect();
            let parsed = parse(&format!(r#"{{"uploads": [{}]}}"#, body.join(", "))).unwrap();
            let parsed: Vec<_> = parsed.into_iter().map(Result::ok).collect();
            prop_assert_eq!(parsed, items);
        }

        #[test]
        fn a_mutated_body_is_parsed_or_refused_with_short_errors(
            bytes in mutated(Just(r#"{"uploads": [{"n": 1}, {"n": 2}]}"#)),
        ) {
            let errors: Vec<ApiError> = match Batch::<Item>::from_body(&bytes) {
                Ok(Batch(items)) => items.into_iter().filter_map(Result::err).collect(),
                Err(error) => vec![error],
            };
            prop_assert!(errors.iter().all(|error| error.to_string().len() < 600));
        }
    }
}
