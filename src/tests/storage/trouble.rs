//! A server that answers as it was told: what the client makes of trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use upload_coordinator::net::http_client;
use upload_coordinator::storage::s3::{S3, S3Credentials, S3Settings, Timeouts};
use upload_coordinator::storage::{ListRequest, ObjectStore as _, StoreError};

use super::servers::Subject;
use crate::support::faults::{Fault, FaultProxy};

const SLOW_DOWN: &str = "503 Slow Down\r\n\r\n<Error><Code>SlowDown</Code></Error>";
const ETAG: &str = "200 OK\r\nETag: \"e\"\r\nContent-Length: 3\r\n\r\n";

/// Answers the n-th request with the n-th text, and all later ones with the last. An empty
/// text is no answer at all.
async fn server(answers: Vec<&'static str>) -> (S3, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            let answer = answers[n.min(answers.len() - 1)];
            let _ = stream.read(&mut [0; 8192]).await;
            if answer.is_empty() {
                held.push(stream);
            } else {
                let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
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
async fn a_server_that_does_not_answer_is_left_and_tried_again() {
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
async fn each_fault_of_the_wire_shows_as_what_it_is() {
    let server = Subject::server().await;
    for n in 0..5 {
        server.put(&server.key(&format!("{n}")), b"bytes").await;
    }
    let settings = server.settings.clone().unwrap();
    let endpoint = settings.endpoint.clone().unwrap();
    let target = format!("{}:{}", endpoint.host_str().unwrap(), endpoint.port().unwrap());
    let proxy = FaultProxy::before(target).await;
    let through = S3Settings {
        endpoint: Some(format!("http://{}", proxy.addr).parse().unwrap()),
        max_attempts: 1,
        timeouts: Timeouts { attempt: Duration::from_secs(2), ..settings.timeouts },
        ..settings
    };
    let s3 = S3::connect(&through, &http_client()).await.unwrap();
    let key = server.key("0");
    for fault in Fault::ANY {
        proxy.spoil([Some(fault)]);
        let head = s3.head(&key).await;
        assert!(matches!(head, Err(StoreError::Unavailable(_))), "{fault:?}: {head:?}");
        assert!(s3.head(&key).await.unwrap().is_some());
    }
    proxy.spoil([Some(Fault::Lost)]);
    s3.delete(&key).await.unwrap_err();
    assert!(s3.head(&key).await.unwrap().is_none(), "deleted, but nobody heard of it");

    let list = async |token: Option<String>| {
        let prefix = server.prefix().to_owned();
        s3.list(&ListRequest { prefix, token, limit: 1, ..ListRequest::default() }).await
    };
    let first = list(None).await.unwrap();
    let second = list(first.next.clone()).await.unwrap();
    assert_ne!(first.objects, second.objects);
    proxy.spoil_lists([Some(Fault::CutOff)]);
    let cut = list(first.next.clone()).await.unwrap();
    assert_eq!((&cut.objects, cut.next), (&second.objects, None));
    // It says that the page that was asked for comes after it.
    proxy.spoil_lists([Some(Fault::Repeat)]);
    let repeated = list(first.next.clone()).await;
    assert!(matches!(repeated, Err(StoreError::Protocol(_))), "{repeated:?}");
    proxy.spoil_lists([Some(Fault::Anew)]);
    let anew = list(second.next.clone()).await.unwrap();
    assert_eq!((anew.objects, anew.next), (first.objects, first.next));
    server.clean_up().await;
}
