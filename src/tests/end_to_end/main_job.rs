//! Presign, upload, reconcile and download; and direct uploads.

use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use crate::support::live::{Live, read, text};
use crate::support::{PNG, mp3};

#[tokio::test]
async fn presign_upload_reconcile_download() {
    let live = Live::start().await;
    let track = live.track().await;
    let file = mp3(70_000, 7);
    let request = live.presign(&track, json!({})).await;
    assert_eq!(request["headers"], json!({}), "a bare URL needs no header");
    assert_eq!(live.send_bytes(&request, file.clone()).await.status(), 200);
    let run = live.reconcile("incremental").await;
    assert_eq!(run["counters"]["confirmed"], 1, "{run}");
    let (_, seen) = live.get(&format!("/api/tracks/{track}")).await;
    assert_eq!(text(&seen, "status"), "uploaded");
    assert_eq!(text(&seen, "file"), format!("/api/tracks/{track}/file"));
    assert_eq!(seen["upload"]["confirmed_by"], "scan");
    assert_eq!(seen["upload"]["size"], 70_000);
    assert_eq!(live.file(&track).await, file);
}

#[tokio::test]
async fn declared_values_are_enforced_by_the_store_and_signed_headers_suffice() {
    let live = Live::start().await;
    let track = live.track().await;
    let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 9000});
    let request = live.presign(&track, declared).await;
    let headers = request["headers"].as_object().unwrap();
    assert!(!headers.contains_key("host") && !headers.contains_key("content-length"));
    let longer = live.send_bytes(&request, mp3(9001, 1)).await.status().as_u16();
    assert!([400, 403].contains(&longer), "{longer}");
    assert_eq!(live.send_bytes(&request, mp3(9000, 1)).await.status(), 200);
    let again = live.send_bytes(&request, mp3(9000, 2)).await.status();
    assert_eq!(again, 412, "it is write-once");
    // A client that lost the response can confirm the upload.
    let id = text(&request["upload"], "id");
    let path = format!("/api/uploads/{id}/confirm");
    let (status, upload) = live.send(Method::POST, &path, None).await;
    assert_eq!((status, text(&upload, "status").as_str()), (200, "uploaded"));
    assert_eq!(text(&upload, "confirmed_by"), "confirm");
}

#[tokio::test]
async fn a_form_sent_to_a_presigned_url_is_rejected_as_an_envelope() {
    let live = Live::start().await;
    let track = live.track().await;
    let request = live.presign(&track, json!({})).await;
    let part = reqwest::multipart::Part::bytes(mp3(2000, 1)).file_name("a.mp3");
    let form = reqwest::multipart::Form::new().part("file", part);
    let put = live.http.put(text(&request, "url")).multipart(form).send().await;
    assert_eq!(put.unwrap().status(), 200);
    live.reconcile("audit").await;
    let (_, seen) = live.get(&format!("/api/tracks/{track}")).await;
    assert_eq!(seen["upload"]["status"], "rejected");
    assert_eq!(seen["upload"]["reason"], "multipart-envelope");
    assert_eq!(seen["file"], Value::Null);
}

#[tokio::test]
async fn a_direct_upload_accepts_a_raw_body_and_a_form() {
    let live = Live::with(&[("direct_upload.part_size", "5MiB")]).await;
    for (size, form) in [(30_000, false), (30_000, true), (11 << 20, false), (11 << 20, true)] {
        let track = live.track().await;
        let file = mp3(size, 9);
        let url = format!("{}/api/tracks/{track}/upload/My%20s%C3%B6ng.mp3", live.url);
        let request = if form {
            let part = reqwest::multipart::Part::bytes(file.clone()).file_name("other.mp3");
            let form = reqwest::multipart::Form::new().text("note", "hello").part("file", part);
            live.http.post(url).multipart(form)
        } else {
            live.http.put(url).body(file.clone())
        };
        let (status, track_view) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{track_view}");
        assert_eq!(track_view["upload"]["confirmed_by"], "direct");
        assert_eq!(track_view["upload"]["filename"], "My söng.mp3");
        assert_eq!(live.file(&track).await, file, "{size} {form}");
    }
}

