//! The clients of the service while files move.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::live::{read, text};
use crate::support::mp3;

/// The size of a part of the client's multipart uploads, in bytes.
pub const PART: usize = 5 << 20;

/// A verified upload and the seed and length of its bytes.
#[derive(Debug, Clone)]
pub struct StoredFile {
    pub id: String,
    pub key: String,
    pub len: usize,
    seed: u8,
}

impl StoredFile {
    fn bytes(&self) -> Vec<u8> {
        mp3(self.len, self.seed)
    }
}

/// A client of whichever process serves now.
#[derive(Clone)]
pub struct Api {
    http: Client,
    url: Arc<Mutex<String>>,
}

impl Api {
    pub fn new(url: &str) -> Self {
        let http = Client::builder().no_proxy().build().unwrap();
        Self { http, url: Arc::new(Mutex::new(url.to_owned())) }
    }

    /// From now on, all clients send their requests to this process.
    pub fn switch_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().unwrap());
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.lock().unwrap())
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, response) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {response}");
        response
    }

    /// Sends bytes with exactly the headers of the signed request.
    async fn put(&self, request: &Value, bytes: Vec<u8>) {
        let mut put = self.http.put(text(request, "url"));
        for (name, value) in request["headers"].as_object().unwrap() {
            put = put.header(name, value.as_str().unwrap());
        }
        let response = put.body(bytes).send().await.unwrap();
        let status = response.status();
        // S3 returns 200, Azure 201.
        assert!(status == 200 || status == 201, "{status}: {}", response.text().await.unwrap());
    }

    /// Uploads and confirms a file. Every response must be a success.
    pub async fn upload(&self, len: usize, seed: u8) -> StoredFile {
        let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": len});
        let (status, upload) = self.send(Method::POST, "/api/uploads", Some(declared)).await;
        assert_eq!(status, 201, "{upload}");
        let (id, key, bytes) = (text(&upload, "id"), text(&upload, "key"), mp3(len, seed));
        let end = if upload["multipart"].is_null() {
            self.put(&upload["request"], bytes).await;
            "confirm"
        } else {
            let numbers: Vec<_> = (1..=len.div_ceil(PART)).collect();
            let path = format!("/api/uploads/{id}/parts");
            let request = json!({"part_numbers": numbers});
            let (status, signed) = self.send(Method::POST, &path, Some(request)).await;
            assert_eq!(status, 200, "{signed}");
            for (part, bytes) in signed["parts"].as_array().unwrap().iter().zip(bytes.chunks(PART))
            {
                self.put(part, bytes.to_vec()).await;
            }
            "complete"
        };
        let (status, done) =
            self.send(Method::POST, &format!("/api/uploads/{id}/{end}"), None).await;
        assert_eq!((status, &done["status"]), (200, &json!("uploaded")), "{done}");
        StoredFile { id, key, len, seed }
    }

    /// Uploads files of these sizes, and returns them in the order of their keys.
    pub async fn upload_all(&self, sizes: impl Iterator<Item = usize>) -> Vec<StoredFile> {
        let uploads = stream::iter((0..251).cycle().zip(sizes));
        let uploads = uploads.map(|(seed, len)| self.upload(len, seed)).buffered(8);
        let mut known: Vec<StoredFile> = uploads.collect().await;
        known.sort_by(|a, b| a.key.cmp(&b.key));
        known
    }

    /// Downloads a file by its signed URL, and compares all bytes.
    pub async fn check(&self, known: &StoredFile) {
        let url = self.url(&format!("/api/uploads/{}/file", known.id));
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{known:?}");
        let bytes: Bytes = response.bytes().await.unwrap();
        assert!(bytes == known.bytes(), "{known:?}: {} bytes", bytes.len());
    }

    pub async fn check_all(&self, all: &[StoredFile]) {
        stream::iter(all).for_each_concurrent(8, |known| self.check(known)).await;
    }

    /// The store of an upload.
    pub async fn store_of(&self, known: &StoredFile) -> String {
        text(&self.get(&format!("/api/uploads/{}", known.id)).await, "store")
    }
}

/// What a client did.
#[derive(Debug, Default)]
pub struct Done {
    pub uploads: usize,
    pub downloads: usize,
    pub deletions: usize,
    /// What it uploaded and did not delete.
    pub files: Vec<StoredFile>,
}

/// Uploads, downloads and deletes until `stop` is set.
pub async fn work(api: Api, known: Arc<Vec<StoredFile>>, stop: Arc<AtomicBool>, n: u8) -> Done {
    let (mut done, mut turn) = (Done::default(), usize::from(n));
    while !stop.load(Ordering::Relaxed) {
        turn += 7;
        let len = if turn % 40 == 0 { PART + turn } else { 3000 + turn };
        let fresh = api.upload(len, n.wrapping_add(u8::try_from(turn % 200).unwrap())).await;
        api.check(&fresh).await;
        api.check(&known[turn % known.len()]).await;
        done.uploads += 1;
        done.downloads += 2;
        if turn % 16 == 0 {
            done.files.push(fresh);
        } else {
            let path = format!("/api/uploads/{}", fresh.id);
            assert_eq!(api.send(Method::DELETE, &path, None).await.0, 204);
            done.deletions += 1;
        }
    }
    done
}
