//! The features that `dev` has in addition to `serve`.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::json;

use crate::support::live::{Live, read, run, text};
use crate::support::mp3;

const PAGE: &str = "http://localhost:5173";

/// Sends a preflight request, and returns the headers of the response.
async fn preflight(live: &Live, url: &str, method: &str, headers: &str, origin: &str) -> HeaderMap {
    let request = live.http.request(Method::OPTIONS, url).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    let request = request.header("access-control-request-headers", headers);
    request.send().await.unwrap().headers().clone()
}

fn allows(headers: &HeaderMap, origin: &str) -> bool {
    let allowed = headers.get("access-control-allow-origin");
    allowed.is_some_and(|allowed| allowed == origin || allowed == "*")
}

#[tokio::test]
async fn a_page_on_another_loopback_port_can_upload_through_dev() {
    let live = Live::dev().await;
    let tracks = format!("{}/api/tracks", live.url);
    for page in [PAGE, "http://127.0.0.1:3000", "http://[::1]:8000", "http://localhost"] {
        let found = preflight(&live, &tracks, "POST", "content-type", page).await;
        assert!(allows(&found, page), "{page}: {found:?}");
    }
    for other in ["https://example.com", "http://localhost.example.com", "null"] {
        let found = preflight(&live, &tracks, "POST", "content-type", other).await;
        assert!(!allows(&found, other), "{other}: {found:?}");
    }
    let post = async |path: String, body| -> Response {
        let request = live.http.post(path).header("origin", PAGE).json(&body);
        let response = request.send().await.unwrap();
        assert!(allows(response.headers(), PAGE), "{response:?}");
        response
    };
    let track = json!({"title": "A song", "artist_name": "Someone"});
    let track = text(&read(post(tracks.clone(), track).await).await.1, "id");
    let presigned = format!("{tracks}/{track}/presigned-url");
    let (_, request) = read(post(presigned, json!({"content_type": "audio/mpeg"})).await).await;
    let url = text(&request, "url");
    let found = preflight(&live, &url, "PUT", "content-type", PAGE).await;
    assert!(allows(&found, PAGE), "{found:?}");
    let mut put = live.http.put(&url).header("origin", PAGE);
    for (name, value) in request["headers"].as_object().unwrap() {
        put = put.header(name, value.as_str().unwrap());
    }
    let put = put.body(mp3(9000, 1)).send().await.unwrap();
    assert_eq!(put.status(), 200);
    assert!(allows(put.headers(), PAGE), "{put:?}");
}

#[tokio::test]
async fn a_second_dev_on_the_same_data_folder_exits_with_a_message() {
    let mut live = Live::dev().await;
    let data = live.data_folder().display().to_string();
    let arguments = ["dev", "--data", &data, "--bind", "127.0.0.1:0", "--s3-bind", "127.0.0.1:0"];
    let second = run(&arguments, &[]);
    let second = tokio::time::timeout(Duration::from_mins(1), second).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains(&format!("the folder {data} is in use by another `dev`")), "{error}");
    // The first process continues to work, and a killed process leaves no lock.
    live.track().await;
    live.kill().await;
    live.restart().await;
}
