//! The content of every error, and requests that are refused because a setting would have no
//! effect.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{ObjectCannedAcl, ServerSideEncryption, StorageClass};
use reqwest::Method;

use super::support::{
    BUCKET, REGION, SECRET_KEY, TestResponse, client_config, code_of, for_a_minute, start,
};

#[tokio::test]
async fn the_refusal_of_a_signature_for_another_region_names_the_right_region() {
    let s3 = start().await;
    let config = client_config(&s3.server.url(), SECRET_KEY).region(Region::new("mars-1"));
    let client = Client::from_conf(config.build());
    let error = client.list_objects_v2().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(code_of(&error), "AuthorizationHeaderMalformed");
    let raw = error.raw_response().unwrap();
    assert_eq!(raw.headers().get("x-amz-bucket-region"), Some(REGION));
    let body = String::from_utf8_lossy(raw.body().bytes().unwrap()).into_owned();
    assert!(body.contains(&format!("<Region>{REGION}</Region>")), "{body}");
    let minute = PresigningConfig::expires_in(Duration::from_mins(1)).unwrap();
    let put = client.put_object().bucket(BUCKET).key("k").presigned(minute).await.unwrap();
    let response = s3.send(&put, &[], "x").await;
    response.refused(400, "AuthorizationQueryParametersError");
    assert!(response.body.contains(&format!("<Region>{REGION}</Region>")), "{}", response.body);
}

#[tokio::test]
async fn every_refusal_has_a_message_and_the_id_of_its_request() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let base = s3.server.url();
    let long = "k".repeat(1025);
    let mut responses = Vec::new();
    for (method, url) in [
        (Method::GET, format!("{base}/{BUCKET}/k")),
        (Method::PUT, format!("{base}/{BUCKET}/k")),
        (Method::GET, format!("{base}/{BUCKET}/%ff")),
        (Method::GET, format!("{base}/No_Bucket/k")),
        (Method::GET, format!("{base}/{BUCKET}/{long}")),
        (Method::PATCH, format!("{base}/{BUCKET}/k")),
        (Method::POST, put.uri().to_owned()),
        (Method::DELETE, put.uri().to_owned()),
        (Method::GET, put.uri().replace("X-Amz-Date", "X-Amz-Other")),
        (Method::GET, put.uri().replace("/k?", "/k?versionId=a&")),
        (Method::PUT, put.uri().replace("X-Amz-Expires=60", "X-Amz-Expires=x")),
    ] {
        let sent = s3.http.request(method.clone(), &url).body("body").send().await.unwrap();
        responses.push((format!("{method} {url}"), TestResponse::of(sent).await));
    }
    let form =
        s3.http.post(format!("{base}/{BUCKET}")).header("content-type", "multipart/form-data");
    responses
        .push(("a form".to_owned(), TestResponse::of(form.body("x").send().await.unwrap()).await));
    for (what, response) in &responses {
        assert!((400..600).contains(&response.status), "{what}: {response:?}");
        let text = |tag: &str| {
            let remaining = response
                .body
                .split_once(&format!("<{tag}>"))
                .map_or("", |(_, remaining)| remaining);
            remaining.split_once("</").map_or("", |(text, _)| text).to_owned()
        };
        assert!(!text("Code").is_empty() && text("Message").len() > 5, "{what}: {}", response.body);
        assert_eq!(
            text("RequestId"),
            response.header("x-amz-request-id"),
            "{what}: {}",
            response.body
        );
    }
}

#[tokio::test]
async fn settings_that_would_have_no_effect_are_refused() {
    let s3 = start().await;
    let put = || s3.client.put_object().bucket(BUCKET).key("k");
    for put in [
        put().tagging("a=b"),
        put().acl(ObjectCannedAcl::PublicRead),
        put().grant_read("uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
        put().server_side_encryption(ServerSideEncryption::Aes256),
        put().ssekms_key_id("key"),
        put().storage_class(StorageClass::StandardIa),
        put().website_redirect_location("/x"),
    ] {
        let presigned = put.presigned(for_a_minute()).await.unwrap();
        s3.send(&presigned, &[], "x").await.refused(501, "NotImplemented");
    }
    assert_eq!(s3.read("k").await, None);
    let create = s3.client.create_multipart_upload().bucket(BUCKET).key("k").tagging("a=b");
    assert_eq!(code_of(&create.send().await.unwrap_err()), "NotImplemented");
    s3.put("source", b"x").await;
    let copy =
        s3.client.copy_object().bucket(BUCKET).key("k").copy_source(format!("{BUCKET}/source"));
    let copy = copy.server_side_encryption(ServerSideEncryption::Aes256);
    assert_eq!(code_of(&copy.send().await.unwrap_err()), "NotImplemented");
    let bucket = s3.client.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true);
    assert_eq!(code_of(&bucket.send().await.unwrap_err()), "NotImplemented");
    // The defaults of S3 are accepted.
    let plain = put().acl(ObjectCannedAcl::Private).storage_class(StorageClass::Standard);
    plain.body(b"x".to_vec().into()).send().await.unwrap();
}

#[tokio::test]
async fn the_versioning_of_a_bucket_is_reported_as_never_enabled() {
    let s3 = start().await;
    let got = s3.client.get_bucket_versioning().bucket(BUCKET).send().await.unwrap();
    assert_eq!(got.status(), None);
    let missing = s3.client.get_bucket_versioning().bucket("nothing-here").send().await;
    assert_eq!(code_of(&missing.unwrap_err()), "NoSuchBucket");
}
