//! A start with blobs and an index that do not match, and the rebuild of an index.

use std::path::{Path, PathBuf};

use embedded_s3::{EmbeddedS3, EmbeddedS3Error, rebuild};
use tempfile::TempDir;

use super::support::{BUCKET, TestServer, config, count_blobs, count_files, start, start_in};

/// Stops a server without a shutdown, as a kill does.
fn kill(s3: TestServer) -> TempDir {
    drop(s3.server);
    s3.dir
}

/// Stops a server in an orderly way, so that its index is one file.
async fn stop(s3: TestServer) -> TempDir {
    s3.server.shutdown().await;
    s3.dir
}

fn quarantined(dir: &Path) -> usize {
    let folder = dir.join("quarantine");
    if folder.exists() { count_blobs(&folder) } else { 0 }
}

fn metadata_files(dir: &Path) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(dir.join("blobs")).unwrap();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
}

#[tokio::test]
async fn a_start_without_the_index_is_refused_and_deletes_no_blob() {
    for empty in [false, true] {
        let s3 = start().await;
        s3.put("a", b"one").await;
        s3.put("b", b"two").await;
        let dir = stop(s3).await;
        let index = dir.path().join("index.sqlite");
        std::fs::remove_file(&index).unwrap();
        if empty {
            std::fs::write(&index, b"").unwrap();
        }
        let error = EmbeddedS3::start(config(dir.path())).await.unwrap_err();
        assert!(matches!(error, EmbeddedS3Error::IndexMissing { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("index.sqlite") && text.contains("rebuild it"), "{text}");
        assert_eq!(count_files(dir.path()), (2, 0));
    }
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_with_every_object_and_its_metadata() {
    let s3 = start().await;
    let put = s3.client.put_object().bucket(BUCKET).key("dir/ü 1").metadata("a", "b");
    put.content_type("audio/flac").body(b"music".to_vec().into()).send().await.unwrap();
    s3.put("replaced", b"one").await;
    s3.put("replaced", b"two").await;
    s3.put("deleted", b"x").await;
    s3.client.delete_object().bucket(BUCKET).key("deleted").send().await.unwrap();
    let before = s3.client.head_object().bucket(BUCKET).key("dir/ü 1").send().await.unwrap();
    let dir = stop(s3).await;
    std::fs::remove_file(dir.path().join("index.sqlite")).unwrap();

    let rebuilt = rebuild(dir.path()).await.unwrap();
    assert_eq!((rebuilt.restored, rebuilt.not_restored.len()), (2, 0), "{rebuilt:?}");

    let s3 = start_in(dir).await;
    let after = s3.client.head_object().bucket(BUCKET).key("dir/ü 1").send().await.unwrap();
    assert_eq!(after.content_type(), Some("audio/flac"));
    assert_eq!(after.metadata(), before.metadata());
    assert_eq!((after.e_tag(), after.last_modified()), (before.e_tag(), before.last_modified()));
    assert_eq!(s3.read("dir/ü 1").await.as_deref(), Some(&b"music"[..]));
    assert_eq!(s3.read("replaced").await.as_deref(), Some(&b"two"[..]));
    assert_eq!(s3.read("deleted").await, None);
}

#[tokio::test]
async fn an_older_index_quarantines_newer_blobs_and_a_rebuild_restores_them() {
    let s3 = start().await;
    s3.put("old", b"old").await;
    s3.put("replaced", b"one").await;
    let dir = stop(s3).await;
    let index = dir.path().join("index.sqlite");
    let copy = dir.path().join("copy");
    std::fs::copy(&index, &copy).unwrap();
    let s3 = start_in(dir).await;
    s3.put("new", b"new").await;
    s3.put("replaced", b"two").await;
    let dir = stop(s3).await;
    std::fs::rename(&copy, &index).unwrap();

    let s3 = start_in(dir).await;
    assert_eq!(s3.read("new").await, None);
    assert_eq!(s3.read("old").await.as_deref(), Some(&b"old"[..]));
    let dir = stop(s3).await;
    assert_eq!(quarantined(dir.path()), 2, "a blob was deleted");

    let rebuilt = rebuild(dir.path()).await.unwrap();
    // The row of the replaced object names a blob that was deleted.
    assert_eq!((rebuilt.restored, rebuilt.unchanged, rebuilt.dropped), (2, 1, 1), "{rebuilt:?}");
    let s3 = start_in(dir).await;
    for (key, body) in [("old", "old"), ("new", "new"), ("replaced", "two")] {
        assert_eq!(s3.read(key).await.as_deref(), Some(body.as_bytes()));
    }
    assert_eq!(quarantined(s3.dir.path()), 0);
}

#[tokio::test]
async fn a_rebuild_names_the_blobs_that_it_cannot_restore() {
    let s3 = start().await;
    s3.put("good", b"good").await;
    s3.put("bad", b"bad").await;
    let created = s3.client.create_multipart_upload().bucket(BUCKET).key("mp").send();
    let upload_id = created.await.unwrap().upload_id.unwrap();
    let part = s3.client.upload_part().bucket(BUCKET).key("mp").upload_id(&upload_id);
    part.part_number(1).body(b"part".to_vec().into()).send().await.unwrap();
    let dir = stop(s3).await;
    let damaged = metadata_files(dir.path())
        .into_iter()
        .find(|path| std::fs::read_to_string(path).unwrap().contains("\"bad\""))
        .unwrap();
    std::fs::write(&damaged, b"{").unwrap();
    std::fs::write(dir.path().join("index.sqlite"), vec![7; 8192]).unwrap();

    let rebuilt = rebuild(dir.path()).await.unwrap();
    assert!(rebuilt.damaged_index.is_some_and(|path| path.exists()));
    assert_eq!(rebuilt.restored, 1);
    let mut reasons: Vec<&str> = rebuilt.not_restored.iter().map(|file| file.reason).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("no metadata") && reasons[1].contains("damaged"), "{reasons:?}");
    assert!(rebuilt.not_restored.iter().all(|file| file.path.exists()));
    let s3 = start_in(dir).await;
    assert_eq!(s3.read("good").await.as_deref(), Some(&b"good"[..]));
}

#[tokio::test]
async fn the_next_start_writes_missing_metadata_files() {
    let s3 = start().await;
    s3.put("a", b"one").await;
    s3.put("b", b"two").await;
    let dir = stop(s3).await;
    // Like the state after version 0.1.0, and like a file that was not synced before a crash.
    let files = metadata_files(dir.path());
    assert_eq!(files.len(), 2);
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::write(&files[1], b"").unwrap();

    let dir = stop(start_in(dir).await).await;
    std::fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    let rebuilt = rebuild(dir.path()).await.unwrap();
    assert_eq!((rebuilt.restored, rebuilt.not_restored.len()), (2, 0), "{rebuilt:?}");
    let s3 = start_in(dir).await;
    assert_eq!(s3.read("b").await.as_deref(), Some(&b"two"[..]));
}

#[tokio::test]
async fn a_rebuild_of_a_consistent_folder_changes_nothing() {
    let s3 = start().await;
    s3.put("a", b"one").await;
    let created = s3.client.create_multipart_upload().bucket(BUCKET).key("mp").send();
    let upload_id = created.await.unwrap().upload_id.unwrap();
    let dir = kill(s3);
    let rebuilt = rebuild(dir.path()).await.unwrap();
    assert_eq!((rebuilt.restored, rebuilt.unchanged, rebuilt.dropped), (0, 1, 0));
    let s3 = start_in(dir).await;
    assert_eq!(s3.read("a").await.as_deref(), Some(&b"one"[..]));
    let parts = s3.client.list_parts().bucket(BUCKET).key("mp").upload_id(&upload_id).send();
    assert_eq!(parts.await.unwrap().parts().len(), 0);
}

#[tokio::test]
async fn a_rebuild_while_a_server_runs_is_refused() {
    let s3 = start().await;
    let error = rebuild(s3.dir.path()).await.unwrap_err();
    assert!(matches!(error, EmbeddedS3Error::DataDirInUse { .. }), "{error:?}");
    let error = rebuild(&s3.dir.path().join("no such folder")).await.unwrap_err();
    assert!(matches!(error, EmbeddedS3Error::DataDir { .. }), "{error:?}");
}

#[tokio::test]
async fn the_metadata_file_of_a_deleted_object_is_deleted() {
    let s3 = start().await;
    s3.put("a", b"one").await;
    assert_eq!(metadata_files(s3.dir.path()).len(), 1);
    s3.client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
    assert_eq!(metadata_files(s3.dir.path()).len(), 0);
}
