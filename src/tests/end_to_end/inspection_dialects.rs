//! Clients of other protocols under a policy with the real virus scanner: their requests succeed as
//! without a scanner, and a virus can never be downloaded.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::clamd::{Clamd, eicar};
use crate::support::live::{Live, text};

const CLEAN: &[u8] = b"nothing but text";

async fn scanned(address: &str) -> Live {
    Live::with(&[
        ("inspectors.clamav.kind", "clamd"),
        ("inspectors.clamav.address", address),
        ("policies.tracks.inspect", "clamav"),
        ("policies.tracks.allowed_extensions", ""),
        ("policies.tracks.allowed_content_types", ""),
        ("storage.default.probe", "true"),
        ("dialects.tus.enabled", "true"),
        ("dialects.filepond.enabled", "true"),
        ("dialects.companion.enabled", "true"),
    ])
    .await
}

/// An upload before its last request.
enum Sending {
    Tus {
        path: String,
    },
    Companion {
        id: String,
        part: Value,
    },
    /// One request, which returns the id.
    FilePond,
}

fn tus(live: &Live, method: &str, path: &str) -> RequestBuilder {
    let method: Method = method.parse().unwrap();
    live.http.request(method, format!("{}{path}", live.url)).header("Tus-Resumable", "1.0.0")
}

/// Sends a piece, and returns the status.
async fn patch(live: &Live, path: &str, offset: usize, piece: &[u8]) -> u16 {
    let request = tus(live, "PATCH", path)
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .body(piece.to_vec());
    request.send().await.unwrap().status().as_u16()
}

async fn create_tus(live: &Live, length: usize) -> String {
    // The metadata is the file name `file`.
    let request = tus(live, "POST", "/tus/").header("Upload-Length", length);
    let created = request.header("Upload-Metadata", "filename ZmlsZQ==").send().await.unwrap();
    assert_eq!(created.status(), 201);
    created.headers()["location"].to_str().unwrap().to_owned()
}

impl Sending {
    /// Sends everything except the last request, which completes the upload.
    async fn begin(protocol: &str, live: &Live, file: &[u8]) -> Self {
        match protocol {
            "tus" => {
                let path = create_tus(live, file.len()).await;
                assert_eq!(patch(live, &path, 0, &file[..4]).await, 204);
                Self::Tus { path }
            }
            "companion" => {
                let body = json!({"filename": "file", "type": "text/plain"});
                let (status, created) = live.post("/companion/s3/multipart", body).await;
                assert_eq!(status, 200, "{created}");
                let id = text(&created, "uploadId");
                let key = text(&created, "key");
                let path = format!("/companion/s3/multipart/{id}/1?key={key}");
                let (_, signed) = live.get(&path).await;
                let put = live.http.put(text(&signed, "url")).body(file.to_vec());
                let sent = put.send().await.unwrap();
                assert!(sent.status().is_success(), "{sent:?}");
                let etag = sent.headers()["etag"].to_str().unwrap();
                let part = json!({"parts": [{"PartNumber": 1, "ETag": etag}], "key": key});
                Self::Companion { id, part }
            }
            _ => Self::FilePond,
        }
    }

    fn id(&self) -> Option<String> {
        match self {
            Self::Tus { path } => path.rsplit('/').next().map(str::to_owned),
            Self::Companion { id, .. } => Some(id.clone()),
            Self::FilePond => None,
        }
    }

    /// Sends the last request, which must succeed. Returns the upload's id.
    async fn finish(&self, live: &Live, file: &[u8]) -> String {
        match self {
            Self::Tus { path } => assert_eq!(patch(live, path, 4, &file[4..]).await, 204),
            Self::Companion { id, part } => {
                let key = text(part, "key");
                let path = format!("/companion/s3/multipart/{id}/complete?key={key}");
                let (status, done) = live.post(&path, part.clone()).await;
                assert_eq!(status, 200, "{done}");
            }
            Self::FilePond => {
                let part = Part::bytes(file.to_vec()).file_name("file");
                let form = Form::new().text("filepond", "{}").part("filepond", part);
                let url = format!("{}/filepond", live.url);
                let done = live.http.post(url).multipart(form).send().await.unwrap();
                assert_eq!(done.status(), 201);
                return done.text().await.unwrap();
            }
        }
        self.id().unwrap()
    }
}

/// Requests the file from every route until `over` is true. Returns the path that served it.
async fn poll(live: &Live, id: &str, over: &AtomicBool) -> Option<String> {
    let mut served = None;
    while !over.load(Ordering::SeqCst) {
        for path in [
            format!("/api/uploads/{id}/file?redirect=false"),
            format!("/filepond?load={id}"),
            format!("/filepond?restore={id}"),
        ] {
            if live.get(&path).await.0 == 200 {
                served = Some(path);
            }
        }
    }
    served
}

async fn wait(live: &Live, id: &str) -> Value {
    live.get(&format!("/api/uploads/{id}?wait=60")).await.1
}

#[tokio::test]
async fn a_virus_that_other_clients_send_is_never_downloadable() {
    let Some(clamd) = Clamd::start().await else { return };
    let live = scanned(&clamd.socket()).await;
    for protocol in ["tus", "companion", "filepond"] {
        let virus = eicar();
        let sending = Sending::begin(protocol, &live, &virus).await;
        let over = AtomicBool::new(false);
        // The id of a file that FilePond sends is known only after it was sent.
        let id = match sending.id() {
            Some(id) => id,
            None => sending.finish(&live, &virus).await,
        };
        let attack = async {
            if sending.id().is_some() {
                sending.finish(&live, &virus).await;
            }
            let rejected = wait(&live, &id).await;
            over.store(true, Ordering::SeqCst);
            rejected
        };
        let (rejected, served) = tokio::join!(attack, poll(&live, &id, &over));
        assert_eq!(served, None, "{protocol}");
        let ended = (&rejected["status"], &rejected["reason"]);
        assert_eq!(ended, (&json!("rejected"), &json!("inspection")), "{protocol}: {rejected}");

        let clean = Sending::begin(protocol, &live, CLEAN).await.finish(&live, CLEAN).await;
        assert_eq!(wait(&live, &clean).await["status"], "uploaded", "{protocol}");
        let path = format!("{}/api/uploads/{clean}/file", live.url);
        let file = live.http.get(path).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(&file[..], CLEAN, "{protocol}");
    }
}

#[tokio::test]
async fn the_last_piece_waits_for_the_rules_and_not_for_a_scanner_that_is_down() {
    let live = scanned("127.0.0.1:1").await;
    let path = create_tus(&live, CLEAN.len()).await;
    assert_eq!(patch(&live, &path, 0, CLEAN).await, 204);
    let id = path.rsplit('/').next().unwrap();
    let upload = live.get(&format!("/api/uploads/{id}")).await.1;
    assert_eq!(upload["status"], "inspecting", "{upload}");
    let (status, problem) = live.get(&format!("/api/uploads/{id}/file")).await;
    assert_eq!((status, text(&problem, "type")), (409, "/problems/file-pending".to_owned()));
    let offset = tus(&live, "HEAD", &path).send().await.unwrap();
    assert_eq!(offset.status(), 200);
    assert_eq!(offset.headers()["upload-offset"], CLEAN.len().to_string().as_str());
}
