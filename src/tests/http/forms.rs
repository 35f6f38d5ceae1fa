//! Direct uploads of valid and mutated forms, in chunks of every size.

use std::time::Duration;

use futures_util::stream;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use reqwest::Body;
use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use upload_coordinator::domain::envelope::is_form_envelope;
use upload_coordinator::domain::sniff;

use super::kit::{Response, Server, fetch, fuzz};
use crate::support::mp3;
use crate::support::mutate::mutated;
use crate::support::wait::wait_for;

/// A form as it is sent, and the file in it.
#[derive(Debug, Clone)]
struct Sent {
    boundary: String,
    file: Vec<u8>,
    body: Vec<u8>,
}

impl Sent {
    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary=\"{}\"", self.boundary)
    }
}

fn field() -> impl Strategy<Value = String> {
    ("[a-e]{1,4}", "[ -~]{0,20}").prop_map(|(name, value)| {
        format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}")
    })
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..3000).prop_map(|tail| [mp3(10, 1), tail].concat())
}

/// Forms as browsers and command-line clients send them, with fields around the file.
fn form() -> impl Strategy<Value = Sent> {
    let heads = prop::sample::select(vec![
        "Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg",
        "content-disposition: form-data; name=\"file\"",
        "Content-Type: application/octet-stream\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"",
    ]);
    ("[0-9A-Za-z'_-]{1,60}", option::of(field()), heads, file(), option::of(field())).prop_map(
        |(boundary, before, head, file, after)| {
            let mut body = Vec::new();
            let mut part = |bytes: &[u8]| {
                body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                body.extend_from_slice(bytes);
                body.extend_from_slice(b"\r\n");
            };
            if let Some(field) = &before {
                part(field.as_bytes());
            }
            part(&[head.as_bytes(), b"\r\n\r\n", &file].concat());
            if let Some(field) = &after {
                part(field.as_bytes());
            }
            body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            Sent { boundary, file, body }
        },
    )
}

/// A form with a mutated body.
fn mutated_form() -> impl Strategy<Value = Sent> {
    form().prop_flat_map(|form| {
        let body = form.body.clone();
        (Just(form), mutated(Just(body))).prop_map(|(form, body)| Sent { body, ..form })
    })
}

/// The bytes in chunks of this length.
fn chunks(bytes: &[u8], len: usize) -> Body {
    let pieces: Vec<_> =
        bytes.chunks(len).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    Body::wrap_stream(stream::iter(pieces))
}

/// Sends a body as the file of a new track. Returns the track too.
async fn send(
    server: &Server,
    content_type: Option<HeaderValue>,
    body: Body,
) -> (String, Response) {
    let track = server.track().await;
    let mut request = server.request("POST", &format!("/api/tracks/{track}/upload/a.mp3"));
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    (track, fetch(request.body(body)).await)
}

/// The uploads of a track: their states, and the bytes of the uploaded ones.
async fn uploads(server: &Server, track: &str) -> (Vec<String>, Vec<Vec<u8>>) {
    let list = server.get(&format!("/api/uploads?track_id={track}")).await.json();
    let (mut states, mut files) = (Vec::new(), Vec::new());
    for upload in list["items"].as_array().unwrap() {
        let state = upload["status"].as_str().unwrap().to_owned();
        if state == "uploaded" {
            let (key, etag) = (upload["key"].as_str().unwrap(), upload["etag"].as_str().unwrap());
            let object = server.app.stores["default"].objects.read(key, 0..1 << 20, etag).await;
            files.push(object.unwrap().to_vec());
        }
        states.push(state);
    }
    (states, files)
}

/// Asserts that the response is 200 and one file is stored, or a refusal and nothing is stored.
async fn is_stored_or_refused(
    server: &Server,
    track: &str,
    response: &Response,
) -> Result<Option<Vec<u8>>, TestCaseError> {
    let (states, mut files) = uploads(server, track).await;
    if response.status == 200 {
        prop_assert_eq!(&states, &["uploaded"]);
        let file = files.remove(0);
        prop_assert_eq!(&response.json()["upload"]["size"], &json!(file.len()));
        prop_assert!(!is_form_envelope(&file));
        prop_assert_eq!(sniff::media_type(&file), Some("audio/mpeg"));
        return Ok(Some(file));
    }
    let code = response.status.as_u16();
    prop_assert!((400..500).contains(&code) && response.json()["status"] == code, "{:?}", response);
    prop_assert!(states.iter().all(|state| state == "cancelled"), "{:?}", states);
    Ok(None)
}

