//! Parses the events of a bucket. They are JSON in the format of S3, which MinIO's webhook also
//! sends, or of `EventBridge`. Both formats can be inside a message of SNS.
//!
//! Events arrive at least once and in any order, so they only name objects to check. Their other
//! fields are ignored.

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// The largest number of nested messages, including the event itself. An event inside a message of
/// SNS has two.
const MAX_DEPTH: usize = 3;

/// An object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectEvent {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key, decoded.
    pub key: String,
}

/// The message has none of the known formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event of a bucket")]
pub struct NotAnEvent;

/// Parses a message. Returns the objects that were created, changed or deleted. Test events and
/// events of other kinds return no objects.
pub fn parse(message: &Value) -> Result<Vec<ObjectEvent>, NotAnEvent> {
    let mut events = unwrap(message, MAX_DEPTH)?;
    events.sort();
    events.dedup();
    Ok(events)
}

fn unwrap(message: &Value, depth: usize) -> Result<Vec<ObjectEvent>, NotAnEvent> {
    if depth == 0 {
        return Err(NotAnEvent);
    }
    if let Some(records) = message.get("Records") {
        return records.as_array().ok_or(NotAnEvent).and_then(|records| s3(records));
    }
    if let Some(kind) = message.get("detail-type") {
        return event_bridge(kind.as_str().unwrap_or_default(), &message["detail"]);
    }
    match message.get("Type").and_then(Value::as_str) {
        Some("Notification") => {
            let text = message["Message"].as_str().ok_or(NotAnEvent)?;
            let inner: Value = serde_json::from_str(text).map_err(|_| NotAnEvent)?;
            return unwrap(&inner, depth - 1);
        }
        Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => return Ok(Vec::new()),
        _ => {}
    }
    match message.get("Event").and_then(Value::as_str) {
        Some("s3:TestEvent") => Ok(Vec::new()),
        _ => Err(NotAnEvent),
    }
}

/// Parses the records of S3. Records that can't be parsed are skipped, unless no record can be
/// parsed.
fn s3(records: &[Value]) -> Result<Vec<ObjectEvent>, NotAnEvent> {
    let read: Vec<_> = records.iter().filter_map(record).collect();
    if read.is_empty() && !records.is_empty() {
        return Err(NotAnEvent);
    }
    Ok(read.into_iter().flatten().collect())
}

/// Returns `None` if the value can't be parsed, and `Some(None)` if the event is not about the
/// creation or removal of an object.
fn record(record: &Value) -> Option<Option<ObjectEvent>> {
    let name = record.get("eventName")?.as_str()?;
    let object = &record["s3"];
    let bucket = object["bucket"]["name"].as_str()?.to_owned();
    let key = form_decoded(object["object"]["key"].as_str()?)?;
    Some(reports_bytes(name).then_some(ObjectEvent { bucket, key }))
}

/// Whether an event is about the creation or removal of an object. Events about read access are
/// ignored: otherwise the service's own HEAD would cause the next event, and so on.
fn reports_bytes(name: &str) -> bool {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    ["ObjectCreated:", "ObjectRemoved:", "LifecycleExpiration:"]
        .iter()
        .any(|kind| name.starts_with(kind))
}

/// Parses an event of `EventBridge`, which does not encode keys.
fn event_bridge(kind: &str, detail: &Value) -> Result<Vec<ObjectEvent>, NotAnEvent> {
    if !matches!(kind, "Object Created" | "Object Deleted") {
        return Ok(Vec::new());
    }
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(NotAnEvent);
    let bucket = text(&detail["bucket"]["name"])?;
    Ok(vec![ObjectEvent { bucket, key: text(&detail["object"]["key"])? }])
}

