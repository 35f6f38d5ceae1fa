use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{BUCKET, MIB, code_of, default_client, for_a_minute, start};

fn sha256(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(body))
}

fn md5(body: &[u8]) -> String {
    BASE64_STANDARD.encode(md5::Md5::digest(body))
}

#[tokio::test]
async fn a_checksum_is_verified_stored_and_returned_on_request() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("k").body(b"music".to_vec().into());
    let put = put.checksum_sha256(sha256(b"music")).send().await.unwrap();
    assert_eq!(put.checksum_sha256(), Some(sha256(b"music").as_str()));
    let head = || s3.client.head_object().bucket(BUCKET).key("k");
    let with_checksum = head().checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(with_checksum.checksum_sha256(), Some(sha256(b"music").as_str()));
    assert_eq!(with_checksum.checksum_type().unwrap().as_str(), "FULL_OBJECT");
    assert_eq!(head().send().await.unwrap().checksum_sha256(), None);
}

#[tokio::test]
async fn client_and_server_compute_the_same_checksum_with_every_algorithm() {
    let s3 = start().await;
    let client = default_client(&s3.server.url());
    for algorithm in ChecksumAlgorithm::values() {
        let algorithm = ChecksumAlgorithm::from(*algorithm);
        let known = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];
        if !known.contains(&algorithm.as_str()) {
            continue;
        }
        let put = client.put_object().bucket(BUCKET).key(algorithm.as_str());
        let put = put.body(b"the same bytes".to_vec().into());
        put.checksum_algorithm(algorithm.clone()).send().await.unwrap();
        // The SDK compares the bytes with the checksum that the server returns.
        let get = client.get_object().bucket(BUCKET).key(algorithm.as_str());
        let got = get.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        let given = [
            got.checksum_crc32(),
            got.checksum_crc32_c(),
            got.checksum_crc64_nvme(),
            got.checksum_sha1(),
            got.checksum_sha256(),
        ];
        assert_eq!(given.iter().flatten().count(), 1, "{algorithm:?}");
        assert_eq!(got.body.collect().await.unwrap().to_vec(), b"the same bytes");
    }
}

#[tokio::test]
async fn a_refused_put_does_not_change_the_old_object() {
    let s3 = start().await;
    let etag = s3.put("k", b"old").await;
    let put = || s3.client.put_object().bucket(BUCKET).key("k").body(b"new".to_vec().into());
    for (request, code) in [
        (put().checksum_sha256(sha256(b"other")), "BadDigest"),
        (put().checksum_crc32("AAAAAA=="), "BadDigest"),
        (put().checksum_sha256("nonsense"), "InvalidRequest"),
        (put().content_md5(md5(b"other")), "BadDigest"),
        (put().content_md5("nonsense"), "InvalidDigest"),
        (put().if_none_match("*"), "PreconditionFailed"),
        (put().metadata("long", "x".repeat(2048)), "MetadataTooLarge"),
    ] {
        assert_eq!(code_of(&request.send().await.unwrap_err()), code);
        let head = s3.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(head.e_tag(), Some(etag.as_str()));
        assert_eq!(s3.read("k").await.as_deref(), Some(&b"old"[..]));
        assert_eq!(s3.files(), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn a_body_that_differs_from_the_presigned_values_is_refused() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("k");
    let put = put.content_type("audio/flac").content_length(5).checksum_sha256(sha256(b"music"));
    let put = put.presigned(for_a_minute()).await.unwrap();
    s3.send(&put, &[], "magic").await.refused(400, "BadDigest");
    s3.send(&put, &[("content-type", "text/html")], "music")
        .await
        .refused(403, "SignatureDoesNotMatch");
    s3.send(&put, &[("x-amz-checksum-sha256", &sha256(b"magic"))], "magic")
        .await
        .refused(403, "SignatureDoesNotMatch");
    s3.send(&put, &[("content-length", "11")], "music music")
        .await
        .refused(403, "SignatureDoesNotMatch");
    assert_eq!(s3.read("k").await, None);
    assert_eq!(s3.send(&put, &[], "music").await.status, 200);
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"music"[..]));
}

#[tokio::test]
async fn an_unsigned_payload_hash_is_refused() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    // The header is not signed, so it is not allowed.
    let hash = hex::encode(Sha256::digest(b"other"));
    s3.send(&put, &[("x-amz-content-sha256", &hash)], "music").await.refused(403, "AccessDenied");
    assert_eq!(s3.read("k").await, None);
}

#[tokio::test]
async fn a_put_without_a_length_is_refused() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("music")]);
    let response = s3.send(&put, &[], reqwest::Body::wrap_stream(chunks)).await;
    response.refused(411, "MissingContentLength");
}

#[tokio::test]
async fn a_body_over_five_gibibytes_is_refused_before_it_is_sent() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let mut socket = raw_put(&s3, put.uri(), 5 * 1024 * 1024 * 1024 + 1, b"").await;
    let mut response = vec![0; 4096];
    let mut text = String::new();
    while !text.contains("</Error>") {
        let read = socket.read(&mut response).await.unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&response[..read]));
    }
    assert!(text.contains("<Code>EntityTooLarge</Code>"), "{text}");
}

/// Begins a PUT over a raw connection, with these headers and a part of the body.
async fn raw_put(
    s3: &super::support::TestServer,
    uri: &str,
    length: u64,
    body: &[u8],
) -> tokio::net::TcpStream {
    let addr = s3.server.addr();
    let path = uri.strip_prefix(&s3.server.url()).unwrap();
    let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {addr}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    socket
}

#[tokio::test]
async fn a_client_that_disconnects_during_the_body_leaves_nothing_behind() {
    let s3 = start().await;
    s3.put("k", b"old").await;
    let put = s3.presigned_put("k").await;
    let length = 64 * MIB as u64;
    let mut socket = raw_put(&s3, put.uri(), length, &vec![7; 3 * MIB]).await;
    let mut begun = [0; 12];
    socket.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100");
    // The server spools the body after it has received the first bytes.
    eventually(|| s3.files() == (1, 1)).await;
    drop(socket);
    eventually(|| s3.files() == (1, 0)).await;
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"old"[..]));
}

async fn eventually(condition: impl Fn() -> bool) {
    let limit = std::time::Duration::from_secs(20);
    let reached = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, reached).await.unwrap();
}
