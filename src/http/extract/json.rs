//! JSON bodies. Size and time are limited, only objects are accepted, and an error names the field.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::text::{REQUIRED, capitalised};
use super::{essence, refuse_encoded, settings};
use crate::http::problem::{ApiError, Code};

/// The name of the field in errors about the whole body.
const BODY: &str = "body";

/// The maximum length of a message of the parser, which may quote the body.
const MAX_SENTENCE: usize = 200;

/// As an argument of a handler, a required JSON object. As the result of a handler, a JSON
/// response.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

/// A JSON object, or the default if the request has no body.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

/// A type that is parsed from the bytes of a JSON body.
pub trait FromBody: Sized {
    /// Parses a body. The bytes are empty if the request has no body.
    fn from_body(bytes: &[u8]) -> Result<Self, ApiError>;

    /// The largest body in bytes. The argument is the limit of JSON bodies.
    fn max_len(json_limit: usize) -> usize {
        json_limit
    }
}

impl<T: DeserializeOwned> FromBody for Json<T> {
    fn from_body(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Err(ApiError::field(BODY, "A JSON object is required"));
        }
        parse(bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromBody for OptionalJson<T> {
    fn from_body(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(bytes).map(Self)
    }
}

type Extraction<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;

fn extract<B: FromBody>(request: &HttpRequest, payload: &mut Payload) -> Extraction<B> {
    let (request, payload) = (request.clone(), payload.take());
    Box::pin(async move { B::from_body(&read::<B>(&request, payload).await?) })
}

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        extract(request, payload)
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        extract(request, payload)
    }
}

/// The bytes of a JSON body; empty if the request has no body. Fails if the body is too large, too
/// slow, compressed or of another media type.
pub(super) async fn read<B: FromBody>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<Bytes, ApiError> {
    let limit = B::max_len(settings(request)?.json_limit);
    read_if(has_json_type(request), limit, request, payload).await
}

/// Like [`read`], with a limit in bytes. The caller checks whether the media type is JSON.
pub(super) async fn read_if(
    is_json: bool,
    limit: usize,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Bytes, ApiError> {
    let settings = settings(request)?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    // A body of the wrong media type is refused before it is read. Without Content-Length, the
    // request may have no body, so the media type is checked after reading.
    if !is_json && length.is_some_and(|length| length > 0) {
        return Err(wrong_media_type());
    }
    let whole = collect(payload, limit);
    let bytes = tokio::time::timeout(settings.client_timeout, whole)
        .await
        .map_err(|_| ApiError::new(Code::Timeout))??;
    if !bytes.is_empty() {
        if !is_json {
            return Err(wrong_media_type());
        }
        refuse_encoded(request)?;
    }
    Ok(bytes)
}

pub(super) fn has_json_type(request: &HttpRequest) -> bool {
    let essence = essence(request).unwrap_or_default();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn wrong_media_type() -> ApiError {
    ApiError::saying(Code::MediaType, "Content-Type must be application/json")
}

fn too_large(limit: usize) -> ApiError {
    ApiError::saying(Code::TooLarge, format!("The body is larger than the limit of {limit} bytes"))
}

async fn collect(mut payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| read_error(&error))?;
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn read_error(error: &PayloadError) -> ApiError {
    ApiError::saying(Code::BadRequest, format!("The body ended early: {error}"))
}

/// Parses a JSON object. An error names the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.inner())
    })?;
    json.end().map_err(|error| explain(".", &error))?;
    Ok(value)
}

/// Converts an error of the parser to a message about a field.
fn explain(path: &str, error: &serde_json::Error) -> ApiError {
    let parent = if path == "." { "" } else { path };
    let text = error.to_string();
    if !error.is_data() {
        return ApiError::field(BODY, format!("Must be JSON: {}", truncate(&text)));
    }
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let quoted = |prefix: &str| text.strip_prefix(prefix)?.split_once('`').map(|(name, _)| name);
    let child = |name: &str| {
        let name = truncate(name);
        if parent.is_empty() { name } else { format!("{parent}.{name}") }
    };
    if let Some(name) = quoted("unknown field `") {
        // The path may end with the name of the unknown field.
        let own = parent.rsplit('.').next() == Some(name);
        let field = if own { parent.to_owned() } else { child(name) };
        return ApiError::field(&field, "There is no such field");
    }
    if let Some(name) = quoted("missing field `") {
        return ApiError::field(&child(name), REQUIRED);
    }
    if let Some(name) = quoted("duplicate field `") {
        let own = parent.rsplit('.').next() == Some(name);
        let field = if own { parent.to_owned() } else { child(name) };
        return ApiError::field(&field, "Must be given only once");
    }
    let field = if parent.is_empty() { BODY.to_owned() } else { truncate(parent) };
    let words = text.replace("expected u64", "expected a whole number");
    let words = words.replace("expected i64", "expected a whole number");
    ApiError::field(&field, capitalised(&truncate(&words)))
}

fn truncate(text: &str) -> String {
    match text.char_indices().nth(MAX_SENTENCE) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A value from a JSON object. A struct that derives `Deserialize` would also accept an array.
#[derive(Debug, Default, Clone)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// An optional field, which distinguishes null from absent. Use it with `#[serde(default)]`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field is absent.
    #[default]
    Absent,
    /// The field is null.
    Null,
    /// The field has a value.
    Value(T),
}

impl<T> Patch<T> {
    /// Converts the value, if there is one.
    pub fn try_map<U, E>(self, read: impl FnOnce(T) -> Result<U, E>) -> Result<Patch<U>, E> {
        Ok(match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Value(value) => Patch::Value(read(value)?),
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Null, Self::Value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only parsed")]
        title: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        size: Option<u64>,
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        inner: Option<Object<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        value: String,
    }

    #[test]
    fn an_error_names_the_field_that_is_wrong() {
        for (text, said) in [
            (r#"{"title": "a""#, "body: Must be JSON"),
            (r#"["a"]"#, "body: Invalid type: sequence, expected a JSON object"),
            (r#"{"title": "a"} x"#, "body: Must be JSON"),
            (r"{}", "title: This field is required"),
            (r#"{"title": null}"#, "title: Invalid type: null"),
            (r#"{"title": 5}"#, "title: Invalid type: integer `5`, expected a string"),
            (r#"{"title": "a", "x": 1}"#, "; x: There is no such field"),
            (r#"{"title": "a", "title": "b"}"#, "title: Must be given only once"),
            (
                r#"{"title": "a", "size": -1}"#,
                "size: Invalid value: integer `-1`, expected a whole",
            ),
            (r#"{"title": "a", "size": 1.5}"#, "size: Invalid type: floating point"),
            (r#"{"title": "a", "size": "1"}"#, "size: Invalid type: string"),
            (r#"{"title": "a", "size": 99999999999999999999}"#, "size: Invalid"),
            (r#"{"title": "a", "inner": ["v"]}"#, "inner: Invalid type: sequence"),
            (r#"{"title": "a", "inner": {}}"#, "inner.value: This field is required"),
            (r#"{"title": "a", "inner": {"value": "v", "y": 1}}"#, "inner.y: There is no such"),
        ] {
            let error = parse::<Outer>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = format!(r#"{{"title": "a", "size": "{}"}}"#, "x".repeat(10_000));
        assert!(parse::<Outer>(long.as_bytes()).unwrap_err().to_string().len() < 400);
    }
}
