use std::collections::HashMap;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketLocationConstraint, ChecksumMode, CorsConfiguration, CorsRule, Delete, MetadataDirective,
    ObjectIdentifier,
};
use futures_util::StreamExt as _;

use embedded_s3::EmbeddedS3;

use super::support::{
    BUCKET, MIB, REGION, SECRET_KEY, TestResponse, client, client_config, code_of, config,
    default_client, for_a_minute, start,
};

const ODD_KEYS: [&str; 14] = [
    "a",
    "a/b",
    "a/",
    "with space",
    "plus+sign",
    "per%cent",
    "per%20cent",
    "ünïcödé/日本語",
    "q?u=e&r#y",
    "../up/./here",
    "/leading",
    "double//slash",
    "quote'\"<&>",
    "~.-_!*()",
];

#[tokio::test]
async fn an_object_is_returned_as_it_was_stored() {
    let s3 = start().await;
    let put = s3
        .client
        .put_object()
        .bucket(BUCKET)
        .key("track.flac")
        .body(ByteStream::from_static(b"some music"))
        .content_type("audio/flac")
        .content_disposition("attachment; filename=track.flac")
        .cache_control("max-age=60")
        .content_encoding("identity")
        .metadata("artist", "Someone")
        .metadata("title", "Ünïcode");
    let etag = put.send().await.unwrap().e_tag.unwrap();
    let md5 = hex::encode(<md5::Md5 as md5::Digest>::digest(b"some music"));
    assert_eq!(etag, format!("\"{md5}\""));

    let got = s3.client.get_object().bucket(BUCKET).key("track.flac").send().await.unwrap();
    assert_eq!(got.e_tag(), Some(etag.as_str()));
    assert_eq!(got.content_type(), Some("audio/flac"));
    assert_eq!(got.content_disposition(), Some("attachment; filename=track.flac"));
    assert_eq!(got.cache_control(), Some("max-age=60"));
    assert_eq!(got.content_encoding(), Some("identity"));
    assert_eq!(got.content_length(), Some(10));
    assert!(got.last_modified().is_some());
    let artist = got.metadata().unwrap().get("artist").unwrap();
    assert_eq!(artist, "Someone");
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"some music");

    let head = s3.client.head_object().bucket(BUCKET).key("track.flac").send().await.unwrap();
    assert_eq!(head.content_length(), Some(10));
    assert_eq!(head.e_tag(), Some(etag.as_str()));
    assert_eq!(head.content_type(), Some("audio/flac"));
}

#[tokio::test]
async fn the_default_sdk_with_trailing_checksums_works() {
    let s3 = start().await;
    let client = default_client(&s3.server.url());
    let body: Vec<u8> = (0..251_u8).cycle().take(3 * MIB).collect();
    let file = s3.dir.path().join("body");
    std::fs::write(&file, &body).unwrap();
    // A file is streamed, so the checksum follows it, as a trailer of aws-chunked.
    let stream = ByteStream::from_path(&file).await.unwrap();
    let put = client.put_object().bucket(BUCKET).key("big").body(stream).send().await.unwrap();
    assert!(put.checksum_crc32().is_some());
    let get = client.get_object().bucket(BUCKET).key("big").checksum_mode(ChecksumMode::Enabled);
    let got = get.send().await.unwrap();
    assert_eq!(got.checksum_crc32(), put.checksum_crc32());
    assert_eq!(got.content_encoding(), None);
    assert_eq!(got.body.collect().await.unwrap().to_vec(), body);
}

#[tokio::test]
async fn unusual_keys_are_distinct_and_returned_unchanged() {
    let s3 = start().await;
    for key in ODD_KEYS {
        let put = s3.client.put_object().bucket(BUCKET).key(key);
        put.body(key.as_bytes().to_vec().into()).send().await.unwrap();
    }
    for key in ODD_KEYS {
        assert_eq!(s3.read(key).await.as_deref(), Some(key.as_bytes()), "{key}");
    }
    for key in ODD_KEYS {
        s3.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(s3.read(key).await, None, "{key}");
    }
    assert_eq!(s3.files(), (0, 0));
}

#[tokio::test]
async fn a_key_of_1024_bytes_is_allowed_and_a_longer_one_refused() {
    let s3 = start().await;
    let longest = "k".repeat(1024);
    s3.put(&longest, b"x").await;
    assert_eq!(s3.read(&longest).await.as_deref(), Some(&b"x"[..]));
    let put = s3.client.put_object().bucket(BUCKET).key("ü".repeat(513));
    assert_eq!(code_of(&put.send().await.unwrap_err()), "KeyTooLongError");
}

