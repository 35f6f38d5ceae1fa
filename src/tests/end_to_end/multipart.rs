//! Multipart uploads, forms and digests over the network.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use upload_coordinator::domain::{Algorithm, Checksum};

use crate::support::live::{Live, read, text};
use crate::support::{PNG, mp3};

const MIB: usize = 1 << 20;

/// Runs the probe, so that the service knows what a real store supports.
const PROBED: (&str, &str) = ("storage.default.probe", "true");

async fn in_parts() -> Live {
    let parts = [
        ("policies.tracks.part_size", "5MiB"),
        ("policies.tracks.multipart_threshold", "6MiB"),
        ("policies.tracks.max_size", "10GiB"),
        PROBED,
    ];
    Live::with(&parts).await
}

fn sha256(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

async fn create(live: &Live, body: Value) -> Value {
    let (status, upload) = live.post("/api/uploads", body).await;
    assert_eq!(status, 201, "{upload}");
    upload
}

/// Signs these parts and sends their bytes.
async fn send(live: &Live, upload: &Value, file: &[u8], numbers: &[usize]) {
    let path = format!("/api/uploads/{}/parts", text(upload, "id"));
    let (status, signed) = live.post(&path, json!({"part_numbers": numbers})).await;
    assert_eq!(status, 200, "{signed}");
    let size = usize::try_from(upload["multipart"]["part_size"].as_u64().unwrap());
    let chunks: Vec<_> = file.chunks(size.unwrap()).collect();
    for (number, request) in numbers.iter().zip(signed["parts"].as_array().unwrap()) {
        assert_eq!(request["part_number"], *number);
        let sent = live.send_bytes(request, chunks[number - 1].to_vec()).await;
        assert_eq!(sent.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_large_file_in_parts_is_resumed_after_a_lost_part() {
    let live = in_parts().await;
    let (track, file) = (live.track().await, mp3(17 * MIB + 1, 3));
    let sum = sha256(&file);
    let declared = json!({"filename": "long.mp3", "content_type": "audio/mpeg",
        "track_id": track, "size": file.len(), "metadata": {"source": "phone"},
        "checksum": {"algorithm": "sha256", "value": sum}});
    let upload = create(&live, declared).await;
    assert_eq!(upload["strategy"], "multipart", "{upload}");
    assert_eq!(upload["multipart"], json!({"part_size": 5 * MIB, "part_count": 4}));
    assert_eq!(upload["request"], Value::Null);
    send(&live, &upload, &file, &[1, 2, 4]).await;
    let path = format!("/api/uploads/{}", text(&upload, "id"));
    let end = format!("{path}/complete");
    let complete = || live.send(Method::POST, &end, None);
    let (status, hole) = complete().await;
    assert_eq!((status, text(&hole, "type").as_str()), (409, "/problems/parts-incomplete"));
    assert_eq!((&hole["missing"], &hole["wrong"]), (&json!([3]), &json!([])), "{hole}");
    let (_, held) = live.get(&format!("{path}/parts")).await;
    let numbers: Vec<_> = held["parts"].as_array().unwrap().iter().collect();
    assert_eq!(numbers.len(), 3, "{held}");
    assert_eq!(numbers[2]["size"], 2 * MIB + 1);
    send(&live, &upload, &file, &[3]).await;
    let (first, second) = tokio::join!(complete(), complete());
    for (status, done) in [first, second, complete().await] {
        assert_eq!((status, text(&done, "status").as_str()), (200, "uploaded"), "{done}");
        assert_eq!(text(&done["checksum"], "value"), sum);
        assert!(text(&done, "etag").ends_with("-4"));
    }
    let stored = live.http.get(format!("{}/api/tracks/{track}/file", live.url)).send().await;
    assert_eq!(sha256(&stored.unwrap().bytes().await.unwrap()), sum);
}

#[tokio::test]
async fn a_crc_of_the_whole_file_is_checked_whatever_the_store_keeps() {
    let live = in_parts().await;
    let file = mp3(11 * MIB, 5);
    for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
        for (bytes, status) in [(&file, "uploaded"), (&mp3(11 * MIB, 6), "rejected")] {
            let value = Checksum::of(algorithm, &file).value();
            let checksum = json!({"algorithm": algorithm.name(), "value": value});
            let declared = json!({"filename": "a.mp3", "size": 11 * MIB, "checksum": checksum});
            let upload = create(&live, declared).await;
            send(&live, &upload, bytes, &[1, 2, 3]).await;
            let path = format!("/api/uploads/{}/complete", text(&upload, "id"));
            let (_, done) = live.send(Method::POST, &path, None).await;
            assert_eq!(text(&done, "status"), status, "{algorithm}: {done}");
            let seen = Checksum::of(algorithm, bytes).value();
            assert_eq!(text(&done["checksum"], "value"), seen, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn a_part_url_accepts_only_its_part() {
    let live = in_parts().await;
    let upload = create(&live, json!({"filename": "a.mp3", "size": 11 * MIB})).await;
    let path = format!("/api/uploads/{}/parts", text(&upload, "id"));
    let (_, signed) = live.post(&path, json!({"part_numbers": [3]})).await;
    let request = &signed["parts"][0];
    let longer = live.send_bytes(request, vec![0; MIB + 1]).await.status().as_u16();
    assert!([400, 403].contains(&longer), "another length: {longer}");
    let mut other = request.clone();
    other["url"] = text(request, "url").replace("partNumber=3", "partNumber=2").into();
    let other = live.send_bytes(&other, vec![0; MIB]).await.status().as_u16();
    assert!([400, 403].contains(&other), "another part: {other}");
    assert_eq!(live.send_bytes(request, vec![0; MIB]).await.status(), 200);
}

#[tokio::test]
async fn bad_input_for_parts_is_refused_with_a_message() {
    let live = in_parts().await;
    let upload = create(&live, json!({"filename": "a.mp3", "size": 11 * MIB})).await;
    let path = format!("/api/uploads/{}/parts", text(&upload, "id"));
    for (body, field) in [
        (json!({"part_numbers": [0]}), "part_numbers"),
        (json!({"part_numbers": [4]}), "part_numbers"),
        (json!({"part_numbers": [1, 1]}), "part_numbers"),
        (json!({"part_numbers": []}), "part_numbers"),
        (json!({}), "part_numbers"),
        (json!({"part_numbers": [1], "expires_in": 0}), "expires_in"),
        (json!({"part_numbers": "1"}), "part_numbers"),
        (json!({"part_numbers": [18_446_744_073_709_551_615_u64]}), "part_numbers[0]"),
    ] {
        let (status, problem) = live.post(&path, body.clone()).await;
        assert_eq!(status, 400, "{body}: {problem}");
        assert!(problem["errors"][field][0].is_string(), "{body}: {problem}");
    }
    let put = create(&live, json!({"filename": "a.mp3"})).await;
    let put = format!("/api/uploads/{}", text(&put, "id"));
    for path in [format!("{put}/parts"), format!("{put}/complete")] {
        let body = path.ends_with("parts").then(|| json!({"part_numbers": [1]}));
        let (status, problem) = live.send(Method::POST, &path, body).await;
        assert_eq!(status, 400, "{problem}");
    }
}

#[tokio::test]
async fn bad_declarations_are_refused_by_field() {
    let live = in_parts().await;
    let name = |name: &str| json!({"filename": name});
    let five_gib = 5_u64 << 30;
    for (body, field) in [
        (json!({"filename": "a.mp3", "size": 0}), "size"),
        (json!({"filename": "a.mp3", "size": 0, "strategy": "multipart"}), "size"),
        (json!({"filename": "a.mp3", "strategy": "multipart"}), "size"),
        (json!({"filename": "a.mp3", "size": five_gib + 1, "strategy": "put"}), "size"),
        (json!({"filename": "a.mp3", "size": five_gib + 1, "strategy": "post"}), "size"),
        (json!({"filename": "a.mp3", "size": 11 << 30}), "size"),
        (json!({"filename": "a.mp3", "size": 1, "strategy": "fax"}), "strategy"),
        (json!({"filename": "a.mp3", "strategy": "post", "write_once": true}), "write_once"),
        (
            json!({"filename": "a.mp3", "checksum": {"algorithm": "sha256", "value": "AAAA"}}),
            "checksum",
        ),
        (
            json!({"filename": "a.mp3", "size": five_gib, "strategy": "multipart",
                "checksum": {"algorithm": "sha256", "value": sha256(b"")}}),
            "checksum",
        ),
        (name(&format!("{}.mp3", "x".repeat(3996))), "filename"),
        (name("a\r\nSet-Cookie: b.mp3"), "filename"),
        (name("../../a.mp3"), "filename"),
        (name("C:\\a.mp3"), "filename"),
    ] {
        let (status, problem) = live.post("/api/uploads", body.clone()).await;
        assert_eq!(status, 400, "{body}: {problem}");
        assert!(problem["errors"][field][0].is_string(), "{body}: {problem}");
    }
    for (size, strategy) in [
        (1, "put"),
        (5 * MIB as u64 - 1, "put"),
        (6 * MIB as u64, "multipart"),
        (five_gib + 1, "multipart"),
    ] {
        let upload = create(&live, json!({"filename": "\"a\".mp3", "size": size})).await;
        assert_eq!(upload["strategy"], strategy, "{size}");
    }
}

fn form(request: &Value, bytes: Vec<u8>) -> Form {
    let fields = request["fields"].as_object().unwrap();
    let form = fields.iter().fold(Form::new(), |form, (name, value)| {
        form.text(name.clone(), value.as_str().unwrap().to_owned())
    });
    form.part("file", Part::bytes(bytes).file_name("a.mp3"))
}

#[tokio::test]
async fn a_form_upload_must_match_its_size_type_and_metadata() {
    let live = Live::with(&[PROBED]).await;
    let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 9000,
        "strategy": "post", "metadata": {"source": "browser"}});
    let upload = create(&live, declared).await;
    let request = &upload["request"];
    assert_eq!((text(request, "method").as_str(), &upload["strategy"]), ("POST", &json!("post")));
    let send = |form| live.http.post(text(request, "url")).multipart(form).send();
    for len in [8999, 9001] {
        let refused = send(form(request, mp3(len, 1))).await.unwrap().status();
        assert!(refused.is_client_error(), "{len}: {refused}");
    }
    for field in ["Content-Type", "x-amz-meta-source", "key"] {
        let mut other = request.clone();
        other["fields"][field] = "text/html".into();
        let refused = send(form(&other, mp3(9000, 1))).await.unwrap().status();
        assert!(refused.is_client_error(), "{field}: {refused}");
    }
    let stored = send(form(request, mp3(9000, 1))).await.unwrap();
    assert!(stored.status().is_success(), "{}", stored.text().await.unwrap());
    let path = format!("/api/uploads/{}/confirm", text(&upload, "id"));
    let (status, done) = live.send(Method::POST, &path, None).await;
    assert_eq!((status, text(&done, "status").as_str()), (200, "uploaded"), "{done}");
    // If no size is declared, the form still requires at least one byte.
    let any = create(&live, json!({"filename": "a.mp3", "strategy": "post"})).await;
    let empty = live.http.post(text(&any["request"], "url"));
    let empty = empty.multipart(form(&any["request"], vec![])).send().await.unwrap();
    assert!(empty.status().is_client_error());
}

#[tokio::test]
async fn digests_sent_with_a_file_are_checked_and_a_wrong_one_leaves_no_object() {
    let live = Live::with(&[("direct_upload.part_size", "5MiB")]).await;
    let track = live.track().await;
    let url = format!("{}/api/tracks/{track}/upload/a.mp3", live.url);
    for size in [9000, 11 * MIB] {
        let file = mp3(size, 1);
        let right = format!("sha-256=:{}:", sha256(&file));
        let wrong = format!("sha-256=:{}:", sha256(b"another"));
        for (name, value, status) in [
            ("Content-Digest", &wrong, 400),
            ("Repr-Digest", &wrong, 400),
            ("Content-MD5", &STANDARD.encode([1; 16]), 400),
            ("Content-MD5", &"short".to_owned(), 400),
            ("Content-Digest", &"sha-256=:AAAA:".to_owned(), 400),
            ("Repr-Digest", &right, 200),
            ("Content-Digest", &format!("sha-512=:AAAA:, {right}"), 200),
        ] {
            let put = live.http.put(&url).header(name, value).body(file.clone());
            let (seen, response) = read(put.send().await.unwrap()).await;
            assert_eq!(seen, status, "{name}: {value}: {response}");
            assert_eq!(response["errors"].is_object(), status == 400, "{response}");
        }
    }
    let run = live.reconcile("audit").await;
    assert_eq!((&run["counters"]["orphans"], &run["counters"]["missing"]), (&json!(0), &json!(0)));
    let form = Form::new().part("file", Part::bytes(mp3(9000, 1)));
    let put = live.http.put(&url).header("Content-MD5", STANDARD.encode([1; 16])).multipart(form);
    assert_eq!(put.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn only_verified_bytes_are_downloaded() {
    let live = Live::start().await;
    let track = live.track().await;
    let file = format!("/api/tracks/{track}/file?redirect=false");
    assert_eq!(live.get(&file).await.0, 404);
    let request = live.presign(&track, json!({})).await;
    assert_eq!(live.get(&file).await.0, 409);
    assert_eq!(live.send_bytes(&request, PNG.to_vec()).await.status(), 200);
    assert_eq!(live.get(&file).await.0, 409, "there, but not verified");
    let path = format!("/api/uploads/{}/confirm", text(&request["upload"], "id"));
    let (_, seen) = live.send(Method::POST, &path, None).await;
    assert_eq!((text(&seen, "status").as_str(), live.get(&file).await.0), ("rejected", 404));
}
