//! Buckets with versioning, and buckets with encryption, if the store supports them.

use aws_sdk_s3::types::{
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule,
};
use chrono::TimeDelta;
use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::json;
use upload_coordinator::storage::PutOptions;
use upload_coordinator::storage::signer::GetRequest;

use crate::storage::servers::{Subject, now};
use crate::support::live::{Live, read, text};
use crate::support::mp3;

/// A bucket that encrypts its objects with this algorithm. `None` if the store does not support it.
async fn encrypted(algorithm: ServerSideEncryption) -> Option<Subject> {
    let on = Subject::server().await;
    let own = on.with_own_bucket().await.ok()?;
    // The id of the encryption key can be configured. The default is the key that MinIO was started
    // with.
    let name = (algorithm == ServerSideEncryption::AwsKms).then(|| "test".to_owned());
    let by_default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(algorithm)
        .set_kms_master_key_id(name)
        .build();
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(by_default.unwrap())
        .build();
    let rules = ServerSideEncryptionConfiguration::builder().rules(rule).build();
    let client = own.s3.as_ref()?.sdk().put_bucket_encryption().bucket(&own.store.bucket);
    client.server_side_encryption_configuration(rules.unwrap()).send().await.ok()?;
    // A store may accept the encryption rule without having a key for it.
    let options = PutOptions::default();
    own.objects().put(&own.key("first"), "bytes".into(), &options).await.ok()?;
    Some(own)
}

#[tokio::test]
async fn the_version_seen_is_the_version_served() {
    let Some(on) = Subject::server().await.with_versions().await else { return };
    let key = on.key("object");
    let first = on.put(&key, b"first").await.version_id.unwrap();
    on.put(&key, b"again").await;
    let seen = on.objects().head(&key).await.unwrap().unwrap().version_id.unwrap();
    assert_ne!(first, seen);
    let hide = on.s3.as_ref().unwrap().sdk().delete_object();
    hide.bucket(&on.store.bucket).key(&key).send().await.unwrap();
    for (version, bytes) in [(first, "first"), (seen, "again")] {
        let presign = GetRequest { version_id: Some(version), ..GetRequest::default() };
        let hour = TimeDelta::hours(1);
        let get = on.store.signer.get(&key, &presign, now(), hour).await.unwrap();
        assert_eq!(on.send(&get, b"").await.text().await.unwrap(), bytes);
    }

    let live = Live::serving(&on.configuration(), &[]).await;
    let track = live.track().await;
    let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 9000});
    let request = live.presign(&track, declared).await;
    assert_eq!(live.send_bytes(&request, mp3(9000, 1)).await.status(), 200);
    let confirm = format!("{}/api/uploads/{}/confirm", live.url, text(&request["upload"], "id"));
    let (status, upload) = read(live.http.post(confirm).send().await.unwrap()).await;
    assert_eq!((status, &upload["status"]), (200, &json!("uploaded")), "{upload}");
    let plain = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let file = plain.get(format!("{}/api/tracks/{track}/file", live.url)).send().await.unwrap();
    let location = file.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.contains("versionId="), "the verified version is named in the URL");
    // The verified version is served even if the object is overwritten.
    let stored = on.objects().list(&upload_coordinator::storage::ListRequest::default()).await;
    let stored = stored.unwrap().objects;
    let key = &stored.iter().find(|object| object.size == 9000).unwrap().key;
    on.put(key, b"something else").await;
    assert_eq!(plain.get(location).send().await.unwrap().bytes().await.unwrap(), mp3(9000, 1));

    // The same bytes are stored again, and the verified version is removed.
    let old = text(&upload, "version_id");
    let again = on.objects().put(key, mp3(9000, 1).into(), &PutOptions::default()).await.unwrap();
    let remove = on.s3.as_ref().unwrap().sdk().delete_object().bucket(&on.store.bucket);
    remove.key(key).version_id(old).send().await.unwrap();
    assert_eq!(live.file(&track).await, mp3(9000, 1));
    let (_, now) = live.get(&format!("/api/uploads/{}", text(&upload, "id"))).await;
    assert_eq!(
        (&now["status"], now["version_id"].as_str()),
        (&json!("uploaded"), again.version_id.as_deref())
    );

    // The deletion removes all versions.
    let gone = live.send(Method::DELETE, &format!("/api/tracks/{track}"), None).await;
    assert_eq!(gone.0, 204);
    let run = live.reconcile("incremental").await;
    assert_eq!(run["counters"]["deleted"], 1, "{run}");
    assert_eq!(on.versions(key).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_same_bytes_again_stay_uploaded_in_a_bucket_that_encrypts() {
    for algorithm in [ServerSideEncryption::Aes256, ServerSideEncryption::AwsKms] {
        let Some(on) = encrypted(algorithm.clone()).await else { continue };
        let key = on.key("object");
        let once = on.put(&key, b"the same").await;
        let again = on.put(&key, b"the same").await;
        println!("{algorithm}: {} then {}", once.etag, again.etag);

        let live = Live::serving(&on.configuration(), &[]).await;
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        let id = text(&request["upload"], "id");
        let confirm = format!("{}/api/uploads/{id}/confirm", live.url);
        for _ in 0..2 {
            assert_eq!(live.send_bytes(&request, mp3(9000, 1)).await.status(), 200);
            let (status, upload) = read(live.http.post(&confirm).send().await.unwrap()).await;
            assert_eq!((status, &upload["status"]), (200, &json!("uploaded")), "{upload}");
        }
        let file = live.http.get(format!("{}/api/tracks/{track}/file", live.url)).send().await;
        assert_eq!(file.unwrap().bytes().await.unwrap(), mp3(9000, 1));
        // The service distinguishes other bytes from the same bytes that are stored again.
        assert_eq!(live.send_bytes(&request, mp3(9001, 2)).await.status(), 200);
        let (_, upload) = read(live.http.post(&confirm).send().await.unwrap()).await;
        assert_eq!(upload["status"], "rejected", "{upload}");
    }
}
