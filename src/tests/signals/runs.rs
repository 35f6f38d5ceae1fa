//! The event stream of a run, from a process that does not work on the run.

use std::time::Duration;

use serde_json::Value;
use upload_coordinator::domain::run::{Mode, RunRequest, Trigger};
use upload_coordinator::storage::memory::Operation;

use crate::support::mp3;
use crate::support::served::Served;

/// The names and data of the events in a stream's text.
fn events(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter(|block| block.starts_with("event: "));
    let read = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data = data.strip_prefix("data: ").unwrap();
        let data = serde_json::from_str(data).unwrap();
        (name["event: ".len()..].to_owned(), data)
    };
    blocks.map(read).collect()
}

#[tokio::test]
async fn the_event_stream_of_a_run_works_in_any_process_and_ends_with_the_run() {
    let served = Served::new().await;
    let world = &served.world;
    for seed in 0..60 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
    }
    world.put_key("tracks/notes.txt", "foreign").await;
    let gate = world.store.hold(Operation::List);
    let process = world.process(|settings| settings.save_every = Duration::ZERO).await;
    let trigger = Trigger::Api;
    let mode = Mode::Audit;
    let request = RunRequest::of(mode, trigger);
    let run = process.start(request).await;
    let path = format!("/api/admin/reconciliations/{run}/events");
    let mut stream = served.get(&path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = stream.chunk().await.unwrap().unwrap();
    let first = events(std::str::from_utf8(&first).unwrap());
    assert_eq!(first[0].0, "progress");
    let progress = &first[0].1;
    assert_eq!((&progress["shards"], &progress["shards_done"]), (&17.into(), &0.into()));
    assert_eq!((&progress["findings"], &progress["counters"]["listed"]), (&0.into(), &0.into()));
    // Both requests use one connection: the first response does not block it.
    for _ in 0..2 {
        let head = served.client.head(format!("{}{path}", served.url));
        let head = head.timeout(Duration::from_secs(10)).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["content-type"], "text/event-stream");
    }
    // The gate lets one page through at a time, until the stream sends a change.
    for _ in 0..10 {
        gate.next_call().await;
        gate.let_through(1);
    }
    let next = stream.chunk().await.unwrap().unwrap();
    let next = events(std::str::from_utf8(&next).unwrap());
    assert_eq!(next[0].0, "progress");
    assert_ne!(next[0].1, *progress);
    gate.open();
    let remaining = events(&stream.text().await.unwrap());
    let (name, ended) = remaining.last().unwrap();
    assert_eq!((name.as_str(), &ended["status"]), ("run", &"succeeded".into()));
    assert_eq!(
        (&ended["counters"]["confirmed"], &ended["counters"]["foreign"]),
        (&60.into(), &1.into())
    );
    assert!(remaining[..remaining.len() - 1].iter().all(|(name, _)| name == "progress"));
    // The stream of an ended run sends its state at once.
    let text = served.get(&path).send().await.unwrap().text().await.unwrap();
    assert_eq!(events(&text), [("run".to_owned(), ended.clone())]);
    let nobody = "/api/admin/reconciliations/0190a6f2-7b3c-7def-8123-456789abcdef/events";
    assert_eq!(served.get(nobody).send().await.unwrap().status(), 404);
    served.stop().await;
}
