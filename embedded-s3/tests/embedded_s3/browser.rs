//! Requests that only browsers send: preflight requests, cross-origin requests and forms.

use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Duration, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha2::Sha256;

use super::support::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, TestResponse, TestServer, start};

const ORIGIN: &str = "https://app.test";

async fn preflight(s3: &TestServer, origin: &str, method: &str, headers: &str) -> TestResponse {
    let url = format!("{}/{BUCKET}/k?X-Amz-Signature=whatever", s3.server.url());
    let request = s3.http.request(Method::OPTIONS, url).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    TestResponse::of(
        request.header("access-control-request-headers", headers).send().await.unwrap(),
    )
    .await
}

async fn configure(s3: &TestServer) {
    let rule = CorsRule::builder().allowed_origins("https://*.test").allowed_methods("PUT");
    let rule = rule.allowed_headers("content-type").allowed_headers("x-amz-*");
    let rule = rule.expose_headers("x-custom").max_age_seconds(7).build().unwrap();
    let cors = CorsConfiguration::builder().cors_rules(rule).build().unwrap();
    s3.client.put_bucket_cors().bucket(BUCKET).cors_configuration(cors).send().await.unwrap();
}

#[tokio::test]
async fn a_bucket_without_cors_rules_allows_preflights_from_any_origin() {
    let s3 = start().await;
    let response = preflight(&s3, ORIGIN, "PUT", "content-type,x-amz-checksum-sha256").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), "*");
    assert!(response.header("access-control-allow-methods").contains("PUT"));
    assert!(response.header("access-control-allow-headers").contains("x-amz-checksum-sha256"));
}

#[tokio::test]
async fn a_bucket_with_cors_rules_allows_only_requests_that_match_them() {
    let s3 = start().await;
    configure(&s3).await;
    let response = preflight(&s3, ORIGIN, "PUT", "Content-Type, x-amz-checksum-sha256").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(response.header("access-control-max-age"), "7");
    assert_eq!(response.header("vary"), "Origin");
    for (origin, method, headers) in [
        ("https://evil.example", "PUT", ""),
        (ORIGIN, "DELETE", ""),
        (ORIGIN, "PUT", "authorization"),
    ] {
        let response = preflight(&s3, origin, method, headers).await;
        assert_eq!(response.status, 403);
        assert_eq!(response.header("access-control-allow-origin"), "");
    }
}

