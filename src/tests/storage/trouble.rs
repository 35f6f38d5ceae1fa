//! A server that returns prepared responses, and how the client handles them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use upload_coordinator::net::http_client;
use upload_coordinator::storage::cause::Cause;
use upload_coordinator::storage::s3::{S3, S3Credentials, S3Settings, Timeouts};
use upload_coordinator::storage::{ListRequest, ObjectStore as _, StoreError};
use upload_coordinator::telemetry::chain;

use super::servers::Subject;
use crate::support::failing_proxy::{FailingProxy, Failure};

const SLOW_DOWN: &str = "503 Slow Down\r\n\r\n<Error><Code>SlowDown</Code></Error>";
const ETAG: &str = "200 OK\r\nETag: \"e\"\r\nContent-Length: 3\r\n\r\n";

/// Returns the n-th text as the response to the n-th request, and the last text to all later
/// requests. For an empty text, the connection stays open without a response.
async fn server(responses: Vec<&'static str>) -> (S3, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            let response = responses[n.min(responses.len() - 1)];
            let _ = stream.read(&mut [0; 8192]).await;
            if response.is_empty() {
                held.push(stream);
            } else {
                let response = response.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let _ = stream.write_all(format!("HTTP/1.1 {response}").as_bytes()).await;
            }
        }
    });
    let credentials = S3Credentials::Static {
        access_key_id: "a".into(),
        secret_access_key: "b".into(),
        session_token: None,
    };
    let settings = S3Settings {
        timeouts: Timeouts { attempt: Duration::from_millis(200), ..Timeouts::default() },
        ..S3Settings::new(Some(endpoint), "us-east-1", "music", credentials)
    };
    (S3::connect(&settings, &http_client()).await.unwrap(), count)
}