/// Decodes a key in an event of S3, which encodes it like a form field: `+` is a space.
fn form_decoded(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mutate::mutated;

    fn put(key: &str) -> Value {
        json!({"Records": [{"eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, "size": 1}}}]})
    }

    fn of(key: &str) -> Vec<ObjectEvent> {
        vec![ObjectEvent { bucket: "uploads".into(), key: key.into() }]
    }

    #[test]
    fn keys_are_decoded_from_percent_and_form_encoding() {
        for (encoded, key) in [
            ("tracks/f/a", "tracks/f/a"),
            ("tracks%2Ff%2Fa", "tracks/f/a"),
            ("a+b%2Bc%20d", "a b+c d"),
            ("%C3%A4", "ä"),
        ] {
            assert_eq!(parse(&put(encoded)), Ok(of(key)));
        }
        assert_eq!(parse(&put("%ff")), Err(NotAnEvent));
    }

    #[test]
    fn an_event_of_minio_is_read() {
        let mut event = put("tracks%2Ff%2Fa");
        event["EventName"] = "s3:ObjectCreated:Put".into();
        event["Key"] = "uploads/tracks/f/a".into();
        event["Records"][0]["eventName"] = "s3:ObjectCreated:Put".into();
        assert_eq!(parse(&event), Ok(of("tracks/f/a")));
    }

    #[test]
    fn events_are_read_in_every_envelope() {
        let sns = json!({"Type": "Notification", "Message": put("a").to_string()});
        assert_eq!(parse(&sns), Ok(of("a")));
        let bridge = json!({"detail-type": "Object Created",
            "detail": {"bucket": {"name": "uploads"}, "object": {"key": "a+b%"}}});
        assert_eq!(parse(&bridge), Ok(of("a+b%")), "EventBridge encodes nothing");
        let both = json!({"Type": "Notification", "Message": bridge.to_string()});
        assert_eq!(parse(&both), Ok(of("a+b%")));
    }

    #[test]
    fn test_events_and_confirmations_name_no_object() {
        for empty in [
            json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"}),
            json!({"Type": "SubscriptionConfirmation", "SubscribeURL": "https://x"}),
            json!({"Records": []}),
            json!({"detail-type": "Object Tags Added", "detail": {}}),
        ] {
            assert_eq!(parse(&empty), Ok(Vec::new()), "{empty}");
        }
    }

    #[test]
    fn events_about_read_access_are_ignored() {
        for name in ["ObjectAccessed:Head", "s3:ObjectAccessed:Get", "s3:Scanner:ManyVersions"] {
            let mut event = put("a");
            event["Records"][0]["eventName"] = name.into();
            assert_eq!(parse(&event), Ok(Vec::new()), "{name}");
        }
    }

    #[test]
    fn duplicates_and_broken_records_do_not_block_the_others() {
        let good = put("a")["Records"][0].clone();
        let mixed = json!({"Records": [good, 7, {"s3": {}}, good]});
        assert_eq!(parse(&mixed), Ok(of("a")));
    }

    #[test]
    fn a_message_without_an_event_is_refused() {
        let deep = (0..5).fold(
            put("a"),
            |inner, _| json!({"Type": "Notification", "Message": inner.to_string()}),
        );
        for bad in [json!({}), json!(null), json!({"Records": 1}), json!({"Records": [1]}), deep] {
            assert_eq!(parse(&bad), Err(NotAnEvent), "{bad}");
        }
    }

    /// A message in each of the envelopes.
    fn valid() -> impl Strategy<Value = String> {
        let bridge = json!({"detail-type": "Object Created",
            "detail": {"bucket": {"name": "uploads"}, "object": {"key": "tracks/f/a"}}});
        let s3 = put("tracks%2Ff%2Fa");
        let sns = json!({"Type": "Notification", "Message": s3.to_string()});
        prop::sample::select(vec![s3.to_string(), bridge.to_string(), sns.to_string()])
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("Records".to_owned()),
            Just("s3".to_owned()),
            Just("bucket".to_owned()),
            Just("object".to_owned()),
            Just("detail".to_owned()),
            Just("detail-type".to_owned()),
            Just("Type".to_owned()),
            Just("Message".to_owned()),
            Just("Notification".to_owned()),
            "\\PC{0,8}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            word.clone().prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(word.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_refused_or_parsed_without_a_panic(message in any_json()) {
            let _ = parse(&message);
        }

        #[test]
        fn every_envelope_around_any_key_names_the_same_object(
            key in "\\PC{1,60}", bucket in "[a-z0-9.-]{3,63}", removed in any::<bool>(),
        ) {
            let set = percent_encoding::NON_ALPHANUMERIC;
            let percent = percent_encoding::utf8_percent_encode(&key, set).to_string();
            let form: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
            let (name, kind) = if removed {
                ("ObjectRemoved:Delete", "Object Deleted")
            } else {
                ("ObjectCreated:CompleteMultipartUpload", "Object Created")
            };
            let s3 = |key: &str| json!({"Records": [{"eventName": name,
                "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]});
            let bridge = json!({"detail-type": kind,
                "detail": {"bucket": {"name": bucket}, "object": {"key": key}}});
            let expected = Ok(vec![ObjectEvent { bucket: bucket.clone(), key: key.clone() }]);
            for plain in [s3(&percent), s3(&form), bridge] {
                let by_sns = json!({"Type": "Notification", "Message": plain.to_string()});
                prop_assert_eq!(&parse(&plain), &expected);
                prop_assert_eq!(&parse(&by_sns), &expected);
            }
        }

        #[test]
        fn any_text_in_an_envelope_is_refused_or_parsed_without_a_panic(text in ".{0,200}") {
            let _ = serde_json::from_str(&text).map(|message: Value| parse(&message));
            let _ = parse(&json!({"Type": "Notification", "Message": text}));
            let _ = parse(&put(&text));
            let record = json!({"detail-type": text, "detail": {"bucket": {"name": text}}});
            let _ = parse(&record);
        }

        #[test]
        fn a_mutated_message_is_refused_or_means_the_same_in_an_envelope(
            bytes in mutated(valid()),
        ) {
            let Ok(message) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
            let parsed = parse(&message);
            let records = message["Records"].as_array().map_or(1, Vec::len);
            prop_assert!(parsed.iter().flatten().count() <= records.max(1));
            let again = json!({"Type": "Notification", "Message": message.to_string()});
            prop_assert_eq!(parse(&again), parsed);
        }

        #[test]
        fn every_key_survives_its_encoding(key in "\\PC{1,60}") {
            let set = percent_encoding::NON_ALPHANUMERIC;
            let encoded = percent_encoding::utf8_percent_encode(&key, set).to_string();
            prop_assert_eq!(parse(&put(&encoded)), Ok(of(&key)));
        }
    }
}
