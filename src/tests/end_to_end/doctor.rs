//! The results of `doctor` are compared with the results of raw requests.

use chrono::TimeDelta;
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::Value;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::storage::s3::CorsRule;
use upload_coordinator::storage::signer::{PutRequest, SignedRequest};

use crate::signals::webhooks::receiver;
use crate::storage::servers::{CORS_TURN, Subject, now};
use crate::support::database::TestDatabase;
use crate::support::live::{run, text};

const ORIGIN: &str = "https://app.example.com";

/// A working database, this store, and a prefix that only this test uses.
fn settings(on: &Subject, database: &TestDatabase) -> Vec<(String, String)> {
    let store = on.configuration().into_iter();
    let mut settings: Vec<_> =
        store.map(|(key, value)| (format!("storage.default.{key}"), value)).collect();
    settings.push(("policies.tracks.prefix".to_owned(), on.prefix().to_owned()));
    settings.push(("database.url".to_owned(), database.url.clone()));
    settings
}

/// Runs `doctor`, and returns the exit code and the JSON output.
async fn doctor(settings: &[(String, String)], arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["doctor", "--json"], arguments].concat();
    let output = run(&arguments, settings).await;
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// The checks of the database and of the store that have this outcome.
fn checks<'a>(found: &'a Value, outcome: &str) -> Vec<&'a Value> {
    let of = |part: &'a Value| part["checks"].as_array().unwrap().iter();
    let all = of(&found["database"]).chain(of(&found["stores"][0]));
    all.filter(|check| check["outcome"] == outcome).collect()
}

async fn sign(on: &Subject, name: &str, request: &PutRequest) -> SignedRequest {
    let hour = TimeDelta::hours(1);
    on.store.signer.put(&on.key(name), request, now(), hour).await.unwrap()
}

fn refused(response: &Response) -> bool {
    response.status().is_client_error()
}

#[tokio::test]
async fn doctor_reports_what_a_raw_client_sees() {
    let on = Subject::server().await;
    let _turn = CORS_TURN.lock().await;
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let (code, found) = doctor(&settings(&on, &database), &[]).await;
    assert_eq!((code, checks(&found, "fail").len()), (Some(0), 0), "{found:#}");
    let store = &found["stores"][0];
    let claims = &store["capabilities"];
    let claimed = |name: &str| claims[name].as_bool().expect(name);
    let listed = |name: &str, algorithm: Algorithm| {
        let names = claims[name].as_array().expect(name);
        names.contains(&serde_json::to_value(algorithm).unwrap())
    };

    let public = on.configuration().into_iter().find(|(key, _)| *key == "public_endpoint");
    let public: url::Url = public.unwrap().1.parse().unwrap();
    let host = public.host_str().unwrap();
    assert!(text(store, "public_url").contains(&format!("//{host}:")), "{found:#}");
    let bare = sign(&on, "bare", &PutRequest::default()).await;
    assert!(bare.url.contains(&format!("//{host}:")), "the signed host is the public one");

    let once = sign(&on, "once", &PutRequest { write_once: true, ..PutRequest::default() }).await;
    let responses = join_all((0..16).map(|_| on.send(&once, b"racer"))).await;
    let winners = responses.iter().filter(|response| response.status().is_success()).count();
    assert_eq!(claimed("write_once"), winners == 1, "{winners} won");

    let length = PutRequest { content_length: Some(3), ..PutRequest::default() };
    let longer = on.send(&sign(&on, "length", &length).await, b"longer").await;
    assert_eq!(claimed("signed_length"), refused(&longer), "{longer:?}");

    let kind = PutRequest { content_type: Some("audio/mpeg".into()), ..PutRequest::default() };
    let mut other = sign(&on, "type", &kind).await;
    other.headers.insert("content-type".into(), "text/html".into());
    let other = on.send(&other, b"abc").await;
    assert_eq!(claimed("signed_content_type"), refused(&other), "{other:?}");

    for algorithm in Algorithm::ALL {
        let name = format!("sum-{algorithm}");
        let checksum = Some(Checksum::of(algorithm, b"abc"));
        let signed = sign(&on, &name, &PutRequest { checksum, ..PutRequest::default() }).await;
        assert!(on.send(&signed, b"abc").await.status().is_success(), "{algorithm}");
        let response = on.send(&signed, b"cba").await;
        assert_eq!(listed("enforced_checksums", algorithm), refused(&response), "{algorithm}");
    }
    if let Some(s3) = &on.s3 {
        let head = s3.sdk().head_object().bucket(&on.store.bucket);
        let head = head.key(on.key("sum-sha256")).checksum_mode("ENABLED".into()).send().await;
        let returned = head.unwrap().checksum_sha256().is_some();
        assert_eq!(listed("returned_checksums", Algorithm::Sha256), returned);
        listings(&on, claims).await;
        let left = raw_list(&on, ".probe/", None).await;
        assert_eq!(left, Vec::<String>::new(), "doctor cleans up");
    }
    browsers(&on, &found).await;

    on.clean_up().await;
}

