//! Bucket events from a queue: from a queue in memory, and from a real one if `TEST_SQS_ENDPOINT`
//! names it.

mod memory;
mod server;

use serde_json::{Value, json};

pub use server::Real;

fn created(bucket: &str, key: &str) -> Value {
    let key = key.replace('/', "%2F");
    json!({"Records": [{"eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}}]})
}

fn by_sns(inner: &Value) -> Value {
    json!({"Type": "Notification", "MessageId": "x", "TopicArn": "arn:aws:sns:r:1:t",
        "Message": inner.to_string()})
}

fn by_event_bridge(bucket: &str, key: &str) -> Value {
    json!({"version": "0", "source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}, "reason": "PutObject"}})
}

/// The same event in each known envelope.
fn envelopes(bucket: &str, key: &str) -> Vec<Value> {
    let (plain, bridge) = (created(bucket, key), by_event_bridge(bucket, key));
    vec![plain.clone(), by_sns(&plain), bridge.clone(), by_sns(&bridge)]
}

fn test_event() -> Value {
    json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "memory"})
}
