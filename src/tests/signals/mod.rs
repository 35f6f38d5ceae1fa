//! What tells others, and what tells the service: waiting, events, webhooks.

mod events;
mod outbox;
mod runs;
pub mod sqs;
mod waiting;
mod webhooks;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::live::{Live, text};
use crate::support::mp3;

/// That a client who waits learns of its PUT from the bucket's event, and soon.
async fn puts_are_confirmed_within_a_second(live: &Live) {
    let mut waits = Vec::new();
    for n in 0..5 {
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        let path = format!("/api/uploads/{}?wait=30", text(&request["upload"], "id"));
        let poll = live.http.get(format!("{}{path}", live.url)).send();
        let put = async {
            assert!(live.send_bytes(&request, mp3(200_000, n)).await.status().is_success());
            Instant::now()
        };
        let (answer, stored) = tokio::join!(async { (poll.await, Instant::now()) }, put);
        let upload: Value = answer.0.expect("an answer").json().await.expect("JSON");
        assert_eq!(upload["status"], "uploaded", "{upload}");
        assert_eq!(upload["confirmed_by"], "event", "{upload}");
        waits.push(answer.1.saturating_duration_since(stored));
    }
    println!("from the PUT's answer to `uploaded`: {waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(1)), "{waits:?}");
}
