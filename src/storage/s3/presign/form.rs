//! The policy of a form upload (S3 API reference, "POST Policy" and "Browser-Based Uploads
//! Using POST").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::sigv4::{ALGORITHM, DayKey, time_stamp};
use super::{PostRequest, SignError, clean, meta_name};
use crate::domain::clock::Timestamp;
use crate::storage::s3::object_headers;

/// The fields in form order. Every field except the signature and the policy itself is a
/// condition of the policy: stores refuse fields without a condition.
pub(super) fn fields(
    bucket: &str,
    key: &str,
    request: &PostRequest,
    day_key: &DayKey,
    at: Timestamp,
    expires_at: Timestamp,
) -> Result<Vec<(String, String)>, SignError> {
    let mut fields = vec![("key".to_owned(), key.to_owned())];
    if let Some(content_type) = &request.content_type {
        fields.push(("Content-Type".into(), clean("content-type", content_type)?));
    }
    for (name, value) in &request.metadata {
        fields.push((meta_name(name)?, clean(name, value)?));
    }
    for (name, value) in object_headers::fields(&request.object) {
        fields.push((name.to_owned(), value));
    }
    if request.with_location {
        fields.push(("success_action_status".into(), "201".into()));
    }
    fields.push(("X-Amz-Algorithm".into(), ALGORITHM.into()));
    fields.push(("X-Amz-Credential".into(), day_key.credential.clone()));
    fields.push(("X-Amz-Date".into(), time_stamp(at)));
    if let Some(token) = &day_key.token {
        fields.push(("X-Amz-Security-Token".into(), token.clone()));
    }

    let mut conditions = vec![json!({ "bucket": bucket })];
    conditions.extend(fields.iter().map(|(name, value)| json!(["eq", format!("${name}"), value])));
    if let Some((least, greatest)) = request.size {
        conditions.push(json!(["content-length-range", least, greatest]));
    }
    let policy = json!({
        "expiration": expires_at.format("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
        "conditions": Value::Array(conditions),
    });
    let policy = STANDARD.encode(policy.to_string());
    let signature = day_key.signature(&policy);
    fields.push(("policy".into(), policy));
    fields.push(("X-Amz-Signature".into(), signature));
    Ok(fields)
}
