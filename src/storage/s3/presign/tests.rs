use aws_credential_types::Credentials;

use super::*;
use crate::domain::checksum::Algorithm;
use crate::domain::object_settings::{ObjectSettings, Sse};
use crate::storage::signer::PutRequest;

fn at(second: i64) -> Timestamp {
    "2026-11-23T10:00:00.25Z".parse::<Timestamp>().unwrap() + TimeDelta::seconds(second)
}

fn presigner(ends_at: Option<Timestamp>) -> Presigner {
    let endpoint = "http://s3.test:9000".parse().unwrap();
    let target = Target::new(Some(&endpoint), "us-east-1", "music", true).unwrap();
    let end = ends_at.map(Into::into);
    let credentials = Credentials::new("AKID", "the-secret", Some("the-token".into()), end, "test");
    Presigner::new(target, SharedCredentialsProvider::new(credentials))
}

const HOUR: TimeDelta = TimeDelta::hours(1);

#[tokio::test]
async fn declared_values_are_signed_and_returned_as_headers_except_host_and_length() {
    let request = PutRequest {
        content_type: Some("audio/mpeg".into()),
        content_length: Some(3),
        checksum: Some(Checksum::of(Algorithm::Crc32, b"abc")),
        write_once: true,
        metadata: [("artist".to_owned(), "  a  b ".to_owned())].into(),
        object: ObjectSettings {
            sse: Some(Sse::Kms),
            kms_key_id: Some("key".into()),
            storage_class: Some("STANDARD_IA".into()),
            cache_control: Some("private".into()),
            tags: [("team".to_owned(), "a b".to_owned())].into(),
        },
    };
    let signed = presigner(None).put("tracks/f/1", &request, at(0), HOUR).await.unwrap();
    let names = "cache-control%3Bcontent-length%3Bcontent-type%3Bhost%3Bif-none-match\
                 %3Bx-amz-checksum-crc32%3Bx-amz-meta-artist%3Bx-amz-sdk-checksum-algorithm\
                 %3Bx-amz-server-side-encryption%3Bx-amz-server-side-encryption-aws-kms-key-id\
                 %3Bx-amz-storage-class%3Bx-amz-tagging";
    assert!(signed.url.contains(&format!("X-Amz-SignedHeaders={names}&X-Amz-Signature=")));
    let headers: Vec<_> = signed.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    assert_eq!(
        headers,
        [
            "cache-control: private",
            "content-type: audio/mpeg",
            "if-none-match: *",
            "x-amz-checksum-crc32: NSRBwg==",
            "x-amz-meta-artist: a b",
            "x-amz-sdk-checksum-algorithm: CRC32",
            "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id: key",
            "x-amz-storage-class: STANDARD_IA",
            "x-amz-tagging: team=a%20b",
        ]
    );
}

#[tokio::test]
async fn without_declared_values_only_the_host_is_signed() {
    let signed = presigner(None).put("k", &PutRequest::default(), at(0), HOUR).await.unwrap();
    assert!(signed.url.contains("&X-Amz-SignedHeaders=host&X-Amz-Signature="));
    assert!(signed.headers.is_empty());
}

#[tokio::test]
async fn the_returned_expiry_is_the_one_that_the_store_computes() {
    for (refresh, end, seconds) in [
        (HOUR, None, 3600),
        (TimeDelta::milliseconds(1999), None, 1),
        (TimeDelta::days(30), None, 604_800),
        (HOUR, Some(at(60)), 60),
    ] {
        let signed = presigner(end).put("k", &PutRequest::default(), at(0), refresh).await.unwrap();
        assert!(signed.url.contains(&format!("X-Amz-Expires={seconds}&")), "{refresh}");
        assert_eq!(signed.expires_at, at(seconds).trunc_subsecs(0));
    }
    let none = presigner(None).put("k", &PutRequest::default(), at(0), TimeDelta::zero()).await;
    assert!(matches!(none, Err(SignError::Expiry)));
}

#[tokio::test]
async fn a_header_that_clients_would_send_differently_is_refused() {
    for (name, value) in [("Artist", "x"), ("", "x"), ("a b", "x"), ("artist", "ü"), ("a", "\n")] {
        let metadata = [(name.to_owned(), value.to_owned())].into();
        let request = PutRequest { metadata, ..PutRequest::default() };
        let refused = presigner(None).put("k", &request, at(0), HOUR).await;
        assert!(matches!(refused, Err(SignError::Header(_))), "{name:?}: {value:?}");
    }
}

#[tokio::test]
async fn a_form_has_a_condition_for_each_of_its_fields() {
    use base64::Engine as _;
    let request = PostRequest {
        content_type: Some("audio/mpeg".into()),
        size: Some((1, 100)),
        metadata: [("artist".to_owned(), "a".to_owned())].into(),
        object: ObjectSettings {
            sse: Some(Sse::Aes256),
            cache_control: Some("private".into()),
            tags: [("team".to_owned(), "music".to_owned())].into(),
            ..ObjectSettings::default()
        },
        with_location: true,
    };
    let signed = presigner(None).post("tracks/f/1", &request, at(0), HOUR).await.unwrap();
    assert_eq!((signed.method, signed.url.as_str()), ("POST", "http://s3.test:9000/music"));
    let fields: BTreeMap<_, _> = signed.fields.unwrap().into_iter().collect();
    let policy = base64::engine::general_purpose::STANDARD.decode(&fields["policy"]).unwrap();
    let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
    assert_eq!(policy["expiration"], "2026-11-23T11:00:00.000Z");
    let conditions = policy["conditions"].as_array().unwrap();
    assert!(conditions.contains(&serde_json::json!({"bucket": "music"})));
    assert!(conditions.contains(&serde_json::json!(["content-length-range", 1, 100])));
    for (name, value) in
        fields.iter().filter(|(n, _)| !["policy", "X-Amz-Signature"].contains(&n.as_str()))
    {
        assert!(
            conditions.contains(&serde_json::json!(["eq", format!("${name}"), value])),
            "{name}"
        );
    }
}

#[tokio::test]
async fn debug_shows_no_signature_and_no_secret() {
    let presigner = presigner(None);
    let put = presigner.put("k", &PutRequest::default(), at(0), HOUR).await.unwrap();
    let post = presigner.post("k", &PostRequest::default(), at(0), HOUR).await.unwrap();
    let shown = format!("{presigner:?} {put:?} {post:?}");
    for hidden in ["the-secret", "the-token", "X-Amz-Signature", "policy"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}
