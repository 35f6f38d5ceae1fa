//! JSON answers.

use std::cell::Cell;

use actix_web::body::BoxBody;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, Responder};
use bytes::Bytes;
use serde::Serialize;

use super::problem::{ApiError, Code};

/// How long a text may be for its room to be kept by the thread that wrote it, in bytes: a page
/// of 100 uploads.
const KEPT: usize = 128 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

thread_local! {
    /// Where texts are written. One that begins small is moved each time that it grows, which
    /// takes longer than to write what a single upload is.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is answered as JSON.
#[derive(Debug)]
pub struct Answer<T>(pub T);

impl<T: Serialize> Responder for Answer<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().answer(self.0)
    }
}

/// Answers JSON with what status and headers are there already.
pub trait AnswerJson {
    /// In place of actix's `json`.
    fn answer(&mut self, value: impl Serialize) -> HttpResponse;
}

impl AnswerJson for HttpResponseBuilder {
    fn answer(&mut self, value: impl Serialize) -> HttpResponse {
        match text(&value) {
            Ok(text) => self.insert_header((CONTENT_TYPE, JSON)).body(text),
            Err(error) => HttpResponse::from_error(ApiError::new(Code::Internal).because(error)),
        }
    }
}

fn text(value: &impl Serialize) -> serde_json::Result<Bytes> {
    let mut room = ROOM.take();
    room.clear();
    let written = serde_json::to_writer(&mut room, value);
    let text = Bytes::copy_from_slice(&room);
    if room.capacity() <= KEPT {
        ROOM.set(room);
    }
    written.map(|()| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_its_own_whatever_was_written_before() {
        let long = "x".repeat(2 * KEPT);
        for value in ["short", &long, "", "a \"quote\"", &long, "short"] {
            assert_eq!(text(&value).unwrap(), serde_json::to_vec(value).unwrap());
        }
        text(&long).unwrap();
        assert_eq!(ROOM.take().capacity(), 0, "a long one's room is not kept");
    }

    #[test]
    fn what_cant_be_written_is_an_error_of_ours() {
        let nameless = std::collections::BTreeMap::from([((), 1)]);
        let response = HttpResponse::Ok().answer(nameless);
        assert_eq!(response.status(), 500);
        let error = response.error().and_then(|error| error.as_error::<ApiError>());
        assert_eq!(error.map(ApiError::code), Some(Code::Internal));
        assert_eq!(text(&1).unwrap(), "1", "and nothing is left of it");
    }
}
