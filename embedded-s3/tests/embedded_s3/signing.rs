use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;

use super::support::{
    ACCESS_KEY, BUCKET, TestResponse, client_config, code_of, for_a_minute, start,
};

#[tokio::test]
async fn a_presigned_put_works_as_signed() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let response = s3.send(&put, &[], "music").await;
    assert_eq!(response.status, 200, "{}", response.body);
    assert!(response.header("etag").starts_with('"'));
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"music"[..]));
}

#[tokio::test]
async fn a_presigned_url_for_another_key_or_method_is_refused() {
    let s3 = start().await;
    s3.put("k", b"old").await;
    let put = s3.presigned_put("k").await;
    let other = put.uri().replace("/k?", "/other?");
    let response = TestResponse::of(s3.http.put(&other).body("x").send().await.unwrap()).await;
    response.refused(403, "SignatureDoesNotMatch");
    let response = TestResponse::of(s3.http.delete(put.uri()).send().await.unwrap()).await;
    response.refused(403, "SignatureDoesNotMatch");
    let response = TestResponse::of(s3.http.get(put.uri()).send().await.unwrap()).await;
    response.refused(403, "SignatureDoesNotMatch");
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(s3.read("other").await, None);
}

#[tokio::test]
async fn a_signed_header_that_is_missing_or_changed_is_refused() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("k").if_none_match("*");
    let put = put.metadata("a", "1").presigned(for_a_minute()).await.unwrap();
    s3.send(&put, &[("x-amz-meta-a", "2")], "x").await.refused(403, "SignatureDoesNotMatch");
    let bare = s3.http.put(put.uri()).body("x").send().await.unwrap();
    TestResponse::of(bare).await.refused(403, "SignatureDoesNotMatch");
    assert_eq!(s3.send(&put, &[], "x").await.status, 200);
    s3.send(&put, &[], "x").await.refused(412, "PreconditionFailed");
}

#[tokio::test]
async fn an_amz_header_that_was_not_signed_is_refused() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    for name in ["x-amz-meta-sneaked", "x-amz-acl", "x-amz-tagging"] {
        s3.send(&put, &[(name, "x")], "music").await.refused(403, "AccessDenied");
    }
    assert_eq!(s3.read("k").await, None);
}

#[tokio::test]
async fn an_expired_url_is_refused() {
    let s3 = start().await;
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let config = PresigningConfig::builder().start_time(begin);
    let config = config.expires_in(Duration::from_mins(1)).build().unwrap();
    let put = s3.client.put_object().bucket(BUCKET).key("k").presigned(config).await.unwrap();
    s3.send(&put, &[], "x").await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn a_url_from_the_far_future_is_refused() {
    let s3 = start().await;
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let config = PresigningConfig::builder().start_time(begin);
    let config = config.expires_in(Duration::from_mins(1)).build().unwrap();
    let put = s3.client.put_object().bucket(BUCKET).key("k").presigned(config).await.unwrap();
    s3.send(&put, &[], "x").await.refused(403, "RequestTimeTooSkewed");
}

#[tokio::test]
async fn a_lifetime_of_more_than_seven_days_is_refused() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    for expires in ["604801", "-1", "soon", ""] {
        let uri = put.uri().replace("X-Amz-Expires=60", &format!("X-Amz-Expires={expires}"));
        let response = TestResponse::of(s3.http.put(&uri).body("x").send().await.unwrap()).await;
        response.refused(400, "AuthorizationQueryParametersError");
    }
    // A lifetime of exactly seven days is allowed, so only the changed signature is refused.
    let uri = put.uri().replace("X-Amz-Expires=60", "X-Amz-Expires=604800");
    let response = TestResponse::of(s3.http.put(&uri).body("x").send().await.unwrap()).await;
    response.refused(403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn another_region_another_key_and_another_secret_are_refused() {
    let s3 = start().await;
    let url = s3.server.url();
    let list = |config: aws_sdk_s3::config::Builder| {
        Client::from_conf(config.build()).list_objects_v2().bucket(BUCKET).send()
    };
    let error = list(client_config(&url, "wrong")).await.unwrap_err();
    assert_eq!(code_of(&error), "SignatureDoesNotMatch");
    let region = aws_sdk_s3::config::Region::new("us-east-1");
    let right = super::support::SECRET_KEY;
    let error = list(client_config(&url, right).region(region)).await.unwrap_err();
    assert_eq!(code_of(&error), "AuthorizationHeaderMalformed");
    let nobody = aws_sdk_s3::config::Credentials::new("NOBODY", right, None, None, "test");
    let config = client_config(&url, right).credentials_provider(nobody);
    assert_eq!(code_of(&list(config).await.unwrap_err()), "InvalidAccessKeyId");
}

#[tokio::test]
async fn anonymous_requests_are_refused() {
    let s3 = start().await;
    s3.put("k", b"x").await;
    let url = format!("{}/{BUCKET}/k", s3.server.url());
    for request in [s3.http.get(&url), s3.http.put(&url).body("y"), s3.http.delete(&url)] {
        TestResponse::of(request.send().await.unwrap()).await.refused(403, "AccessDenied");
    }
    let response = TestResponse::of(s3.http.get(s3.server.url()).send().await.unwrap()).await;
    response.refused(403, "AccessDenied");
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn signature_version_2_is_refused() {
    let s3 = start().await;
    let query = format!("AWSAccessKeyId={ACCESS_KEY}&Expires=4000000000&Signature=x");
    let url = format!("{}/{BUCKET}/k?{query}", s3.server.url());
    TestResponse::of(s3.http.get(url).send().await.unwrap()).await.refused(400, "InvalidRequest");
}

#[tokio::test]
async fn the_client_receives_the_refusal_of_a_large_body() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let uri = put.uri().replace("/k?", "/other?");
    let body = vec![0_u8; 32 * super::support::MIB];
    let response = TestResponse::of(s3.http.put(&uri).body(body).send().await.unwrap()).await;
    response.refused(403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn a_body_that_differs_from_the_signed_payload_hash_is_refused_and_the_old_object_remains() {
    use aws_sdk_s3::config::http::HttpRequest;
    use aws_sdk_s3::primitives::SdkBody;

    let s3 = start().await;
    s3.put("k", b"old").await;
    // The body is replaced after the request is signed with its hash.
    let put = s3.client.put_object().bucket(BUCKET).key("k").body(b"music".to_vec().into());
    let error = put
        .customize()
        .interceptor(AfterSigning(|request: &mut HttpRequest| {
            *request.body_mut() = SdkBody::from("magic");
        }))
        .send()
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), "XAmzContentSHA256Mismatch");
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(s3.files(), (1, 0));
}

#[derive(Debug)]
struct AfterSigning(fn(&mut aws_sdk_s3::config::http::HttpRequest));

impl aws_sdk_s3::config::Intercept for AfterSigning {
    fn name(&self) -> &'static str {
        "after signing"
    }

    fn modify_before_transmit(
        &self,
        context: &mut aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut<'_>,
        _: &aws_sdk_s3::config::RuntimeComponents,
        _: &mut aws_sdk_s3::config::ConfigBag,
    ) -> Result<(), aws_sdk_s3::error::BoxError> {
        self.0(context.request_mut());
        Ok(())
    }
}