#[tokio::test]
async fn ranges_are_served_and_impossible_ones_refused() {
    let s3 = start().await;
    s3.put("digits", b"0123456789").await;
    for (range, body, shown) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
    ] {
        let get = s3.client.get_object().bucket(BUCKET).key("digits").range(range);
        let got = get.send().await.unwrap();
        assert_eq!(got.content_range(), Some(shown));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), body.as_bytes());
    }
    let get = s3.client.get_object().bucket(BUCKET).key("digits").range("bytes=10-");
    assert_eq!(code_of(&get.send().await.unwrap_err()), "InvalidRange");
}

#[tokio::test]
async fn reads_honour_their_conditions() {
    let s3 = start().await;
    let etag = s3.put("k", b"x").await;
    let get = || s3.client.get_object().bucket(BUCKET).key("k");
    get().if_match(&etag).send().await.unwrap();
    get().if_none_match("\"other\"").send().await.unwrap();
    let error = get().if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(code_of(&error), "PreconditionFailed");
    let error = get().if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 304);
    let future = DateTime::from_secs(4_000_000_000);
    let error = get().if_modified_since(future).send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 304);
    let error = get().if_unmodified_since(DateTime::from_secs(1)).send().await.unwrap_err();
    assert_eq!(code_of(&error), "PreconditionFailed");
}

#[tokio::test]
async fn a_presigned_get_overrides_headers_of_the_response() {
    let s3 = start().await;
    s3.put("k", b"x").await;
    let get = s3.client.get_object().bucket(BUCKET).key("k");
    let get = get.response_content_type("text/plain").response_content_disposition("inline");
    let response = s3.send(&get.presigned(for_a_minute()).await.unwrap(), &[], "").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "text/plain");
    assert_eq!(response.header("content-disposition"), "inline");
    assert!(!response.header("date").is_empty());
    assert!(!response.header("last-modified").is_empty());
    assert!(!response.header("x-amz-request-id").is_empty());
}

#[tokio::test]
async fn a_reader_can_read_to_the_end_while_its_object_is_replaced() {
    let s3 = start().await;
    let old: Vec<u8> = vec![1; 8 * MIB];
    let put = s3.client.put_object().bucket(BUCKET).key("k").body(old.clone().into());
    put.send().await.unwrap();
    let get = s3.client.get_object().bucket(BUCKET).key("k");
    let get = get.presigned(for_a_minute()).await.unwrap();
    let mut stream = s3.http.get(get.uri()).send().await.unwrap().bytes_stream();
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    s3.put("k", b"new").await;
    s3.client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    while let Some(chunk) = stream.next().await {
        read.extend(chunk.unwrap());
    }
    assert!(read == old);
    assert_eq!(s3.files(), (0, 0));
}

#[tokio::test]
async fn many_objects_are_deleted_at_once_and_absent_ones_count_as_deleted() {
    let s3 = start().await;
    for key in ["a", "b", "c"] {
        s3.put(key, b"x").await;
    }
    let id = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let delete = Delete::builder().objects(id("a")).objects(id("b")).objects(id("absent"));
    let request = s3.client.delete_objects().bucket(BUCKET).delete(delete.build().unwrap());
    let output = request.send().await.unwrap();
    assert_eq!(output.deleted().len(), 3);
    assert!(output.errors().is_empty());
    assert_eq!(s3.read("a").await, None);
    assert_eq!(s3.read("c").await.as_deref(), Some(&b"x"[..]));
    assert_eq!(s3.files(), (1, 0));
}

#[tokio::test]
async fn a_copy_has_the_metadata_of_its_source_or_of_its_request() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("from me+%").body(b"x".to_vec().into());
    let put = put.content_type("audio/flac").metadata("a", "1");
    let etag = put.send().await.unwrap().e_tag.unwrap();
    let copy = |to: &str| {
        let copy = s3.client.copy_object().bucket(BUCKET).key(to);
        copy.copy_source(format!("{BUCKET}/from%20me%2B%25"))
    };
    let copied = copy("same").send().await.unwrap().copy_object_result.unwrap();
    assert_eq!(copied.e_tag(), Some(etag.as_str()));
    let head = s3.client.head_object().bucket(BUCKET).key("same").send().await.unwrap();
    assert_eq!(head.content_type(), Some("audio/flac"));
    assert_eq!(head.metadata(), Some(&HashMap::from([("a".to_owned(), "1".to_owned())])));
    let replace = copy("other").metadata_directive(MetadataDirective::Replace);
    replace.content_type("text/plain").send().await.unwrap();
    let head = s3.client.head_object().bucket(BUCKET).key("other").send().await.unwrap();
    assert_eq!(head.content_type(), Some("text/plain"));
    assert_eq!(code_of(&copy("from me+%").send().await.unwrap_err()), "InvalidRequest");
}