#[test]
fn every_form_is_stored_byte_for_byte_whatever_its_chunks() {
    fuzz(Server::start(), &(form(), 1..200_usize), async |server, (form, len)| {
        let kind = HeaderValue::from_str(&form.content_type()).unwrap();
        let (track, response) = send(server, Some(kind), chunks(&form.body, len)).await;
        prop_assert_eq!(response.status.as_u16(), 200, "{:?}", &response);
        let stored = is_stored_or_refused(server, &track, &response).await?;
        prop_assert_eq!(stored, Some(form.file));
        Ok(())
    });
}

#[test]
fn the_file_of_a_mutated_form_is_stored_completely_or_not_at_all() {
    fuzz(Server::start(), &(mutated_form(), 1..4000_usize), async |server, (form, len)| {
        let kind = HeaderValue::from_str(&form.content_type()).unwrap();
        let (track, response) = send(server, Some(kind), chunks(&form.body, len)).await;
        if let Some(file) = is_stored_or_refused(server, &track, &response).await? {
            let delimiter = format!("\r\n--{}", form.boundary);
            let holds = |part: &[u8]| file.windows(part.len()).any(|bytes| bytes == part);
            prop_assert!(form.body.windows(file.len()).any(|bytes| bytes == file));
            prop_assert!(!holds(delimiter.as_bytes()));
        }
        Ok(())
    });
}

#[test]
fn a_form_with_another_boundary_or_field_name_has_no_file() {
    let kinds = prop_oneof![
        4 => mutated(Just("multipart/form-data; boundary=xyz")).prop_map(Some),
        1 => Just(Some(b"audio/mpeg".to_vec())),
        1 => Just(Some(b"application/octet-stream".to_vec())),
        1 => Just(Some(b"application/x-www-form-urlencoded".to_vec())),
        1 => Just(None),
    ];
    let kinds = kinds.prop_filter_map("no header", |kind| {
        kind.map(|bytes| HeaderValue::from_bytes(&bytes)).transpose().ok()
    });
    // The mutated boundary can be right by chance. Then the file is stored.
    let forms = (form(), kinds);
    fuzz(Server::start(), &forms, async |server, (form, kind)| {
        let (track, response) = send(server, kind, Body::from(form.body)).await;
        let stored = is_stored_or_refused(server, &track, &response).await?;
        prop_assert!(stored.is_none_or(|file| file == form.file));
        Ok(())
    });
}

#[test]
fn a_raw_body_is_stored_unchanged_or_not_at_all() {
    let bodies =
        (prop_oneof![mutated(file()), mutated_form().prop_map(|form| form.body)], 1..4000_usize);
    fuzz(Server::start(), &bodies, async |server, (body, len)| {
        let (track, response) = send(server, None, chunks(&body, len)).await;
        let stored = is_stored_or_refused(server, &track, &response).await?;
        prop_assert!(stored.is_none_or(|file| file == body));
        Ok(())
    });
}

/// The bytes of a whole request. `{track}` is the placeholder for the id of the track.
fn request() -> impl Strategy<Value = Vec<u8>> {
    form().prop_map(|form| {
        let head = format!(
            "POST /api/tracks/{{track}}/upload/a.mp3 HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\n\
             Content-Length: {}\r\n\r\n",
            form.content_type(),
            form.body.len()
        );
        [head.as_bytes(), &form.body].concat()
    })
}

#[test]
fn a_mutated_request_is_never_a_5xx_and_leaves_nothing_pending() {
    let server = Server::with(Duration::from_secs(2));
    fuzz(server, &mutated(request()), async |server, request| {
        let track = server.track().await;
        let request = replaced(&request, b"{track}", track.as_bytes());
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // The server can refuse the request and close the connection before it is sent completely.
        let _ = socket.write_all(&request).await;
        let _ = socket.shutdown().await;
        let mut responses = Vec::new();
        let read = timeout(Duration::from_secs(20), socket.read_to_end(&mut responses)).await;
        prop_assert!(read.is_ok(), "no end of {:?}", String::from_utf8_lossy(&responses));
        let responses = String::from_utf8_lossy(&responses);
        prop_assert!(!responses.contains("HTTP/1.1 5"), "{}", responses);
        // A separate task handles the disconnect, after the connection is gone.
        wait_for("no pending upload", async || {
            let states = uploads(server, &track).await.0;
            states.iter().all(|state| state != "pending").then_some(())
        })
        .await;
        let stored = uploads(server, &track).await.1;
        prop_assert!(stored.iter().all(|file| !is_form_envelope(file)));
        Ok(())
    });
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
