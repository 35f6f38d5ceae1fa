//! The signatures are compared with those of `@azure/storage-blob` 12.32, Microsoft's library for
//! JavaScript (`generateBlobSASQueryParameters`, `StorageSharedKeyCredential`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use secrecy::SecretString;
use url::Url;

use super::endpoint::{Endpoint, EndpointError};
use super::sas::{Grant, SasSigner};
use super::shared_key::{AccountKey, KeyError, string_to_sign};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::storage::signer::{
    GetRequest, Operation, PartRequest, PostRequest, PutRequest, SignError, SignedRequest,
    Signer as _,
};

fn key() -> AccountKey {
    let secret = STANDARD.encode("a-secret-for-tests-of-azure-sas!");
    AccountKey::parse(&SecretString::from(secret)).unwrap()
}

fn endpoint(url: Option<&str>) -> Result<Endpoint, EndpointError> {
    let url = url.map(|url| Url::parse(url).unwrap());
    Endpoint::new(url.as_ref(), "myaccount", "uploads", None)
}

fn signer(url: Option<&str>) -> SasSigner {
    SasSigner::new(endpoint(url).unwrap(), key())
}

fn now() -> Timestamp {
    "2026-11-30T22:00:00.9Z".parse().unwrap()
}

const HOUR: TimeDelta = TimeDelta::hours(1);

/// The value of a parameter of a URL, decoded.
fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

async fn sign(key: &str, operation: Operation<'_>) -> Result<SignedRequest, SignError> {
    signer(None).sign(key, operation, now(), HOUR).await
}