/// The keys below the test's prefix and `below`, as the store lists them.
async fn raw_list(on: &Subject, below: &str, start_after: Option<String>) -> Vec<String> {
    let client = on.s3.as_ref().unwrap().sdk();
    let list = client.list_objects_v2().bucket(&on.store.bucket).prefix(on.key(below));
    let list = list.set_start_after(start_after).send().await.unwrap();
    let keys = list.contents().iter().filter_map(|object| object.key());
    keys.map(|key| key.strip_prefix(&on.key(below)).unwrap().to_owned()).collect()
}

async fn listings(on: &Subject, claims: &Value) {
    // In byte order.
    let names = ["a-b", "a.b/c", "a/b", "a/c/d", "a0", "b"];
    for name in names {
        let signed = sign(on, &format!("list/{name}"), &PutRequest::default()).await;
        assert!(on.send(&signed, b"x").await.status().is_success());
    }
    assert_eq!(claims["list_order"], raw_list(on, "list/", None).await == names);
    let mut exact = true;
    for start in ["a", "a-b", "a-c", "a.b", "a/", "a/b", "a/z", "aa"] {
        let mut behind = raw_list(on, "list/", Some(on.key(&format!("list/{start}")))).await;
        behind.sort();
        exact &= names.into_iter().filter(|name| *name > start).eq(behind.iter());
    }
    assert_eq!(claims["start_after"], exact);
}

async fn browsers(on: &Subject, found: &Value) {
    // The default origin of `doctor`.
    let origin = "https://app.invalid";
    let signed = sign(on, "cors", &PutRequest::default()).await;
    let preflight = on.http().request(Method::OPTIONS, &signed.url).header("origin", origin);
    let preflight = preflight.header("access-control-request-method", "PUT").send().await;
    let preflight = preflight.unwrap();
    let mut put = on.http().put(&signed.url).header("origin", origin);
    for (name, value) in &signed.headers {
        put = put.header(name, value);
    }
    let put = put.send().await.unwrap();
    let header = |response: &Response, name: &str| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    let allowed = preflight.status().is_success()
        && ["*", origin].contains(&&*header(&preflight, "access-control-allow-origin"))
        && ["etag", "*"]
            .iter()
            .any(|name| header(&put, "access-control-expose-headers").contains(name));
    let passed = checks(found, "pass").iter().any(|check| check["name"] == "cors");
    assert_eq!(passed, allowed, "{preflight:?} {found:#}");
}

#[tokio::test]
async fn each_problem_is_named_with_its_fix_and_the_exit_code_is_1() {
    let on = Subject::server().await;
    let database = TestDatabase::create().await;
    let right = settings(&on, &database);
    let (code, found) = doctor(&right, &[]).await;
    let failed = checks(&found, "fail");
    assert_eq!((code, failed.len()), (Some(1), 1), "the database is empty: {found:#}");
    assert!(text(failed[0], "mend").contains("migrate up"), "{found:#}");

    drop(database.migrated().await);
    for (key, value, expected) in [
        ("storage.default.bucket", "no-such-bucket-here", &["bucket", "credentials"][..]),
        if on.speaks_s3() {
            ("storage.default.secret_access_key", "wrong", &["credentials"][..])
        } else {
            ("storage.default.access_key", "d3Jvbmc=", &["credentials"][..])
        },
        ("storage.default.endpoint", "http://127.0.0.1:9", &["endpoint"]),
        ("storage.default.public_endpoint", "http://127.0.0.1:9", &["public_endpoint"]),
        ("database.url", "sqlite://no-such-folder/x.db", &["database"]),
        ("database.url", "postgres://nobody:secret@127.0.0.1:9/x", &["database"]),
    ] {
        let mut wrong = right.clone();
        wrong.push((key.to_owned(), value.to_owned()));
        let (code, found) = doctor(&wrong, &[]).await;
        let failed = checks(&found, "fail");
        assert_eq!((code, failed.len()), (Some(1), 1), "{key}={value}: {found:#}");
        let name = text(failed[0], "name");
        assert!(expected.contains(&name.as_str()), "{key}={value}: {found:#}");
        assert!(failed[0]["mend"].is_string(), "{found:#}");
        assert!(!found.to_string().contains("secret@"), "the password is masked");
    }
    assert!(!std::path::Path::new("no-such-folder").exists(), "a check creates nothing");
}