#[tokio::test]
async fn a_throttled_call_is_tried_again() {
    let (s3, count) = server(vec![SLOW_DOWN, "500 Internal Server Error\r\n\r\n", ETAG]).await;
    assert_eq!(s3.head("k").await.unwrap().unwrap().etag, "e");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_call_is_given_up_after_its_attempts() {
    let (s3, count) = server(vec![SLOW_DOWN]).await;
    let listed = s3.list(&ListRequest::default()).await;
    assert!(matches!(listed, Err(StoreError::Unavailable(_))), "{listed:?}");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_server_that_does_not_respond_is_left_and_tried_again() {
    let (s3, count) = server(vec!["", ETAG]).await;
    assert!(s3.head("k").await.unwrap().is_some());
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let (s3, _) = server(vec![""]).await;
    assert!(matches!(s3.head("k").await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let (s3, count) = server(vec!["403 Forbidden\r\n\r\n"]).await;
    assert!(matches!(s3.head("k").await, Err(StoreError::AccessDenied(_))));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_web_page_is_no_listing() {
    let (s3, _) = server(vec!["200 OK\r\n\r\n<html><body>Welcome</body></html>"]).await;
    let listed = s3.list(&ListRequest::default()).await;
    assert!(matches!(listed, Err(StoreError::Protocol(_))), "{listed:?}");
}

#[tokio::test]
async fn an_object_without_an_etag_breaks_the_protocol() {
    let (s3, _) = server(vec!["200 OK\r\nContent-Length: 3\r\n\r\n"]).await;
    assert!(matches!(s3.head("k").await, Err(StoreError::Protocol(_))));
}

#[tokio::test]
async fn a_listing_that_never_ends_is_seen() {
    let page = "200 OK\r\n\r\n<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    let (s3, _) = server(vec![page]).await;
    let first = s3.list(&ListRequest::default()).await.unwrap();
    let second = s3.list(&ListRequest { token: first.next, ..ListRequest::default() }).await;
    assert!(matches!(second, Err(StoreError::Protocol(_))), "{second:?}");
}

#[tokio::test]
async fn each_failure_of_the_wire_shows_as_what_it_is() {
    let server = Subject::server().await;
    for n in 0..5 {
        server.put(&server.key(&format!("{n}")), b"bytes").await;
    }
    let Some(settings) = server.settings.clone() else { return };
    let endpoint = settings.endpoint.clone().unwrap();
    let target = format!("{}:{}", endpoint.host_str().unwrap(), endpoint.port().unwrap());
    let proxy = FailingProxy::before(target).await;
    let through = S3Settings {
        endpoint: Some(format!("http://{}", proxy.addr).parse().unwrap()),
        max_attempts: 1,
        timeouts: Timeouts { attempt: Duration::from_secs(2), ..settings.timeouts },
        ..settings
    };
    let s3 = S3::connect(&through, &http_client()).await.unwrap();
    let key = server.key("0");
    for failure in Failure::ANY {
        proxy.spoil([Some(failure)]);
        let head = s3.head(&key).await;
        assert!(matches!(head, Err(StoreError::Unavailable(_))), "{failure:?}: {head:?}");
        assert!(s3.head(&key).await.unwrap().is_some());
    }
    proxy.spoil([Some(Failure::Lost)]);
    s3.delete(&key).await.unwrap_err();
    assert!(s3.head(&key).await.unwrap().is_none(), "deleted, but the response was lost");

    let list = async |token: Option<String>| {
        let prefix = server.prefix().to_owned();
        s3.list(&ListRequest { prefix, token, limit: 1, ..ListRequest::default() }).await
    };
    let first = list(None).await.unwrap();
    let second = list(first.next.clone()).await.unwrap();
    assert_ne!(first.objects, second.objects);
    proxy.spoil_lists([Some(Failure::CutOff)]);
    let cut = list(first.next.clone()).await.unwrap();
    assert_eq!((&cut.objects, cut.next), (&second.objects, None));
    // The repeated page has a continuation token: the one of this request. The listing would never
    // end.
    proxy.spoil_lists([Some(Failure::Repeat)]);
    let repeated = list(first.next.clone()).await;
    assert!(matches!(repeated, Err(StoreError::Protocol(_))), "{repeated:?}");
    proxy.spoil_lists([Some(Failure::Anew)]);
    let anew = list(second.next.clone()).await.unwrap();
    assert_eq!((anew.objects, anew.next), (first.objects, first.next));
    server.clean_up().await;
}

/// The cause that a check of the bucket finds, and its log line.
async fn cause(s3: &S3) -> (Option<Cause>, String) {
    let error = s3.check_bucket().await.unwrap_err();
    (error.cause(), chain(&error))
}

#[tokio::test]
async fn every_failure_is_one_sentence_with_what_to_do() {
    // The response to HEAD has no body, so the client sends a second request for the error code.
    let refused = |code: &'static str| {
        let head = "403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        vec![head, code]
    };
    let cases = [
        (
            refused("403 Forbidden\r\n\r\n<Error><Code>InvalidAccessKeyId</Code></Error>"),
            Cause::UnknownKey,
        ),
        (
            refused("403 Forbidden\r\n\r\n<Error><Code>SignatureDoesNotMatch</Code></Error>"),
            Cause::WrongSecret,
        ),
        (
            refused("403 Forbidden\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>"),
            Cause::ClockSkew,
        ),
        (
            refused(
                "403 Forbidden\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n\
                 <Error><Code>AccessDenied</Code></Error>",
            ),
            Cause::ClockSkew,
        ),
        (
            refused("403 Forbidden\r\n\r\n<Error><Code>AccessDenied</Code></Error>"),
            Cause::AccessDenied,
        ),
        (
            refused(
                "400 Bad Request\r\n\r\n<Error><Code>AuthorizationHeaderMalformed</Code></Error>",
            ),
            Cause::WrongRegion,
        ),
        (vec!["404 Not Found\r\nContent-Length: 0\r\n\r\n"], Cause::NoSuchBucket),
        (vec!["500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"], Cause::ServerError),
        (vec![""], Cause::Timeout),
    ];
    for (responses, expected) in cases {
        let (s3, _) = server(responses.clone()).await;
        let (found, text) = cause(&s3).await;
        assert_eq!(found, Some(expected), "{responses:?}: {text}");
        assert!(!text.contains("unhandled error") && !text.contains("Error {"), "{text}");
        assert!(text.contains(expected.mend()) || expected == Cause::NoSuchBucket, "{text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for (endpoint, expected) in [
        (format!("http://{closed}"), Cause::ConnectionRefused),
        (format!("https://{no_tls}"), Cause::Tls),
        ("http://there-is-no-such-host.invalid:9000".to_owned(), Cause::Dns),
    ] {
        let credentials = S3Credentials::Static {
            access_key_id: "a".into(),
            secret_access_key: "b".into(),
            session_token: None,
        };
        let settings = S3Settings {
            max_attempts: 1,
            ..S3Settings::new(Some(endpoint.parse().unwrap()), "us-east-1", "music", credentials)
        };
        let s3 = S3::connect(&settings, &http_client()).await.unwrap();
        let (found, text) = cause(&s3).await;
        assert_eq!(found, Some(expected), "{endpoint}: {text}");
    }
}

#[tokio::test]
async fn the_clock_offset_of_a_store_is_that_of_its_newest_response() {
    let ok = "200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n";
    let (s3, _) = server(vec![ok]).await;
    assert_eq!(s3.clock_offset(), None);
    s3.check_bucket().await.unwrap();
    assert!(s3.clock_offset().unwrap().num_days() < -9000);
    let on = Subject::server().await;
    on.objects().check_bucket().await.unwrap();
    let offset = on.objects().clock_offset().unwrap();
    assert!(offset.num_seconds().abs() < 60, "{offset}");
}
