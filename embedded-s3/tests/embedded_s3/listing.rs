use std::collections::BTreeSet;

use aws_sdk_s3::types::EncodingType;
use embedded_s3::EmbeddedS3;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::support::{BUCKET, client, code_of, config, start};

/// Writes rows directly to the index while no server runs, because a listing reads no blobs.
async fn seed(dir: &std::path::Path, keys: impl IntoIterator<Item = String>) {
    EmbeddedS3::start(config(dir)).await.unwrap().shutdown().await;
    let options = SqliteConnectOptions::new().filename(dir.join("index.sqlite"));
    let mut index = SqliteConnection::connect_with(&options).await.unwrap();
    let mut tx = index.begin().await.unwrap();
    for (n, key) in keys.into_iter().enumerate() {
        sqlx::query("INSERT INTO object VALUES (1, ?, 1, 'etag', 0, ?, NULL, '{}', NULL)")
            .bind(key.as_bytes())
            .bind(format!("{n:032x}"))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    index.close().await.unwrap();
}

/// More entries than any listing of these tests has.
const MOST_SHOWN: usize = 1000;

/// A name as in the response: escaped, because XML parsers trim spaces.
fn text(escaped: Option<&str>) -> String {
    percent_decode_str(escaped.unwrap()).decode_utf8().unwrap().into_owned()
}

#[derive(Debug, Clone, PartialEq)]
enum Shown {
    Key(String),
    Prefix(String),
}

impl Shown {
    fn name(&self) -> &str {
        match self {
            Self::Key(name) | Self::Prefix(name) => name,
        }
    }
}

#[derive(Debug, Clone)]
struct Question {
    prefix: String,
    delimiter: Option<String>,
    start_after: Option<String>,
    page: i32,
}

/// The listing according to S3's documentation, computed in a simple and slow way.
fn oracle(keys: &BTreeSet<String>, question: &Question) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for key in keys {
        let Some(remaining) = key.strip_prefix(&question.prefix) else { continue };
        if question.start_after.as_ref().is_some_and(|after| key <= after) {
            continue;
        }
        let rolled =
            question.delimiter.as_ref().and_then(|d| Some((remaining.find(d.as_str())?, d)));
        let next = match rolled {
            Some((at, delimiter)) => {
                Shown::Prefix(format!("{}{}", question.prefix, &remaining[..at + delimiter.len()]))
            }
            None => Shown::Key(key.clone()),
        };
        if shown.last() != Some(&next) {
            shown.push(next);
        }
    }
    shown
}

fn merge(keys: Vec<String>, prefixes: Vec<String>) -> Vec<Shown> {
    assert!(keys.is_sorted() && prefixes.is_sorted());
    let prefixes = prefixes.into_iter().map(Shown::Prefix);
    let mut shown: Vec<Shown> = keys.into_iter().map(Shown::Key).chain(prefixes).collect();
    shown.sort_by(|a, b| a.name().cmp(b.name()));
    shown
}

async fn list(s3: &aws_sdk_s3::Client, question: &Question) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut token = None;
    loop {
        let list = s3.list_objects_v2().bucket(BUCKET).prefix(&question.prefix);
        let list = list.set_delimiter(question.delimiter.clone()).max_keys(question.page);
        let list = list.set_start_after(question.start_after.clone());
        let list = list.encoding_type(EncodingType::Url);
        let page = list.set_continuation_token(token).send().await.unwrap();
        let keys: Vec<_> = page.contents().iter().map(|o| text(o.key())).collect();
        let prefixes: Vec<_> = page.common_prefixes().iter().map(|p| text(p.prefix())).collect();
        assert_eq!(page.key_count(), i32::try_from(keys.len() + prefixes.len()).ok());
        assert!(page.key_count() <= Some(question.page));
        shown.extend(merge(keys, prefixes));
        assert!(shown.len() <= MOST_SHOWN, "the listing repeats pages");
        token = page.next_continuation_token;
        assert_eq!(page.is_truncated, Some(token.is_some()));
        if token.is_none() {
            return shown;
        }
    }
}

async fn list_v1(s3: &aws_sdk_s3::Client, question: &Question) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut marker = None;
    loop {
        let list = s3.list_objects().bucket(BUCKET).prefix(&question.prefix);
        let list = list.set_delimiter(question.delimiter.clone()).max_keys(question.page);
        let list = list.encoding_type(EncodingType::Url);
        let page = list.set_marker(marker).send().await.unwrap();
        let keys = page.contents().iter().map(|o| text(o.key())).collect();
        let prefixes = page.common_prefixes().iter().map(|p| text(p.prefix())).collect();
        shown.extend(merge(keys, prefixes));
        assert!(shown.len() <= MOST_SHOWN, "the listing repeats pages");
        if page.is_truncated != Some(true) {
            return shown;
        }
        // With a delimiter, the response contains the marker. Otherwise the last key is the marker.
        assert_eq!(page.next_marker.is_some(), question.delimiter.is_some());
        marker = Some(shown.last().unwrap().name().to_owned());
    }
}

