//! The built-in inspector `media`, from the upload to the recorded result.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::{Value, json};
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::inspections::backfill::{Backfilled, Backfiller};
use upload_coordinator::domain::inspection::{Fallback, InspectorName, MEDIA};
use upload_coordinator::domain::media::MediaRules;
use upload_coordinator::domain::policy::MediaInspection;
use upload_coordinator::domain::upload::State;
use upload_coordinator::domain::{Policy, Status, Upload};
use upload_coordinator::reconcile::DamageLimit;
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::memory::Operation;

use crate::support::mp3;
use crate::support::world::World;

fn settings(rules: MediaRules) -> MediaInspection {
    MediaInspection {
        rules,
        timeout: Duration::from_mins(1),
        max_size: u64::MAX,
        on_error: Fallback::Accept,
        on_unscannable: Fallback::Accept,
    }
}

/// A world whose policy allows any file and has the inspector.
async fn world_with(settings: MediaInspection) -> World {
    World::with(|policy| {
        any_file(policy);
        policy.media = Some(settings);
    })
    .await
}

fn any_file(policy: &mut Policy) {
    policy.allowed_content_types.clear();
    policy.allowed_extensions.clear();
}

async fn confirmed(world: &World, bytes: impl Into<Bytes>) -> Upload {
    let upload = world.create(NewUpload::default()).await;
    world.put(&upload, bytes).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

fn facts(upload: &Upload) -> Value {
    let annotation = upload.annotations.get(&InspectorName::new(MEDIA));
    annotation.map_or(Value::Null, |annotation| Value::Object(annotation.clone()))
}

fn is_rejected_by_inspection(upload: &Upload) -> bool {
    matches!(&upload.state, State::Rejected { reason, .. } if reason.name() == "inspection")
}

const TAGGED: &[u8] = include_bytes!("../files/media/cbr.mp3");
const FILM: &[u8] = include_bytes!("../files/media/film.mp4");
const PICTURE: &[u8] = include_bytes!("../files/media/picture.png");

#[tokio::test]
async fn facts_from_the_headers_are_recorded_when_a_file_is_verified() {
    let world = world_with(settings(MediaRules::default())).await;
    let upload = confirmed(&world, TAGGED).await;
    assert_eq!(upload.status(), Status::Uploaded);
    let stored = world.get(upload.id).await;
    let expected = json!({
        "kind": "audio", "container": "mp3", "codec": "mp3", "duration_seconds": 1.541,
        "bitrate": 64_000, "sample_rate": 44_100, "channels": 2,
        "tags": {"title": "Tide", "artist": "Anna", "album": "Sea", "track": 3, "year": 2021},
    });
    assert_eq!((facts(&upload), facts(&stored)), (expected.clone(), expected));
    let text = confirmed(&world, "no media file").await;
    assert_eq!((text.status(), facts(&text)), (Status::Uploaded, Value::Null));
}

#[tokio::test]
async fn a_file_that_breaks_a_rule_is_rejected_with_the_value_and_the_limit() {
    let rules = MediaRules {
        max_duration: Some(TimeDelta::milliseconds(1500)),
        min_duration: Some(TimeDelta::milliseconds(500)),
        max_pixels: Some(3071),
        reject_gps: true,
    };
    let without = |change: fn(&mut MediaRules)| {
        let mut rules = rules.clone();
        change(&mut rules);
        rules
    };
    let no_pixels = without(|rules| rules.max_pixels = None);
    for (rules, bytes, detail) in [
        (&rules, TAGGED.to_vec(), "media: File lasts 1.541 s, longer than max_duration=1.5s"),
        (&rules, mp3(5000, 1), "media: File lasts 0.313 s, shorter than min_duration=0.5s"),
        (
            &rules,
            PICTURE.to_vec(),
            "media: File has 64 x 48 = 3072 pixels, more than max_pixels=3071",
        ),
        (
            &no_pixels,
            FILM.to_vec(),
            "media: File contains GPS coordinates, which reject_gps=true forbids; remove \
             them",
        ),
    ] {
        let world = world_with(settings(rules.clone())).await;
        let upload = confirmed(&world, bytes).await;
        assert!(is_rejected_by_inspection(&upload), "{detail}: {:?}", upload.state);
        assert_eq!(upload.detail.as_deref(), Some(detail));
        assert_ne!(facts(&upload), Value::Null, "known facts are recorded");
        let history = world.app.upload_history(&world.owner, upload.id).await.unwrap();
        assert_eq!(history.last().unwrap().detail.as_deref(), Some(detail));
    }
}

#[tokio::test]
async fn unscannable_files_follow_the_configuration() {
    let damaged = &FILM[..300];
    let accepting = settings(MediaRules::default());
    for (on_unscannable, rejected) in [(Fallback::Accept, false), (Fallback::Reject, true)] {
        let world = world_with(MediaInspection { on_unscannable, ..accepting.clone() }).await;
        let upload = confirmed(&world, damaged).await;
        assert_eq!(is_rejected_by_inspection(&upload), rejected, "{:?}", upload.state);
        let why = facts(&upload)["unscannable"].as_str().unwrap().to_owned();
        assert!(why.starts_with("File cannot be read: the file is damaged"), "{why}");
        let plain = confirmed(&world, TAGGED).await;
        assert_eq!(plain.status(), Status::Uploaded);
    }
    let small =
        MediaInspection { max_size: 10_000, on_unscannable: Fallback::Reject, ..accepting.clone() };
    let upload = confirmed(&world_with(small).await, TAGGED).await;
    assert_eq!(
        upload.detail.as_deref(),
        Some("media: File is larger than inspectors.media.max_size=10000")
    );
}

#[tokio::test]
async fn a_file_that_takes_too_long_follows_on_error() {
    for (on_error, rejected) in [(Fallback::Accept, false), (Fallback::Reject, true)] {
        let none = MediaInspection {
            timeout: Duration::ZERO,
            on_error,
            ..settings(MediaRules::default())
        };
        let upload = confirmed(&world_with(none).await, mp3(300_000, 1)).await;
        assert_eq!(is_rejected_by_inspection(&upload), rejected, "{:?}", upload.state);
        assert_eq!(
            facts(&upload),
            json!({
                "error": "File was not read within inspectors.media.timeout=0s",
            })
        );
    }
}

/// An MP3 file that begins with an `ID3v2.3` tag of `len` bytes with a picture.
fn tagged(len: u32) -> Vec<u8> {
    let size = [21, 14, 7, 0].map(|shift| u8::try_from((len - 10) >> shift & 0x7f).unwrap());
    let frame_len = len - 20;
    let frame = frame_len.to_be_bytes();
    let picture = vec![1; usize::try_from(frame_len).unwrap()];
    [&b"ID3\x03\0\0"[..], &size, b"APIC", &frame, &[0, 0], &picture, &mp3(500_000, 1)].concat()
}

#[tokio::test]
async fn an_mp3_with_a_tag_of_64_kib_costs_one_more_read_only_with_the_inspector() {
    for (inspects, reads) in [(true, 2), (false, 1)] {
        let world = World::with(|policy| {
            policy.max_size = 10 << 20;
            policy.media = inspects.then(|| settings(MediaRules::default()));
        })
        .await;
        let before = world.store.calls(Operation::Read);
        let upload = confirmed(&world, tagged(64 * 1024)).await;
        assert_eq!(upload.status(), Status::Uploaded);
        assert_eq!(world.store.calls(Operation::Read) - before, reads, "inspects: {inspects}");
        assert_eq!(facts(&upload)["bitrate"] == json!(128_000), inspects);
    }
}

#[tokio::test]
async fn a_rejected_file_is_not_inspected() {
    let world = World::with(|policy| policy.media = Some(settings(MediaRules::default()))).await;
    let upload = confirmed(&world, PICTURE).await;
    assert_eq!(upload.state.reason(), Some("content-mismatch"));
    assert_eq!(facts(&upload), Value::Null);
}

#[tokio::test]
async fn files_from_before_the_inspector_are_inspected_by_a_backfill() {
    let before = World::with(any_file).await;
    let [song, text, slow] = [
        confirmed(&before, TAGGED).await,
        confirmed(&before, "text").await,
        confirmed(&before, PICTURE).await,
    ];
    let limit = DamageLimit::default();
    let with = async |settings: MediaInspection| {
        before.reconfigured(|policy| policy.media = Some(settings.clone()), limit).await
    };
    let inspect = async |world: &World, upload: &Upload| {
        world.app.backfill(Backfiller::Media, upload.id, false).await.unwrap()
    };
    let world = with(settings(MediaRules::default())).await;
    for (upload, again) in [(&song, None), (&text, Some(Backfilled::Accepted))] {
        assert_eq!(inspect(&world, upload).await, Some(Backfilled::Accepted));
        assert_eq!(inspect(&world, upload).await, again);
    }
    assert_eq!(facts(&world.get(song.id).await)["duration_seconds"], 1.541);
    assert_eq!(world.get(text.id).await, text, "it is not a media file");
    // `on_error` applies only to new files, so this file stays as it is.
    let hurried = MediaInspection {
        timeout: Duration::ZERO,
        on_error: Fallback::Reject,
        ..settings(MediaRules::default())
    };
    let without = inspect(&with(hurried).await, &slow).await;
    assert!(matches!(without, Some(Backfilled::Unresolved(_))), "{without:?}");
    assert_eq!(world.get(slow.id).await, slow);
    world.store.fail_next(Operation::Read, 1, || StoreError::Unavailable("503".into()));
    assert!(matches!(inspect(&world, &slow).await, Some(Backfilled::Failed(_))));
    let strict = with(settings(MediaRules { max_pixels: Some(1), ..MediaRules::default() })).await;
    let rejected = inspect(&strict, &slow).await;
    assert!(matches!(rejected, Some(Backfilled::Rejected(_))), "{rejected:?}");
    let ended = world.get(slow.id).await;
    assert!(is_rejected_by_inspection(&ended));
    let detail = ended.detail.unwrap();
    assert!(detail.starts_with("media: File has "), "{detail}");
}
