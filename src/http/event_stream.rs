//! Responses of server-sent events.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{Method, header};
use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;

/// The time without an event after which a comment is sent. Proxies close connections that are
/// silent for 30 to 60 s.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// A chunk of the stream.
pub type Chunk = Bytes;

/// The response with a stream of chunks. The response to HEAD has the same headers and no chunks,
/// because the server would generate them without sending them.
pub fn response(method: &Method, chunks: impl Stream<Item = Chunk> + 'static) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Without this header, nginx would buffer the events.
        .insert_header(("X-Accel-Buffering", "no"));
    if method == Method::HEAD {
        return response.streaming(stream::empty::<Result<Chunk, Infallible>>());
    }
    response.streaming(chunks.map(Ok::<_, Infallible>))
}

/// An event whose data is JSON.
pub fn event(name: &str, id: Option<&dyn fmt::Display>, data: &impl Serialize) -> Chunk {
    // The JSON has no line breaks. Serializing a view cannot fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n").into()
}

/// A comment, which clients ignore.
pub fn heartbeat() -> Chunk {
    Bytes::from_static(b":\n\n")
}
