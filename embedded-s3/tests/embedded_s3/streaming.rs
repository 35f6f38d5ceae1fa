//! Bodies in chunks with an unknown total size, as the AWS SDK for JavaScript sends streams.

use bytes::Bytes;
use chrono::Utc;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Body;
use sha2::{Digest as _, Sha256};

use super::support::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, TestResponse, TestServer, start};

/// The CRC-32 of `abc`.
const CRC32: &str = "NSRBwg==";

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Signs a streamed PUT by hand.
struct Signing {
    date: String,
    scope: String,
    key: Vec<u8>,
}

impl Signing {
    #[expect(clippy::disallowed_methods, reason = "the server checks against the real time")]
    fn now() -> Self {
        let date = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let day = date[..8].to_owned();
        let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
        for step in [day.as_str(), REGION, "s3", "aws4_request"] {
            key = hmac(&key, step);
        }
        Self { scope: format!("{day}/{REGION}/s3/aws4_request"), date, key }
    }

    fn sign(&self, algorithm: &str, remaining: &str) -> String {
        let text = format!("{algorithm}\n{}\n{}\n{remaining}", self.date, self.scope);
        hex::encode(hmac(&self.key, &text))
    }

    /// Sends a body without a `Content-Length`, and returns the response. `body` returns the body
    /// for the signature of the request.
    async fn send(
        &self,
        s3: &TestServer,
        payload: &str,
        decoded_length: &str,
        body: impl FnOnce(&str) -> String,
    ) -> TestResponse {
        let host = s3.server.url().trim_start_matches("http://").to_owned();
        let headers = [
            ("content-encoding", "aws-chunked"),
            ("host", host.as_str()),
            ("x-amz-content-sha256", payload),
            ("x-amz-date", self.date.as_str()),
            ("x-amz-decoded-content-length", decoded_length),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let names = headers.map(|(name, _)| name).join(";");
        let lines = headers.map(|(name, value)| [name, value].join(":")).join("\n");
        let canonical = format!("PUT\n/{BUCKET}/k\n\n{lines}\n\n{names}\n{payload}");
        let signature = self.sign("AWS4-HMAC-SHA256", &sha256(&canonical));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{}, SignedHeaders={names}, \
             Signature={signature}",
            self.scope
        );
        let body = body(&signature).into_bytes();
        let pieces: Vec<_> = body
            .chunks(7)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let stream = Body::wrap_stream(futures_util::stream::iter(pieces));
        let mut request = s3.http.put(format!("{}/{BUCKET}/k", s3.server.url())).body(stream);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        TestResponse::of(request.header("authorization", authorization).send().await.unwrap()).await
    }

    /// The chunks of `abc` and the trailer, each signed.
    fn signed_chunks(&self, seed: &str) -> String {
        let empty = sha256("");
        let chunk = |before: &str, data: &str| {
            let remaining = format!("{before}\n{empty}\n{}", sha256(data));
            self.sign("AWS4-HMAC-SHA256-PAYLOAD", &remaining)
        };
        let first = chunk(seed, "abc");
        let last = chunk(&first, "");
        let trailer = format!("x-amz-checksum-crc32:{CRC32}\n");
        let remaining = format!("{last}\n{}", sha256(&trailer));
        let signature = self.sign("AWS4-HMAC-SHA256-TRAILER", &remaining);
        format!(
            "3;chunk-signature={first}\r\nabc\r\n0;chunk-signature={last}\r\n\
             x-amz-checksum-crc32:{CRC32}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
        )
    }
}

fn unsigned_chunks(checksum: &str) -> String {
    format!("3\r\nabc\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n")
}

const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

#[tokio::test]
async fn a_stream_without_a_content_length_is_stored() {
    let s3 = start().await;
    let signing = Signing::now();
    let response = signing.send(&s3, UNSIGNED, "3", |_| unsigned_chunks(CRC32)).await;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"abc"[..]));
    let head = s3.client.head_object().bucket(BUCKET).key("k");
    let head = head.checksum_mode("ENABLED".into()).send().await.unwrap();
    assert_eq!(head.checksum_crc32(), Some(CRC32));
    assert_eq!(head.content_encoding(), None);
}

#[tokio::test]
async fn signed_chunks_are_stored_and_forged_ones_refused() {
    let s3 = start().await;
    let signing = Signing::now();
    let response = signing.send(&s3, SIGNED, "3", |seed| signing.signed_chunks(seed)).await;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"abc"[..]));
    let forged = |seed: &str| signing.signed_chunks(seed).replace("\r\nabc\r\n", "\r\nxyz\r\n");
    let response = signing.send(&s3, SIGNED, "3", forged).await;
    response.refused(403, "SignatureDoesNotMatch");
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"abc"[..]), "the old object was replaced");
}

#[tokio::test]
async fn a_stream_with_another_length_or_checksum_than_declared_is_refused() {
    let s3 = start().await;
    let signing = Signing::now();
    for (length, checksum, code) in [
        ("4", CRC32, "IncompleteBody"),
        ("2", CRC32, "IncompleteBody"),
        ("3", "AAAAAA==", "BadDigest"),
    ] {
        let response = signing.send(&s3, UNSIGNED, length, |_| unsigned_chunks(checksum)).await;
        response.refused(400, code);
    }
    assert_eq!(s3.read("k").await, None);
}
