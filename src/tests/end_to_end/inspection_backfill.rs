//! `reconcile --inspect` of the real binary, with the real virus scanner, on files that were
//! uploaded before their policy had inspectors.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::clamd::{Clamd, eicar};
use crate::support::live::{Live, text};

/// An MP3 that lasts 1.5 s, longer than `max_duration` in [`inspectors`].
const LONG: &[u8] = include_bytes!("../files/media/cbr.mp3");

/// A FLAC file that lasts 0.5 s.
const SHORT: &[u8] = include_bytes!("../files/media/sound.flac");

const ANY_FILE: [(&str, &str); 2] =
    [("policies.tracks.allowed_extensions", ""), ("policies.tracks.allowed_content_types", "")];

/// A service without inspectors, and the process whose embedded store it uses.
struct Before {
    live: Live,
    _store: Live,
}

impl Before {
    async fn start() -> Self {
        let store = Live::dev().await;
        let live = Live::serving(&store.embedded_store(), &ANY_FILE).await;
        Self { live, _store: store }
    }

    /// Uploads and confirms a file, which is then served. Returns the id of the upload.
    async fn upload(&self, file: &[u8], track: Option<&str>) -> String {
        let mut body = json!({"filename": "file", "size": file.len()});
        if let Some(track) = track {
            body["track_id"] = json!(track);
        }
        let (status, upload) = self.live.post("/api/uploads", body).await;
        assert_eq!(status, 201, "{upload}");
        let sent = self.live.send_bytes(&upload["request"], file.to_vec()).await;
        assert!(sent.status().is_success());
        let id = text(&upload, "id");
        let path = format!("/api/uploads/{id}/confirm");
        assert_eq!(self.live.post(&path, json!({})).await.1["status"], "uploaded");
        id
    }

    async fn get(&self, id: &str) -> Value {
        self.live.get(&format!("/api/uploads/{id}")).await.1
    }

