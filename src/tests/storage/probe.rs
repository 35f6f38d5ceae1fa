//! The probe must report exactly what a store supports.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use upload_coordinator::domain::PolicyName;
use upload_coordinator::domain::clock::{Clock as _, ManualClock, SystemClock};
use upload_coordinator::domain::ids::{IdSource as _, SystemIds};
use upload_coordinator::domain::object_settings::{ObjectSettings, Sse};
use upload_coordinator::net::{HttpClient, http_client};
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::{MemoryStore, Operation};
use upload_coordinator::storage::probe::{Outcome, ProbeOptions, Report};
use upload_coordinator::storage::s3::probe::probe;
use upload_coordinator::storage::s3::{CorsRule, S3, S3Credentials, S3Settings};
use upload_coordinator::storage::{ListRequest, Store, StoreError};

use super::servers::{CORS_TURN, Kind, Subject};

fn options(prefix: &str) -> ProbeOptions {
    ProbeOptions {
        objects: BTreeMap::new(),
        prefix: prefix.to_owned(),
        run: SystemIds.uuid(),
        origins: Vec::new(),
    }
}

async fn run(store: &Store, prefix: &str) -> Report {
    probe(store, &HttpClient::default(), &SystemClock, &options(prefix)).await
}

/// Runs the probe for this kind of store.
async fn run_on(on: &Subject, options: &ProbeOptions) -> Report {
    match on.backend().await {
        Some(backend) => backend.probe(&SystemClock, options).await,
        None => probe(&on.store, &HttpClient::default(), &SystemClock, options).await,
    }
}

fn failures(report: &Report) -> Vec<&str> {
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    failed.map(|check| &*check.name).collect()
}

#[tokio::test]
async fn a_probe_finds_the_known_capabilities_and_leaves_nothing_behind() {
    let on = Subject::server().await;
    let report = run_on(&on, &options(on.prefix())).await;
    let shown = serde_json::to_string_pretty(&report).unwrap();
    println!("{shown}");
    assert!(report.is_usable(), "{shown}");
    assert_eq!(report.capabilities, on.kind.capabilities(), "{shown}");
    let request = ListRequest { prefix: on.prefix().to_owned(), ..ListRequest::default() };
    assert_eq!(on.objects().list(&request).await.unwrap().objects, []);
}

#[cfg(feature = "embedded-s3")]
#[tokio::test]
async fn a_store_that_refuses_the_condition_differs_from_one_that_ignores_it() {
    let on = Subject::unconditional().await;
    let report = run(&on.store, on.prefix()).await;
    assert!(report.is_usable(), "{report:?}");
    assert_eq!(report.capabilities, on.kind.capabilities(), "{report:?}");
    let check = report.checks.iter().find(|check| check.name == "write_once").unwrap();
    assert_eq!(check.outcome, Outcome::Warn, "{check:?}");
    assert_eq!(check.saw, "a creation with If-None-Match returns 501 NotImplemented");
}

#[tokio::test]
async fn the_object_settings_of_a_policy_are_tested() {
    let on = Subject::server().await;
    let check = async |object: ObjectSettings| {
        let objects = [(PolicyName::default(), object)].into();
        let options = ProbeOptions { objects, ..options(on.prefix()) };
        let report = run_on(&on, &options).await;
        let found = report.checks.iter().find(|check| check.name == "object_tracks");
        found.unwrap_or_else(|| panic!("{report:?}")).clone()
    };
    let plain = ObjectSettings { cache_control: Some("private".into()), ..Default::default() };
    assert_eq!(check(plain.clone()).await.outcome, Outcome::Pass);
    let encrypted = ObjectSettings { sse: Some(Sse::Aes256), ..plain.clone() };
    let expected = if on.capabilities().sse { Outcome::Pass } else { Outcome::Fail };
    let found = check(encrypted).await;
    assert_eq!(found.outcome, expected, "{found:?}");
    if !on.speaks_s3() {
        return on.clean_up().await; // the configuration refuses other classes
    }
    let odd = ObjectSettings { storage_class: Some("NO_SUCH_CLASS".into()), ..plain };
    let found = check(odd).await;
    if on.kind == Kind::Embedded {
        assert_eq!(found.saw, "a PUT with the policy's object settings returns 501 NotImplemented");
    }
    on.clean_up().await;
}

