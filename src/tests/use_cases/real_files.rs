//! Files and requests of real clients, from the upload to the result of the rules.

use bytes::Bytes;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::upload::{Declared, State};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::PutOptions;

use crate::support::mp3;
use crate::support::world::World;

macro_rules! sample {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../files/", $name)).as_slice())
    };
}

const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

async fn world_for(content_type: &str) -> World {
    World::with(|policy| {
        policy.allowed_content_types = vec![content_type.to_owned()];
        policy.allowed_extensions = Vec::new();
    })
    .await
}

async fn confirmed(world: &World, upload: &Upload) -> Upload {
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

fn reason(upload: &Upload) -> Option<&'static str> {
    match &upload.state {
        State::Rejected { reason, .. } => Some(reason.name()),
        _ => None,
    }
}

#[tokio::test]
async fn real_files_are_uploaded_under_their_type_and_rejected_under_others() {
    let mismatch = Some("content-mismatch");
    for ((name, bytes), content_type, rejected) in [
        (sample!("plain.mp3"), "audio/mpeg", None),
        (sample!("plain.mp3"), "audio/x-mpeg-3", None),
        (sample!("leading-nul.mp3"), "audio/mpeg", None),
        (sample!("leading-junk.mp3"), "audio/mpeg", None),
        (sample!("flac-behind-id3.mp3"), "audio/mpeg", mismatch),
        (sample!("flac_id3.flac"), "audio/flac", None),
        (sample!("audio-only.webm"), "audio/webm", None),
        (sample!("aac-isom.m4a"), "audio/mp4", None),
        (sample!("aac-isom.m4a"), "audio/mpeg", mismatch),
        (sample!("declared.svg"), "image/svg+xml", None),
        (sample!("x.xml"), "application/xml", None),
        (sample!("x.xml"), "image/svg+xml", mismatch),
        (sample!("python-docx.docx"), DOCX, None),
        (sample!("rf64-head.wav"), "audio/wav", None),
        (("text behind ID3", b"ID3\x04\0\0\0\0\0\0<html>"), "audio/mpeg", mismatch),
        (("BM.csv", b"BM,1\n"), "text/csv", None),
    ] {
        let world = world_for(content_type).await;
        let upload = world.create(NewUpload::default()).await;
        world.put(&upload, Bytes::from_static(bytes)).await;
        let found = confirmed(&world, &upload).await;
        assert_eq!(reason(&found), rejected, "{name} under {content_type}");
        if rejected.is_none() {
            assert_eq!(found.status(), Status::Uploaded, "{name} under {content_type}");
        }
    }
}

#[tokio::test]
async fn a_file_is_recorded_with_the_type_that_the_policy_allows() {
    let world = world_for("audio/webm").await;
    let upload = world.create(NewUpload::default()).await;
    let (_, bytes) = sample!("audio-only.webm");
    world.put(&upload, Bytes::from_static(bytes)).await;
    let found = confirmed(&world, &upload).await;
    let facts = found.state.facts().unwrap();
    assert_eq!(facts.content_type.as_deref(), Some("audio/webm"));
}

#[tokio::test]
async fn a_declared_generic_type_counts_as_undeclared() {
    let world = World::new().await;
    let content_type = Some("application/octet-stream".to_owned());
    let declared = Declared { content_type, ..Declared::default() };
    let created = world
        .app
        .create_upload(&world.owner, NewUpload { declared, ..NewUpload::default() })
        .await
        .unwrap();
    assert_eq!(created.upload.declared, Declared::default());
    let request = created.request.unwrap();
    assert!(!request.headers.contains_key("content-type"), "{:?}", request.headers);
    world.put(&created.upload, mp3(900, 1)).await;
    assert_eq!(confirmed(&world, &created.upload).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn an_object_stored_with_a_content_coding_is_rejected() {
    let world = World::new().await;
    for (coding, rejected) in [
        ("gzip", Some("content-encoding")),
        ("br", Some("content-encoding")),
        ("identity", None),
        ("aws-chunked", None),
    ] {
        let upload = world.create(NewUpload::default()).await;
        let content_encoding = Some(coding.to_owned());
        let options = PutOptions { content_encoding, ..PutOptions::default() };
        let key = upload.key.as_str();
        world.objects.put(key, mp3(900, 1).into(), &options).await.unwrap();
        assert_eq!(reason(&confirmed(&world, &upload).await), rejected, "{coding}");
    }
}
