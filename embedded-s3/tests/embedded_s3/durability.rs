use embedded_s3::{EmbeddedS3, EmbeddedS3Error};

use super::support::{BUCKET, TestServer, config, count_files, start, start_in};

#[tokio::test]
async fn objects_survive_a_kill_and_unknown_blobs_are_quarantined() {
    let s3 = start().await;
    s3.put("kept", b"kept").await;
    s3.put("replaced", b"one").await;
    s3.put("replaced", b"two").await;
    let created = s3.client.create_multipart_upload().bucket(BUCKET).key("mp").send();
    let upload_id = created.await.unwrap().upload_id.unwrap();
    let part = s3.client.upload_part().bucket(BUCKET).key("mp").upload_id(&upload_id);
    part.part_number(1).body(b"part".to_vec().into()).send().await.unwrap();

    // Kills the server, and writes files that are not in the index.
    let TestServer { server, dir, .. } = s3;
    drop(server);
    assert_eq!(count_files(dir.path()), (3, 0));
    for n in 0..600 {
        let name = format!("ab{n:030x}");
        std::fs::write(dir.path().join("blobs/ab").join(name), b"orphan").unwrap();
    }
    std::fs::write(dir.path().join("blobs/00/odd name"), b"orphan").unwrap();
    std::fs::write(dir.path().join("tmp/unfinished"), b"half").unwrap();

    let s3 = start_in(dir).await;
    assert_eq!(s3.files(), (3, 0));
    assert_eq!(std::fs::read_dir(s3.dir.path().join("quarantine")).unwrap().count(), 601);
    assert_eq!(s3.read("kept").await.as_deref(), Some(&b"kept"[..]));
    assert_eq!(s3.read("replaced").await.as_deref(), Some(&b"two"[..]));
    let parts = s3.client.list_parts().bucket(BUCKET).key("mp").upload_id(&upload_id);
    assert_eq!(parts.send().await.unwrap().parts().len(), 1);
}

#[tokio::test]
async fn after_a_shutdown_another_server_can_use_the_folder() {
    let s3 = start().await;
    s3.put("k", b"x").await;
    let TestServer { server, dir, client, .. } = s3;
    server.shutdown().await;
    let request = client.get_object().bucket(BUCKET).key("k").send();
    assert!(request.await.unwrap_err().as_service_error().is_none(), "the server still responds");
    let s3 = start_in(dir).await;
    assert_eq!(s3.read("k").await.as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn two_servers_never_share_a_folder() {
    let s3 = start().await;
    let error = EmbeddedS3::start(config(s3.dir.path())).await.unwrap_err();
    assert!(matches!(error, EmbeddedS3Error::DataDirInUse { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bucket_name_that_s3_does_not_allow_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.buckets.push("No_Such_Name".to_owned());
    let error = EmbeddedS3::start(config).await.unwrap_err();
    assert!(matches!(error, EmbeddedS3Error::BucketName { .. }), "{error:?}");
}