#[tokio::test]
async fn endpoints_of_webhooks_are_checked_and_nothing_is_delivered() {
    let on = Subject::server().await;
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let (inbox, url) = receiver();
    let mut settings = settings(&on, &database);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unreachable = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    settings.push(("webhooks.allow_private".to_owned(), "true".to_owned()));
    for (name, url) in [("crm", &url), ("gone", &unreachable)] {
        settings.push((format!("webhooks.{name}.url"), url.clone()));
        let secret = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
        settings.push((format!("webhooks.{name}.secret"), secret.to_owned()));
    }
    let (code, found) = doctor(&settings, &[]).await;
    let outcome =
        |n: usize| (text(&found["webhooks"][n], "name"), text(&found["webhooks"][n], "outcome"));
    assert_eq!(outcome(0), ("crm".to_owned(), "pass".to_owned()), "{found:#}");
    assert_eq!(outcome(1), ("gone".to_owned(), "fail".to_owned()), "{found:#}");
    assert!(text(&found["webhooks"][1], "mend").contains("webhooks.gone.url"), "{found:#}");
    assert_eq!(code, Some(1));
    assert!(inbox.seen().is_empty());
}

#[tokio::test]
async fn fix_cors_puts_its_rule_first_if_the_store_accepts_it() {
    let on = Subject::server().await;
    let _turn = CORS_TURN.lock().await;
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let settings = settings(&on, &database);
    let rule = |origin: &str| CorsRule::for_uploads(&[origin.to_owned()]);
    let others = rule("https://other.example.com");
    if on.put_cors(std::slice::from_ref(&others)).await.is_err() {
        // On this store, CORS is configured for the whole server, and is open.
        let (code, found) = doctor(&settings, &["--origin", ORIGIN, "--fix", "cors"]).await;
        assert_eq!((code, checks(&found, "fail").len()), (Some(0), 0), "{found:#}");
        return;
    }
    let (code, found) = doctor(&settings, &["--origin", ORIGIN]).await;
    let failed = checks(&found, "fail");
    assert_eq!((code, failed.len()), (Some(1), 1), "{found:#}");
    let (name, mend) = (text(failed[0], "name"), text(failed[0], "mend"));
    assert!(name == "cors" && mend.contains(&format!(r#""AllowedOrigins":["{ORIGIN}"]"#)));
    assert_eq!(on.get_cors().await.unwrap(), std::slice::from_ref(&others), "it only looked");

    let (code, found) = doctor(&settings, &["--origin", ORIGIN, "--fix", "cors"]).await;
    assert_eq!((code, checks(&found, "fail").len()), (Some(0), 0), "{found:#}");
    assert_eq!(on.get_cors().await.unwrap(), [rule(ORIGIN), others.clone()]);
    let (code, _) = doctor(&settings, &["--origin", ORIGIN, "--fix", "cors"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(on.get_cors().await.unwrap(), [rule(ORIGIN), others], "once is enough");
}

#[cfg(feature = "embedded-s3")]
#[tokio::test]
async fn an_embedded_store_is_checked_too_and_the_text_is_readable() {
    let database = TestDatabase::create().await;
    drop(database.migrated().await);
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("database.url", database.url.clone()),
        ("storage.default.kind", "embedded".to_owned()),
        ("storage.default.bind", "127.0.0.1:0".to_owned()),
        ("storage.default.data_dir", folder.path().display().to_string()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let output = run(&["doctor"], &settings).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for line in [
        "  pass  migrations ",
        "  pass  presigned_put        presigned PUTs arrive in the bucket\n",
        "  pass  write_once           1 of 16 concurrent creations succeeded\n",
        " 0 warnings, 0 failed\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    let output = run(&["config", "show", "--probe"], &settings).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("\n#   write_once = true\n"), "{shown}");
    assert!(toml::from_str::<toml::Table>(&shown).is_ok(), "it is a configuration still");
}
