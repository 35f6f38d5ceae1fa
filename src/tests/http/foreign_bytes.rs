//! Mutated events, lists of parts, queries and keys, sent over the network. The response is never a
//! 5xx, and mutated input has no unintended effect. `forms` does the same with forms.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::Scopes;
use upload_coordinator::http::EventAuth;

use super::kit::{Server, fetch, fuzz};
use crate::support::mutate::{mutated, mutated_text};

const EVENTS: &str = "events-token";

async fn taking_events() -> Server {
    let event_auth = EventAuth::new(Some(EVENTS.into()));
    Server::build(Duration::from_secs(20), Quota::default(), |_| event_auth.into()).await
}

#[test]
fn a_mutated_event_is_accepted_or_refused() {
    let key = "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef";
    let record = json!({"Records": [{"eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": "memory"}, "object": {"key": key}}}]});
    let inside = json!({"Type": "Notification", "Message": record.to_string()});
    let bodies = prop::sample::select(vec![record.to_string(), inside.to_string()]);
    fuzz(taking_events(), &mutated(bodies), async |server, body| {
        let request = server.request("POST", "/api/events/s3").bearer_auth(EVENTS);
        let request = request.header("content-type", "application/json").body(body);
        let status = fetch(request).await.status.as_u16();
        prop_assert!(matches!(status, 204 | 400), "{}", status);
        Ok(())
    });
}

#[test]
fn a_mutated_list_of_parts_is_refused_or_signed_exactly() {
    // One part, the same part twice, and a part that the upload does not have.
    let lists = prop::sample::select(vec![
        r#"{"part_numbers": [1], "expires_in": 60}"#,
        r#"{"part_numbers": [1, 1]}"#,
        r#"{"part_numbers": [9999, 1]}"#,
    ]);
    fuzz(Server::start(), &mutated(lists), async |server, body| {
        let new = json!({"filename": "a.mp3", "size": 12 << 20, "strategy": "multipart"});
        let upload = server.send("POST", "/api/uploads", new).await.json();
        let path = format!("/api/uploads/{}/parts", upload["id"].as_str().unwrap());
        let request = server.request("POST", &path).header("content-type", "application/json");
        let signed = fetch(request.body(body.clone())).await;
        if signed.status == 200 {
            let parts = signed.json()["parts"].as_array().cloned().unwrap();
            let numbers: BTreeSet<_> =
                parts.iter().map(|part| part["part_number"].as_u64()).collect();
            prop_assert_eq!(numbers.len(), parts.len());
            prop_assert_eq!(numbers, [Some(1)].into());
            let response: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&response["part_numbers"], &json!([1]));
        } else {
            prop_assert!(signed.status.is_client_error(), "{:?}", signed);
        }
        Ok(())
    });
}

#[test]
fn a_mutated_query_is_accepted_or_refused() {
    let queries = prop::sample::select(vec![
        "limit=10&status=pending&policy=tracks&created_after=2026-01-01T00:00:00Z",
        "search=a%25b_c&ordering=-title&status=uploaded&artist_name=Miles%20Davis",
        "cursor=eyJvIjoiIn0&limit=1000",
    ]);
    let lists = prop::sample::select(vec!["/api/uploads", "/api/tracks"]);
    fuzz(Server::start(), &(lists, mutated_text(queries)), async |server, (list, query)| {
        let listed = server.get(&format!("{list}?{query}")).await;
        prop_assert!(listed.status == 200 || listed.status.is_client_error(), "{:?}", listed);
        Ok(())
    });
}

#[test]
fn a_mutated_api_key_is_401_and_a_mutated_idempotency_key_is_accepted_or_refused() {
    let header = |bytes: Vec<u8>| HeaderValue::from_bytes(&bytes).ok();
    let once = mutated("[!-~]{1,255}").prop_filter_map("no header", header);
    fuzz(Server::keyed(), &(any::<u64>(), once), async |server, (seed, once)| {
        let key = server.key("ann", Scopes::all()).await;
        let body = json!({"title": "Blue in Green", "artist_name": "Miles Davis"});
        let create = |key: &str| {
            let request = server.request("POST", "/api/tracks").header("authorization", key);
            request.header("idempotency-key", once.clone()).json(&body)
        };
        // One digit of the id or of the secret changes.
        let digits: Vec<_> = key
            .bytes()
            .enumerate()
            .skip("Bearer uck_".len())
            .filter(|(_, b)| b.is_ascii_hexdigit())
            .collect();
        let (at, digit) = digits[usize::try_from(seed).unwrap() % digits.len()];
        let mut wrong = key.clone().into_bytes();
        wrong[at] = if digit == b'0' { b'1' } else { b'0' };
        let wrong = String::from_utf8(wrong).unwrap();
        prop_assert_eq!(fetch(create(&wrong)).await.status.as_u16(), 401);
        let created = fetch(create(&key)).await.status.as_u16();
        // Spaces around a header value are not part of it (RFC 9110, 5.5).
        let shown = once.as_bytes().trim_ascii();
        let fit = (1..=255).contains(&shown.len()) && shown.iter().all(u8::is_ascii_graphic);
        // If two inputs have the same key, the second one gets the track of the first one: a 201
        // too.
        prop_assert_eq!(created, if fit { 201 } else { 400 });
        Ok(())
    });
}