#[tokio::test]
async fn every_response_has_cors_headers_even_a_refusal() {
    let s3 = start().await;
    let put = s3.presigned_put("k").await;
    let origin = ("origin", ORIGIN);
    let accepted = s3.send(&put, &[origin], "x").await;
    let refused = s3.send(&put, &[origin, ("x-amz-meta-a", "b")], "x").await;
    assert_eq!((accepted.status, refused.status), (200, 403));
    for response in [&accepted, &refused] {
        assert_eq!(response.header("access-control-allow-origin"), "*");
        let exposed = response.header("access-control-expose-headers");
        for name in ["ETag", "x-amz-request-id", "x-amz-version-id", "x-amz-checksum-sha256"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    configure(&s3).await;
    let response = s3.send(&put, &[origin], "x").await;
    assert_eq!(response.header("access-control-allow-origin"), ORIGIN);
    assert!(response.header("access-control-expose-headers").contains("x-custom"));
    let response = s3.send(&put, &[("origin", "https://evil.example")], "x").await;
    assert_eq!(response.header("access-control-allow-origin"), "");
}

/// A form that is signed as a back end would sign it.
struct Signed {
    fields: Vec<(String, String)>,
}

#[expect(clippy::disallowed_methods, reason = "the server checks against the real time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

impl Signed {
    fn new(signed_at: DateTime<Utc>, expires: DateTime<Utc>, region: &str, more: &[Value]) -> Self {
        let day = signed_at.format("%Y%m%d").to_string();
        let credential = format!("{ACCESS_KEY}/{day}/{region}/s3/aws4_request");
        let date = signed_at.format("%Y%m%dT%H%M%SZ").to_string();
        let mut conditions = vec![
            json!({"bucket": BUCKET}),
            json!(["starts-with", "$key", "in/"]),
            json!(["content-length-range", 1, 10]),
            json!(["starts-with", "$Content-Type", "audio/"]),
            json!({"x-amz-algorithm": "AWS4-HMAC-SHA256"}),
            json!({"x-amz-credential": credential}),
            json!({"x-amz-date": date}),
        ];
        conditions.extend_from_slice(more);
        let expiration = expires.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let policy = json!({"expiration": expiration, "conditions": conditions});
        let policy = BASE64_STANDARD.encode(policy.to_string());
        let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
        for step in [day.as_str(), region, "s3", "aws4_request"] {
            key = hmac(&key, step);
        }
        let fields = [
            ("key", "in/${filename}".replace("${filename}", "track")),
            ("Content-Type", "audio/flac".to_owned()),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential", credential),
            ("x-amz-date", date),
            ("policy", policy.clone()),
            ("x-amz-signature", hex::encode(hmac(&key, &policy))),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { fields }
    }

    fn usual() -> Self {
        Self::new(now(), now() + Duration::minutes(5), REGION, &[])
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(other, _)| other != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    async fn send(self, s3: &TestServer, file: &'static [u8]) -> TestResponse {
        let mut form = Form::new();
        for (name, value) in self.fields {
            form = form.text(name, value);
        }
        let form = form.part("file", Part::bytes(file).file_name("track.flac"));
        let url = format!("{}/{BUCKET}", s3.server.url());
        let request = s3.http.post(url).header("origin", ORIGIN).multipart(form);
        TestResponse::of(request.send().await.unwrap()).await
    }
}

#[tokio::test]
async fn a_form_that_complies_with_its_policy_is_stored() {
    let s3 = start().await;
    let response = Signed::usual().send(&s3, b"music").await;
    assert_eq!(response.status, 204, "{}", response.body);
    assert_eq!(response.header("access-control-allow-origin"), "*");
    assert_eq!(s3.read("in/track").await.as_deref(), Some(&b"music"[..]));
    let head = s3.client.head_object().bucket(BUCKET).key("in/track").send().await.unwrap();
    assert_eq!(head.content_type(), Some("audio/flac"));
    assert_eq!(head.e_tag(), Some(response.header("etag")));
}

#[tokio::test]
async fn success_action_status_sets_the_status_of_a_forms_response() {
    let s3 = start().await;
    for (status, expected) in [("200", 200), ("201", 201), ("204", 204), ("999", 204)] {
        let condition = json!({"success_action_status": status});
        let form = Signed::new(now(), now() + Duration::minutes(5), REGION, &[condition]);
        let response = form.set("success_action_status", status).send(&s3, b"music").await;
        assert_eq!(response.status, expected, "{}", response.body);
        assert_eq!(response.body.contains("<Key>in/track</Key>"), expected == 201);
    }
}

#[tokio::test]
async fn a_form_that_breaks_its_policy_is_refused() {
    let s3 = start().await;
    let expired = Signed::new(now(), now() - Duration::minutes(5), REGION, &[]);
    let elsewhere = Signed::new(now(), now() + Duration::minutes(5), "us-east-1", &[]);
    for (what, form, file) in [
        ("too long", Signed::usual(), &b"much more music"[..]),
        ("too short", Signed::usual(), b""),
        ("key", Signed::usual().set("key", "out/track"), b"music"),
        ("type", Signed::usual().set("Content-Type", "text/html"), b"music"),
        ("a field without a condition", Signed::usual().set("x-amz-meta-a", "b"), b"music"),
        ("signature", Signed::usual().set("x-amz-signature", &"0".repeat(64)), b"music"),
        ("expired", expired, b"music"),
        ("region", elsewhere, b"music"),
    ] {
        let response = form.send(&s3, file).await;
        assert!((400..500).contains(&response.status), "{what}: {response:?}");
        assert!(!response.code().is_empty(), "{what}");
    }
    assert_eq!(s3.files(), (0, 0));
}

#[tokio::test]
async fn a_form_is_valid_until_its_policy_expires_even_if_it_was_signed_hours_ago() {
    let s3 = start().await;
    let signed_at = now() - Duration::hours(2);
    let form = Signed::new(signed_at, now() + Duration::minutes(5), REGION, &[]);
    let response = form.send(&s3, b"music").await;
    assert_eq!(response.status, 204, "{}", response.body);
}

#[tokio::test]
async fn a_form_without_a_signature_is_refused() {
    let s3 = start().await;
    let mut form = Signed::usual();
    form.fields.retain(|(name, _)| name == "key");
    form.send(&s3, b"music").await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn a_forms_key_may_contain_the_file_name_and_the_response_has_the_location() {
    let s3 = start().await;
    let address = format!("{}/{BUCKET}/in/a/track.flac", s3.server.url());
    for status in ["200", "201", "204"] {
        let condition = json!({"success_action_status": status});
        let form = Signed::new(now(), now() + Duration::minutes(5), REGION, &[condition]);
        let form = form.set("success_action_status", status).set("key", "in/a/${filename}");
        let response = form.send(&s3, b"music").await;
        assert_eq!(response.status.to_string(), status, "{}", response.body);
        assert_eq!(response.header("location"), address);
        let location = format!("<Location>{address}</Location>");
        assert_eq!(response.body.contains(&location), status == "201", "{}", response.body);
        assert_eq!(response.body.contains("<Key>in/a/track.flac</Key>"), status == "201");
    }
    assert_eq!(s3.read("in/a/track.flac").await.as_deref(), Some(&b"music"[..]));
    assert_eq!(s3.read("in/a/${filename}").await, None);

    let page = "https://app.test/done?key=mine";
    let condition = json!({"success_action_redirect": page});
    let form = Signed::new(now(), now() + Duration::minutes(5), REGION, &[condition]);
    let form = form.set("success_action_redirect", page).set("key", "in/${filename}");
    let response = form.send(&s3, b"music").await;
    assert_eq!(response.status, 303, "{}", response.body);
    let target = response.header("location");
    assert!(target.starts_with("https://app.test/done?key=mine&bucket="), "{target}");
    assert!(target.contains("&key=in%2Ftrack.flac&"), "{target}");
}

#[tokio::test]
async fn fields_of_a_form_that_would_have_no_effect_are_refused() {
    let s3 = start().await;
    for (name, value) in [("acl", "public-read"), ("tagging", "<Tagging></Tagging>")] {
        let form =
            Signed::new(now(), now() + Duration::minutes(5), REGION, &[json!({name: value})]);
        // Fields after the file are ignored, so the field comes first.
        let mut form = form.set(name, value);
        form.fields.rotate_right(1);
        form.send(&s3, b"music").await.refused(501, "NotImplemented");
    }
    let form =
        Signed::new(now(), now() + Duration::minutes(5), REGION, &[json!({"acl": "private"})]);
    assert_eq!(form.set("acl", "private").send(&s3, b"music").await.status, 204);
}