fn questions() -> impl Strategy<Value = Question> {
    let fragment = || "[ab/ +%ü-]{0,3}";
    let delimiter =
        prop_oneof![Just(None), Just(Some("/".to_owned())), Just(Some("a/".to_owned()))];
    (
        fragment(),
        delimiter,
        proptest::option::of("[ab/ +%ü-]{1,3}"),
        prop_oneof![1..9_i32, Just(1000)],
    )
        .prop_map(|(prefix, delimiter, start_after, page)| Question {
            prefix,
            delimiter,
            start_after,
            page,
        })
}

#[test]
fn listings_are_exact_for_all_keys_prefixes_delimiters_and_markers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A case has up to a few hundred requests, so there are few cases and little shrinking.
    let cases = ProptestConfig { cases: 64, max_shrink_iters: 20, ..ProptestConfig::default() };
    let mut runner =
        TestRunner::new_with_rng(cases, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let keys = proptest::collection::vec("[ab/ +%ü~-]{1,6}", 200);
    let keys = keys.new_tree(&mut runner).unwrap().current();
    let keys: BTreeSet<String> = keys.into_iter().collect();
    let server = runtime.block_on(async {
        seed(dir.path(), keys.iter().cloned()).await;
        EmbeddedS3::start(config(dir.path())).await.unwrap()
    });
    let s3 = client(&server.url());
    let run = |question: Question| {
        runtime.block_on(async {
            prop_assert_eq!(list(&s3, &question).await, oracle(&keys, &question));
            let from_start = Question { start_after: None, ..question };
            prop_assert_eq!(list_v1(&s3, &from_start).await, oracle(&keys, &from_start));
            Ok::<_, TestCaseError>(())
        })
    };
    runner.run(&questions(), run).unwrap();
    runtime.block_on(server.shutdown());
}

#[tokio::test]
async fn keys_are_listed_with_etag_size_and_time_in_the_order_of_their_bytes() {
    let s3 = start().await;
    for key in ["b", "a/b", "a-b", "a", "ü", "Z", "a b"] {
        s3.put(key, b"12345").await;
    }
    let page = s3.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let keys: Vec<_> = page.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys, ["Z", "a", "a b", "a-b", "a/b", "b", "ü"]);
    for object in page.contents() {
        let head = s3.client.head_object().bucket(BUCKET).key(object.key().unwrap());
        let head = head.send().await.unwrap();
        assert_eq!(object.e_tag(), head.e_tag());
        assert_eq!(object.size(), Some(5));
        assert_eq!(object.last_modified().unwrap().secs(), head.last_modified().unwrap().secs());
    }
}

#[tokio::test]
async fn names_are_url_encoded_on_request() {
    let s3 = start().await;
    s3.put("in/a b+c%ü", b"x").await;
    let list = s3.client.list_objects_v2().bucket(BUCKET).encoding_type(EncodingType::Url);
    let page = list.prefix("in/a b").send().await.unwrap();
    assert_eq!(page.contents()[0].key(), Some("in/a%20b%2Bc%25%C3%BC"));
    assert_eq!(page.prefix(), Some("in/a%20b"));
}

#[tokio::test]
async fn max_keys_zero_returns_an_empty_page_and_invalid_arguments_are_refused() {
    let s3 = start().await;
    s3.put("k", b"x").await;
    let list = || s3.client.list_objects_v2().bucket(BUCKET);
    let page = list().max_keys(0).send().await.unwrap();
    assert_eq!((page.contents().len(), page.is_truncated), (0, Some(false)));
    let error = list().continuation_token("nonsense!").send().await.unwrap_err();
    assert_eq!(code_of(&error), "InvalidArgument");
    let error = list().max_keys(-1).send().await.unwrap_err();
    assert_eq!(code_of(&error), "InvalidArgument");
}

#[tokio::test]
async fn a_page_in_the_middle_of_a_hundred_thousand_keys_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), (0..100_000).map(|n| format!("{:02}/{n:08}", n % 10))).await;
    let server = EmbeddedS3::start(config(dir.path())).await.unwrap();
    let s3 = client(&server.url());
    let list = s3.list_objects_v2().bucket(BUCKET).start_after("04/00050004");
    let page = list.send().await.unwrap();
    assert_eq!(page.contents().len(), 1000);
    assert_eq!(page.contents()[0].key(), Some("04/00050014"));
    let prefixes = s3.list_objects_v2().bucket(BUCKET).delimiter("/").send().await.unwrap();
    assert_eq!(prefixes.common_prefixes().len(), 10);
    assert_eq!(prefixes.is_truncated(), Some(false));
}