/// Only on stores that support buckets with a default retention.
#[tokio::test]
async fn a_bucket_that_locks_its_objects_is_reported() {
    let on = Subject::server().await;
    let Some(locking) = on.with_lock().await else { return };
    let report = run(&locking.store, locking.prefix()).await;
    let check = report.checks.iter().find(|check| check.name == "object_lock").unwrap();
    assert_ne!(check.outcome, Outcome::Pass, "{report:?}");
    assert!(check.mend.as_ref().unwrap().contains("retention"), "{check:?}");
    assert!(report.capabilities.object_lock || !report.is_usable(), "{report:?}");
}

#[tokio::test]
async fn a_bucket_with_versioning_is_reported() {
    let on = Subject::server().await;
    let Some(versioned) = on.with_versions().await else { return };
    let report = run(&versioned.store, versioned.prefix()).await;
    assert!(report.capabilities.versioning, "{report:?}");
}

#[tokio::test]
async fn a_probe_of_cors_passes_after_the_fix_is_applied() {
    let on = Subject::server().await;
    if on.kind == Kind::Minio {
        return;
    }
    let _turn = CORS_TURN.lock().await;
    let origin = "https://app.example.com".to_owned();
    let with_origin = ProbeOptions { origins: vec![origin.clone()], ..options(on.prefix()) };
    on.put_cors(&[CorsRule::for_uploads(&["https://other.example.com".to_owned()])]).await.unwrap();
    let before = run_on(&on, &with_origin).await;
    let check = before.checks.iter().find(|check| check.name == "cors").unwrap();
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
    assert!(
        check.mend.as_ref().unwrap().contains(r#""AllowedOrigins":["https://app.example.com"]"#)
    );
    on.put_cors(&[CorsRule::for_uploads(&[origin])]).await.unwrap();
    let after = run_on(&on, &with_origin).await;
    let check = after.checks.iter().find(|check| check.name == "cors").unwrap();
    assert_eq!(check.outcome, Outcome::Pass, "{check:?}");
}

#[tokio::test]
async fn a_store_that_is_down_is_one_failure() {
    let settings = S3Settings {
        max_attempts: 1,
        ..S3Settings::new(
            Some("http://127.0.0.1:9".parse().unwrap()),
            "us-east-1",
            "music",
            S3Credentials::Static {
                access_key_id: "a".into(),
                secret_access_key: "b".into(),
                session_token: None,
            },
        )
    };
    let s3 = S3::connect(&settings, &http_client()).await.unwrap();
    let report = run(&s3.into_store("down", Capabilities::aws()), "").await;
    assert_eq!((report.checks.len(), failures(&report)), (1, vec!["endpoint"]), "{report:?}");
    assert_eq!(report.capabilities, Capabilities::conservative());
}

#[tokio::test]
async fn a_store_that_fails_during_the_probe_is_one_failure_without_capabilities() {
    let on = Subject::server().await;
    if !on.speaks_s3() {
        return;
    }
    let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    memory.fail_next(Operation::Head, 99, || StoreError::Unavailable("down".into()));
    let halved = Store { objects: memory, ..on.store.clone() };
    let report = run(&halved, on.prefix()).await;
    assert_eq!(failures(&report), ["endpoint"], "{report:?}");
    assert_eq!(report.capabilities, Capabilities::conservative());
    on.clean_up().await;
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_the_only_thing_reported() {
    let on = Subject::server().await;
    if !on.speaks_s3() {
        return;
    }
    let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    memory.drop_bucket();
    let store = Store { objects: memory, ..on.store.clone() };
    assert_eq!(failures(&run(&store, "").await), ["bucket"]);
}

#[tokio::test]
async fn two_endpoints_of_different_buckets_are_reported() {
    let on = Subject::server().await;
    if !on.speaks_s3() {
        return;
    }
    let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let store = Store { objects: memory, ..on.store.clone() };
    assert_eq!(failures(&run(&store, on.prefix()).await), ["presigned_put"]);
    on.clean_up().await;
}

#[tokio::test]
async fn a_wrong_clock_is_reported_instead_of_its_consequences() {
    let on = Subject::server().await;
    if !on.speaks_s3() {
        return;
    }
    let clock = ManualClock::new(SystemClock.now() - TimeDelta::hours(1));
    let report = probe(&on.store, &HttpClient::default(), &clock, &options("")).await;
    assert_eq!(failures(&report), ["clock"], "{report:?}");
}