#[tokio::test]
async fn buckets_are_created_listed_and_deleted_only_when_empty() {
    let s3 = start().await;
    s3.client.create_bucket().bucket("another").send().await.unwrap();
    let error = s3.client.create_bucket().bucket("another").send().await.unwrap_err();
    assert_eq!(code_of(&error), "BucketAlreadyOwnedByYou");
    let listed = s3.client.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed.buckets().iter().filter_map(|bucket| bucket.name()).collect();
    assert_eq!(names, ["another", BUCKET]);
    let location = s3.client.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(location.location_constraint().map(BucketLocationConstraint::as_str), Some(REGION));
    s3.client.head_bucket().bucket("another").send().await.unwrap();

    let put = s3.client.put_object().bucket("another").key("k").body(b"x".to_vec().into());
    put.send().await.unwrap();
    let error = s3.client.delete_bucket().bucket("another").send().await.unwrap_err();
    assert_eq!(code_of(&error), "BucketNotEmpty");
    s3.client.delete_object().bucket("another").key("k").send().await.unwrap();
    s3.client.create_multipart_upload().bucket("another").key("k").send().await.unwrap();
    s3.client.delete_bucket().bucket("another").send().await.unwrap();
    assert!(s3.client.head_bucket().bucket("another").send().await.is_err());
}

#[tokio::test]
async fn missing_keys_buckets_and_cors_rules_have_the_error_codes_of_s3() {
    let s3 = start().await;
    let get = s3.client.get_object().bucket(BUCKET).key("absent").send().await.unwrap_err();
    assert_eq!(code_of(&get), "NoSuchKey");
    let get = s3.client.get_object().bucket("no-such").key("k").send().await.unwrap_err();
    assert_eq!(code_of(&get), "NoSuchBucket");
    let put = s3.client.put_object().bucket("no-such").key("k").body(b"x".to_vec().into());
    assert_eq!(code_of(&put.send().await.unwrap_err()), "NoSuchBucket");
    let list = s3.client.list_objects_v2().bucket("no-such").send().await.unwrap_err();
    assert_eq!(code_of(&list), "NoSuchBucket");
    let cors = s3.client.get_bucket_cors().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(code_of(&cors), "NoSuchCORSConfiguration");
}

#[tokio::test]
async fn a_bucket_can_be_addressed_by_its_host_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.host_domain = Some("s3.example.test".to_owned());
    let server = EmbeddedS3::start(config).await.unwrap();
    let put = client(&server.url()).put_object().bucket(BUCKET).key("k");
    put.body(b"x".to_vec().into()).send().await.unwrap();

    let domain = format!("http://s3.example.test:{}", server.addr().port());
    let by_host = client_config(&domain, SECRET_KEY).force_path_style(false).build();
    let get = aws_sdk_s3::Client::from_conf(by_host).get_object().bucket(BUCKET).key("k");
    let get = get.presigned(for_a_minute()).await.unwrap();
    let host = format!("{BUCKET}.s3.example.test");
    assert!(get.uri().starts_with(&format!("http://{host}:")), "{}", get.uri());
    let http = reqwest::Client::builder().resolve(&host, server.addr()).build().unwrap();
    let response = TestResponse::of(http.get(get.uri()).send().await.unwrap()).await;
    assert_eq!((response.status, response.body.as_str()), (200, "x"));
}

#[tokio::test]
async fn a_cors_configuration_is_stored_until_it_is_deleted() {
    let s3 = start().await;
    let rule = CorsRule::builder().allowed_methods("PUT").allowed_origins("https://app.test");
    let rule = rule.allowed_headers("*").max_age_seconds(7).build().unwrap();
    let cors = CorsConfiguration::builder().cors_rules(rule.clone()).build().unwrap();
    s3.client.put_bucket_cors().bucket(BUCKET).cors_configuration(cors).send().await.unwrap();
    let got = s3.client.get_bucket_cors().bucket(BUCKET).send().await.unwrap();
    assert_eq!(got.cors_rules()[0].allowed_origins(), rule.allowed_origins());
    assert_eq!(got.cors_rules()[0].max_age_seconds(), Some(7));
    s3.client.delete_bucket_cors().bucket(BUCKET).send().await.unwrap();
    let error = s3.client.get_bucket_cors().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(code_of(&error), "NoSuchCORSConfiguration");
}