#[tokio::test]
async fn a_refused_direct_upload_names_the_field_and_leaves_no_object() {
    let live = Live::with(&[("policies.tracks.max_size", "100KiB")]).await;
    let track = live.track().await;
    let url = |name: &str| format!("{}/api/tracks/{track}/upload/{name}", live.url);
    let cases = [
        ("a.mp3", mp3(102_401, 1), "file", "File is larger than max_size=102400"),
        ("a.mp3", vec![], "file", "File is empty"),
        (
            "a.mp3",
            PNG.to_vec(),
            "file",
            "File's content has none of the allowed types: audio/mpeg, audio/mp3",
        ),
        ("a.exe", mp3(2000, 1), "filename", "Extension must be one of: mp3"),
    ];
    for (name, bytes, field, sentence) in cases {
        let sent = live.http.post(url(name)).body(bytes).send().await.unwrap();
        let content_type = sent.headers()["content-type"].to_str().unwrap().to_owned();
        let (status, problem) = read(sent).await;
        assert_eq!((status, content_type.as_str()), (400, "application/problem+json"), "{problem}");
        assert_eq!(problem["errors"][field][0], sentence, "{problem}");
    }
    let form = reqwest::multipart::Form::new().text("other", "x");
    let sent = live.http.post(url("a.mp3")).multipart(form).send().await.unwrap();
    let (status, problem) = read(sent).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["errors"]["file"][0].is_string(), "{problem}");
    let run = live.reconcile("audit").await;
    assert_eq!((&run["counters"]["listed"], &run["counters"]["orphans"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn absent_uploads_expire_and_late_bytes_are_accepted() {
    let live = Live::with(&[("policies.tracks.grace", "1s")]).await;
    let track = live.track().await;
    let request = live.presign(&track, json!({"expires_in": 1})).await;
    let path = format!("/api/tracks/{track}");
    let status = |track: Value| text(&track, "status");
    let begun = std::time::Instant::now();
    while status(live.get(&path).await.1) != "expired" {
        assert!(begun.elapsed().as_secs() < 60);
        live.reconcile("incremental").await;
    }
    // The same upload gets another URL, and its bytes are accepted.
    let id = text(&request["upload"], "id");
    let (code, renewed) =
        live.send(Method::POST, &format!("/api/uploads/{id}/presign"), None).await;
    assert_eq!(code, 200, "{renewed}");
    assert_eq!(live.send_bytes(&renewed["request"], mp3(3000, 1)).await.status(), 200);
    live.reconcile("incremental").await;
    assert_eq!(status(live.get(&path).await.1), "uploaded");
}

#[tokio::test]
async fn the_file_route_redirects_with_the_filename_and_signed_urls_are_not_stored() {
    let live = Live::start().await;
    let track = live.track().await;
    let url = format!("{}/api/tracks/{track}/upload/S%C3%B6ng.mp3", live.url);
    live.http.put(url).body(mp3(5000, 1)).send().await.unwrap();
    let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
    let file = client.get(format!("{}/api/tracks/{track}/file", live.url)).send().await.unwrap();
    assert_eq!(file.status(), 307);
    assert_eq!(file.headers()["cache-control"], "no-store");
    let location = file.headers()["location"].to_str().unwrap().to_owned();
    let got = client.get(location).header("Range", "bytes=0-3").send().await.unwrap();
    assert_eq!(got.status(), 206);
    let name = got.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(name.contains("filename*=UTF-8''S%C3%B6ng.mp3"), "{name}");
    assert_eq!(got.bytes().await.unwrap().as_ref(), [0xff, 0xfb, 0x90, 0x64]);
}