    /// Runs the backfill. Returns the exit code, and what it printed.
    async fn inspect(&self, options: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, Value) {
        let arguments = [&["reconcile", "--inspect", "--json"], options].concat();
        let output = self.live.command(&arguments, settings).output().await.unwrap();
        let printed = serde_json::from_slice(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        (output.status.code(), printed.unwrap_or_else(|_| panic!("{errors}")))
    }
}

/// The settings that a later configuration adds.
fn inspectors(address: &str) -> Vec<(&'static str, &str)> {
    let mut settings = ANY_FILE.to_vec();
    settings.extend([
        ("inspectors.clamav.kind", "clamd"),
        ("inspectors.clamav.address", address),
        ("policies.tracks.inspect", "media,clamav"),
        ("policies.tracks.max_duration", "1s"),
    ]);
    settings
}

fn count(printed: &Value, name: &str) -> u64 {
    printed[name].as_u64().unwrap_or_else(|| panic!("{name} of {printed}"))
}

/// The ids of the findings with this result of this inspector.
fn found(printed: &Value, outcome: &str, inspector: &str) -> Vec<String> {
    let findings = printed["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|it| it["outcome"] == outcome && it["inspector"] == inspector);
    let mut ids: Vec<_> = findings.map(|it| text(it, "upload")).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn files_from_before_the_inspectors_are_inspected_and_a_killed_backfill_continues() {
    let Some(clamd) = Clamd::start().await else { return };
    let before = Before::start().await;
    let track = before.live.track().await;
    let mut viruses = vec![before.upload(&eicar(), Some(&track)).await];
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(before.upload(format!("file {n}").as_bytes(), None).await);
    }
    viruses.push(before.upload(&eicar(), None).await);
    let (long, short) = (before.upload(LONG, None).await, before.upload(SHORT, None).await);
    viruses.sort();
    let address = clamd.socket();
    let settings = inspectors(&address);

    let (code, dry) = before.inspect(&["--dry-run", "--inspect-rate", "0"], &settings).await;
    assert_eq!((code, found(&dry, "withheld", "clamav")), (Some(0), viruses.clone()), "{dry}");
    assert_eq!(found(&dry, "withheld", "media"), std::slice::from_ref(&long));
    assert_eq!(before.live.file(&track).await, eicar(), "nothing was changed");

    // A backfill with a low rate is killed after its first line, before it has examined all files.
    let slow = ["reconcile", "--inspect", "--inspect-rate", "1"];
    let started = Instant::now();
    let mut killed = before.live.command(&slow, &settings).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    killed.kill().await.unwrap();
    assert!(line.starts_with("rejected "), "{line}");
    println!("killed after {:?}: {line}", started.elapsed());

    let (code, done) = before.inspect(&["--inspect-rate", "0"], &settings).await;
    assert_eq!(
        (code, count(&done, "examined") < count(&dry, "examined")),
        (Some(0), true),
        "{done}"
    );
    for id in &viruses {
        let upload = before.get(id).await;
        let ended = (&upload["status"], &upload["reason"]);
        assert_eq!(ended, (&json!("rejected"), &json!("inspection")), "{upload}");
        let file = before.live.get(&format!("/api/uploads/{id}/file?redirect=false")).await;
        assert_eq!(file.0, 404, "{file:?}");
    }
    assert_eq!(before.live.get(&format!("/api/tracks/{track}/file?redirect=false")).await.0, 404);
    let upload = before.get(&long).await;
    let detail = "media: File lasts 1.541 s, longer than max_duration=1s";
    assert_eq!((&upload["status"], &upload["detail"]), (&json!("rejected"), &json!(detail)));
    let upload = before.get(&short).await;
    assert_eq!(upload["status"], "uploaded");
    assert_eq!(upload["annotations"]["media"]["duration_seconds"], json!(0.5));
    assert!(upload["annotations"]["clamav"].is_object());
    for id in &ids {
        assert_eq!(before.get(id).await["status"], "uploaded");
    }
    // The media inspector records nothing about other files than media files. So the next backfill
    // examines them again.
    let (code, again) = before.inspect(&[], &settings).await;
    assert_eq!((code, count(&again, "examined")), (Some(0), ids.len() as u64), "{again}");
    assert_eq!(count(&again, "accepted"), ids.len() as u64);
}

#[tokio::test]
async fn a_backfill_keeps_its_rate_and_the_damage_limit_and_an_interrupted_one_says_so() {
    let Some(clamd) = Clamd::start().await else { return };
    let before = Before::start().await;
    let mut viruses = Vec::new();
    for _ in 0..6 {
        viruses.push(before.upload(&eicar(), None).await);
    }
    let address = clamd.address();
    let mut settings = inspectors(&address);
    settings[4].1 = "clamav";
    settings.remove(5);
    settings.extend([("reconcile.damage_max", "2"), ("reconcile.damage_min", "2")]);
    let started = Instant::now();
    let (code, done) = before.inspect(&["--inspect-rate", "2"], &settings).await;
    let took = started.elapsed();
    assert_eq!((count(&done, "rejected"), count(&done, "withheld")), (2, 4), "{done}");
    assert_eq!(code, Some(1));
    assert!(took >= Duration::from_millis(1900), "2 at once, and 4 with 2 per second: {took:?}");
    let (mut served, mut ended) = (0, 0);
    for id in &viruses {
        match before.get(id).await["status"].as_str() {
            Some("uploaded") => served += 1,
            Some("rejected") => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((served, ended), (4, 2));

    let slow = ["reconcile", "--inspect", "--inspect-rate", "1"];
    let mut child = before.live.command(&slow, &settings).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("withheld "));
    let id = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").arg(&id).status().await.unwrap().success());
    let last = lines.next_line().await.unwrap();
    let mut last = last.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert!(last.contains(" examined, 0 accepted, 0 rejected, "), "{last}");
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_scanner_that_is_down_ends_the_backfill_early_and_every_file_is_served() {
    let before = Before::start().await;
    let mut files = Vec::new();
    for n in 0..30 {
        files.push(before.upload(format!("file {n}").as_bytes(), None).await);
    }
    let mut settings = inspectors("127.0.0.1:1");
    settings.push(("inspectors.clamav.on_error", "reject"));
    let (code, done) = before.inspect(&["--inspect-rate", "0"], &settings).await;
    assert_eq!(code, Some(1));
    let failed = count(&done, "failed");
    assert!((20..30).contains(&failed), "{done}");
    assert_eq!(found(&done, "failed", "clamav").len() as u64, failed);
    for id in files {
        assert_eq!(before.get(&id).await["status"], "uploaded");
    }
    let unknown = before.live.command(&["reconcile", "--inspect", "--policy", "x"], &settings);
    let output = { unknown }.output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no policy `x`"), "{errors}");
}
