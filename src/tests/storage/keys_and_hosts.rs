//! Temporary access keys, and the bucket as a part of the host name.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use chrono::TimeDelta;
use secrecy::ExposeSecret as _;
use upload_coordinator::net::http_client;
use upload_coordinator::storage::ObjectStore as _;
use upload_coordinator::storage::s3::{S3, S3Credentials, S3Settings};
use upload_coordinator::storage::signer::{GetRequest, PutRequest, Signer as _};

use super::servers::{Kind, Subject, now};

const HOUR: TimeDelta = TimeDelta::hours(1);
const FORM: &str = "application/x-www-form-urlencoded";

/// Temporary credentials from the store's own STS (`AssumeRole`).
async fn assume_role(on: &Subject) -> S3Credentials {
    let settings = on.settings.clone().unwrap();
    let S3Credentials::Static { access_key_id, secret_access_key, .. } = settings.credentials
    else {
        panic!("tests have keys of their own")
    };
    let url = settings.endpoint.unwrap().to_string();
    let keys = Credentials::new(access_key_id, secret_access_key.expose_secret(), None, None, "");
    let identity = keys.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&settings.region)
        .name("sts")
        .time(SystemTime::from(now()))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let body = "Action=AssumeRole&Version=2011-06-15&DurationSeconds=900";
    let headers = [("content-type", FORM)];
    let signable = SignableRequest::new(
        "POST",
        &url,
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    );
    let (signature, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let mut request = http::Request::post(&url).header("content-type", FORM).body(body).unwrap();
    signature.apply_to_request_http1x(&mut request);
    let response = on.http().execute(request.try_into().unwrap()).await.unwrap();
    let response = response.text().await.unwrap();
    let field = |name: &str| {
        let remaining = response.split_once(&format!("<{name}>")).expect(&response).1;
        remaining.split_once("</").unwrap().0.to_owned()
    };
    S3Credentials::Static {
        access_key_id: field("AccessKeyId"),
        secret_access_key: field("SecretAccessKey").into(),
        session_token: Some(field("SessionToken").into()),
    }
}

#[tokio::test]
async fn a_session_token_is_part_of_what_is_signed() {
    let on = Subject::server().await;
    if on.kind != Kind::Minio {
        return; // the others have no STS
    }
    let settings =
        S3Settings { credentials: assume_role(&on).await, ..on.settings.clone().unwrap() };
    let s3 = S3::connect(&settings, &http_client()).await.unwrap();
    let key = on.key("object");
    let put = s3.presigner().put(&key, &PutRequest::default(), now(), HOUR).await.unwrap();
    assert!(put.url.contains("&X-Amz-Security-Token="));
    assert!(on.send(&put, b"abc").await.status().is_success());
    let mut without = put.clone();
    let (before, token) = put.url.split_once("&X-Amz-Security-Token=").unwrap();
    let after = token.split_once('&').map_or("", |(_, after)| after);
    without.url = format!("{before}&{after}");
    assert!(on.send(&without, b"abc").await.status().is_client_error());
    assert_eq!(s3.head(&key).await.unwrap().unwrap().size, 3);
    on.clean_up().await;
}

#[cfg(feature = "embedded-s3")]
#[tokio::test]
async fn the_bucket_may_be_a_host() {
    use embedded_s3::{EmbeddedS3, EmbeddedS3Config, Limits};
    let folder = tempfile::tempdir().unwrap();
    let server = EmbeddedS3::start(EmbeddedS3Config {
        data_dir: folder.path().to_owned(),
        bind: ([127, 0, 0, 1], 0).into(),
        region: "eu-central-1".into(),
        access_key_id: "key".into(),
        secret_access_key: "secret-of-the-key".into(),
        buckets: vec!["music".into()],
        host_domain: Some("s3.example.test".into()),
        limits: Limits::default(),
        refuse_conditions: false,
    })
    .await
    .unwrap();
    let endpoint = format!("http://s3.example.test:{}", server.addr().port());
    let credentials = S3Credentials::Static {
        access_key_id: "key".into(),
        secret_access_key: "secret-of-the-key".into(),
        session_token: None,
    };
    let settings = S3Settings {
        path_style: false,
        ..S3Settings::new(Some(endpoint.parse().unwrap()), "eu-central-1", "music", credentials)
    };
    let s3 = S3::connect(&settings, &http_client()).await.unwrap();
    let host = "music.s3.example.test";
    let http = reqwest::Client::builder().no_proxy().resolve(host, server.addr()).build().unwrap();
    for key in ["object", "a b/100%/ü+=&;", "it's (x)*!~,:@$"] {
        let put = s3.presigner().put(key, &PutRequest::default(), now(), HOUR).await.unwrap();
        assert!(put.url.starts_with(&format!("http://{host}:")), "{}", put.url);
        let sent = http.put(&put.url).body("abc").send().await.unwrap();
        assert!(sent.status().is_success(), "{key}");
        let get = s3.presigner().get(key, &GetRequest::default(), now(), HOUR).await.unwrap();
        assert_eq!(http.get(&get.url).send().await.unwrap().text().await.unwrap(), "abc", "{key}");
    }
    server.shutdown().await;
}
