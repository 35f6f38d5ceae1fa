//! Direct uploads of a part of a file, and forms whose parts are not as expected.

use reqwest::RequestBuilder;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

/// A server with a track that has a complete file.
struct Stored {
    server: Server,
    track: String,
    file: Value,
    keys: Vec<String>,
}

impl Stored {
    async fn new() -> Self {
        let server = Server::start().await;
        let track = server.track().await;
        let path = format!("/api/tracks/{track}/upload/a.mp3");
        let stored = fetch(server.request("PUT", &path).body(mp3(48_483, 1))).await;
        assert_eq!(stored.status, 200, "{stored:?}");
        let (file, keys) = (stored.json()["upload"].clone(), server.store.keys());
        Self { server, track, file, keys }
    }

    fn request(&self, method: &str) -> RequestBuilder {
        self.server.request(method, &format!("/api/tracks/{}/upload/a.mp3", self.track))
    }

    /// Asserts that the request was refused because of this field and the track has its file.
    /// Returns the states of the track's uploads, the newest first.
    async fn is_unchanged(&self, response: &Response, field: &str) -> Vec<String> {
        response.blames(field);
        let sentence = response.json()["errors"][field][0].to_string();
        assert!(sentence.contains("send the whole file in one request"), "{sentence}");
        assert_eq!(self.server.store.keys(), self.keys, "{field}");
        let list = self.server.get(&format!("/api/uploads?track_id={}", self.track)).await.json();
        let items = list["items"].as_array().unwrap();
        assert!(items.contains(&self.file), "{field}: {list}");
        items.iter().map(|upload| upload["status"].as_str().unwrap().to_owned()).collect()
    }
}

fn fragment() -> Part {
    Part::bytes(mp3(20_000, 1)).file_name("a.mp3")
}

const HEADERS: [(&str, &str); 5] = [
    ("Content-Range", "bytes 0-19999/48483"),
    ("Upload-Complete", "?0"),
    ("Upload-Incomplete", "?1"),
    ("Upload-Offset", "0"),
    ("Upload-Offset", "20000"),
];

#[tokio::test]
async fn headers_of_a_partial_body_are_refused_and_the_old_file_stays() {
    let stored = Stored::new().await;
    for (name, value) in HEADERS {
        for method in ["PUT", "POST"] {
            let raw = stored.request(method).header(name, value).body(mp3(20_000, 1));
            assert_eq!(stored.is_unchanged(&fetch(raw).await, name).await, ["uploaded"]);
            let form = Form::new().part("file", fragment());
            let form = stored.request(method).header(name, value).multipart(form);
            assert_eq!(stored.is_unchanged(&fetch(form).await, name).await, ["uploaded"]);
        }
        let mut headers = HeaderMap::new();
        let name_of_part: HeaderName = name.parse().unwrap();
        headers.insert(name_of_part, HeaderValue::from_static(value));
        let form = Form::new().part("file", fragment().headers(headers));
        let response = fetch(stored.request("POST").multipart(form)).await;
        assert_eq!(stored.is_unchanged(&response, name).await, ["uploaded"]);
    }
    let whole = stored.request("PUT").header("Upload-Complete", "?1").body(mp3(20_000, 2));
    assert_eq!(fetch(whole).await.status, 200);
    stored.server.stop().await;
}

#[tokio::test]
async fn form_fields_of_one_chunk_of_several_are_refused_and_the_old_file_stays() {
    let stored = Stored::new().await;
    for (name, value) in [
        ("dzchunkindex", "1"),
        ("dztotalchunkcount", "3"),
        ("dzchunkbyteoffset", "20000"),
        ("resumableTotalChunks", "3"),
        ("flowTotalChunks", "3"),
        ("qqtotalparts", "3"),
        ("chunks", "3"),
    ] {
        let before = Form::new().text(name, value).part("file", fragment());
        let after = Form::new().part("file", fragment()).text(name, value);
        for form in [before, after] {
            let response = fetch(stored.request("POST").multipart(form)).await;
            assert_eq!(stored.is_unchanged(&response, name).await, ["uploaded"]);
        }
    }
    // This file is longer than two parts, so some of its bytes are in the store before the field
    // arrives.
    let large = Part::bytes(mp3(11 << 20, 1)).file_name("a.mp3");
    let form = Form::new().part("file", large).text("dztotalchunkcount", "2");
    let response = fetch(stored.request("POST").multipart(form)).await;
    let states = stored.is_unchanged(&response, "dztotalchunkcount").await;
    assert_eq!(states, ["cancelled", "uploaded"]);

    let single = Form::new()
        .text("dzchunkindex", "0")
        .text("dztotalfilesize", "20000")
        .text("dztotalchunkcount", "1")
        .text("dzchunkbyteoffset", "0")
        .part("file", fragment());
    assert_eq!(fetch(stored.request("POST").multipart(single)).await.status, 200);
    stored.server.stop().await;
}

#[tokio::test]
async fn the_error_about_a_wrong_part_name_contains_the_right_name() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    // The larger file exceeds the limit for the parts of a form that are not the file.
    for len in [1_000, 300_000] {
        let file = Part::bytes(mp3(len, 1)).file_name("a.mp3");
        let form = Form::new().text("title", "x").part("audio", file);
        let response = fetch(server.request("POST", &path).multipart(form)).await;
        response.blames("file");
        let sentence = "The part with the file must be named `file`, not `audio`";
        assert_eq!(response.json()["errors"]["file"][0], sentence);
    }
    // Without a filename, as `curl -F audio=<a.mp3` sends it.
    let form = Form::new().part("audio", Part::bytes(mp3(300_000, 1)));
    let response = fetch(server.request("POST", &path).multipart(form)).await;
    response.is_problem(400, "bad-request");
    assert!(response.text.contains("must be named `file`"), "{response:?}");
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_form_with_a_filename_in_latin_1_is_stored_with_the_name_in_the_path() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/upload/b.mp3");
    let form = |disposition: &[u8]| {
        let head = [b"--x\r\nContent-Disposition: ", disposition, b"\r\n\r\n"].concat();
        let body = [&*head, &*mp3(1_000, 1), b"\r\n--x--\r\n"].concat();
        let request = server.request("POST", &path);
        request.header("content-type", "multipart/form-data; boundary=x").body(body)
    };
    let stored = fetch(form(b"form-data; name=\"file\"; filename=\"M\xfasica.mp3\"")).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let upload = &stored.json()["upload"];
    assert_eq!((&upload["filename"], &upload["size"]), (&"b.mp3".into(), &1_000.into()));

    for disposition in [&b"attachment; name=\"file\""[..], b"form-data", b"form-data; name=\"f"] {
        let refused = fetch(form(disposition)).await;
        refused.is_problem(400, "bad-request");
        assert!(refused.text.contains("Content-Disposition: form-data; name="), "{refused:?}");
    }
    server.stop().await;
}