#[tokio::test]
async fn a_sas_is_that_of_the_vendors_library() {
    let put = PutRequest::default();
    let once = PutRequest { write_once: true, ..PutRequest::default() };
    let get = GetRequest {
        content_disposition: Some(r#"attachment; filename="a b.mp3""#.into()),
        content_type: Some("audio/mpeg".into()),
        cache_control: Some("private".into()),
        content_language: Some("und".into()),
        version_id: None,
    };
    let version = GetRequest {
        version_id: Some("2026-11-30T20:00:00.1234567Z".into()),
        ..GetRequest::default()
    };
    let mut tagged = PutRequest::default();
    tagged.object.tags.insert("team".into(), "a".into());
    for (blob, operation, expected) in [
        ("tracks/a b/ü+=&", Operation::Put(&once), "k1CvU00pam6X/01FtUdfx3Xvq/4IiLHM4EK8XIXs7sU="),
        ("tracks/a/0190a6f2", Operation::Get(&get), "QLZBZMvJ87cZv9qLL6mUdx/vDP65G/aD6Vv44UsK3UY="),
        (
            "tracks/a/0190a6f2",
            Operation::Get(&version),
            "9teUUVX5GjhmqR25izzAdFs3nOILANydjsFJ0HGxgis=",
        ),
        ("k", Operation::Put(&tagged), "e6Zfu6cQ9x75vMdTZZtGnlC1m5svPPaUP4Of4fcm72g="),
    ] {
        let signed = sign(blob, operation).await.unwrap();
        assert_eq!(parameter(&signed.url, "sig").as_deref(), Some(expected), "{blob}");
        assert_eq!(signed.expires_at, "2026-11-30T23:00:00Z".parse::<Timestamp>().unwrap());
    }
    // Over http, no protocol is signed.
    let local = signer(Some("http://127.0.0.1:10000"));
    let signed = local.put("tracks/a/0190a6f2", &put, now(), HOUR).await.unwrap();
    let expected = "a0QcbwT/IJGEhov67aXEmjCuQ+8ji0V5zbygpSO6s6w=";
    assert_eq!(parameter(&signed.url, "sig").as_deref(), Some(expected));
    assert!(signed.url.starts_with("http://127.0.0.1:10000/myaccount/uploads/tracks/a/"));
}

#[tokio::test]
async fn a_put_has_the_headers_that_azure_needs_and_no_signature_in_them() {
    let request = PutRequest {
        content_type: Some("audio/mpeg".into()),
        content_length: Some(3),
        checksum: Some(Checksum::of(Algorithm::Md5, b"abc")),
        write_once: true,
        metadata: [("album-id".to_owned(), "7".to_owned())].into(),
        ..PutRequest::default()
    };
    let signed = sign("a b/ü", Operation::Put(&request)).await.unwrap();
    let headers: Vec<_> = signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let expected = [
        ("content-md5", "kAFQmDzST7DWlj99KOF/cg=="),
        ("content-type", "audio/mpeg"),
        ("if-none-match", "*"),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-meta-albumz2did", "7"),
    ];
    assert_eq!(headers, expected);
    let host = "https://myaccount.blob.core.windows.net/uploads/a%20b/%C3%BC?";
    assert!(signed.url.starts_with(host), "{}", signed.url);
    assert_eq!(parameter(&signed.url, "sp").as_deref(), Some("c"), "it does not overwrite");
    assert_eq!(parameter(&signed.url, "spr").as_deref(), Some("https"));
    assert!(!format!("{signed:?}").contains("sig="), "{signed:?}");
    let bad = PutRequest { content_type: Some("a\r\nb".into()), ..PutRequest::default() };
    assert!(matches!(sign("k", Operation::Put(&bad)).await, Err(SignError::Header(_))));
}

#[tokio::test]
async fn a_part_is_a_block_and_other_requests_of_s3_are_unsupported() {
    let (id, part) = ("0123456789abcdef0123456789abcdef", PartRequest::default());
    let part = |number| Operation::UploadPart { upload_id: id, number, request: &part };
    let signed = sign("k", part(7)).await.unwrap();
    assert!(signed.headers.is_empty());
    assert_eq!(parameter(&signed.url, "comp").as_deref(), Some("block"));
    let block = STANDARD.encode(format!("{id}-000007"));
    assert_eq!(parameter(&signed.url, "blockid"), Some(block));
    assert!(matches!(sign("k", part(0)).await, Err(SignError::PartNumber)));
    let (put, post) = (PutRequest::default(), PostRequest::default());
    for operation in [
        Operation::Post(&post),
        Operation::CreateMultipart(&put),
        Operation::ListParts { upload_id: id },
        Operation::CompleteMultipart { upload_id: id, write_once: true },
        Operation::AbortMultipart { upload_id: id },
    ] {
        assert!(matches!(sign("k", operation).await, Err(SignError::Unsupported(_))));
    }
}

#[test]
fn a_lifetime_is_at_least_a_second_and_at_most_a_week() {
    let url = |expires_in| signer(None).url("k", &Grant::default(), &[], now(), expires_in);
    assert!(matches!(url(TimeDelta::milliseconds(999)), Err(SignError::Expiry)));
    let (_, expires_at) = url(TimeDelta::days(30)).unwrap();
    assert_eq!(expires_at, "2026-12-07T22:00:00Z".parse::<Timestamp>().unwrap());
    assert!(matches!(
        signer(None).url("../k", &Grant::default(), &[], now(), HOUR),
        Err(SignError::Key(_))
    ));
}

/// The text is that of the example in "Authorize with Shared Key", "Get Container Metadata", with a
/// range added.
#[test]
fn the_signed_text_of_a_request_is_the_documented_one() {
    let headers: BTreeMap<_, _> = [
        ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"),
        ("x-ms-version", "2015-02-21"),
        ("content-length", "0"),
        ("range", "bytes=0-1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let query = [("restype", "container".to_owned()), ("comp", "metadata".to_owned())];
    let text = string_to_sign("GET", "myaccount", "/mycontainer", &query, &headers);
    let expected = "GET\n\n\n\n\n\n\n\n\n\n\nbytes=0-1\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n\
        x-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container";
    assert_eq!(text, expected);
}

#[test]
fn the_account_is_in_the_host_or_in_the_path() {
    for (url, expected) in [
        (None, "https://myaccount.blob.core.windows.net/uploads"),
        (Some("http://127.0.0.1:10000"), "http://127.0.0.1:10000/myaccount/uploads"),
        (
            Some("https://myaccount.blob.core.chinacloudapi.cn"),
            "https://myaccount.blob.core.chinacloudapi.cn/uploads",
        ),
        (Some("https://[::1]:1/"), "https://[::1]:1/myaccount/uploads"),
    ] {
        assert_eq!(signer(url).bucket_url(), expected);
    }
    assert_eq!(endpoint(Some("https://host/path")), Err(EndpointError::Url));
    let named = |account, container| Endpoint::new(None, account, container, None);
    assert_eq!(named("My-Account", "uploads"), Err(EndpointError::Account));
    for container in ["Up", "a", "a--b", "-ab", "a/b"] {
        assert_eq!(named("myaccount", container), Err(EndpointError::Container), "{container}");
    }
}

#[test]
fn a_key_is_base64_and_is_never_shown() {
    for text in ["", "not base64!", "===="] {
        assert_eq!(AccountKey::parse(&SecretString::from(text)).err(), Some(KeyError), "{text}");
    }
    assert_eq!(format!("{:?}", key()), "AccountKey");
}
