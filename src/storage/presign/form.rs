//! The policy of a form upload (S3 API reference, "POST Policy" and "Browser-Based Uploads
//! Using POST").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::sigv4::{ALGORITHM, DayKey, time_stamp};
use super::{SignError, clean, meta_name};
use crate::domain::clock::Timestamp;

/// What a form upload must keep to.
#[derive(Debug, Default, Clone)]
pub struct PostTerms {
    /// The form's `Content-Type` field must be this. Where it is `None` the form has none.
    pub content_type: Option<String>,
    /// The least and the greatest size of the file, in bytes, both included. Without it the
    /// store takes files of any size.
    pub size: Option<(u64, u64)>,
    /// Stored with the object, names without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// The fields in the order in which a form has them. Every field but the signature and the
/// policy itself is a condition of the policy: stores refuse fields that are in none.
pub(super) fn fields(
    bucket: &str,
    key: &str,
    terms: &PostTerms,
    day_key: &DayKey,
    at: Timestamp,
    expires_at: Timestamp,
) -> Result<Vec<(String, String)>, SignError> {
    let mut fields = vec![("key".to_owned(), key.to_owned())];
    if let Some(content_type) = &terms.content_type {
        fields.push(("Content-Type".into(), clean("content-type", content_type)?));
    }
    for (name, value) in &terms.metadata {
        fields.push((meta_name(name)?, clean(name, value)?));
    }
    fields.push(("X-Amz-Algorithm".into(), ALGORITHM.into()));
    fields.push(("X-Amz-Credential".into(), day_key.credential.clone()));
    fields.push(("X-Amz-Date".into(), time_stamp(at)));
    if let Some(token) = &day_key.token {
        fields.push(("X-Amz-Security-Token".into(), token.clone()));
    }

    let mut conditions = vec![json!({ "bucket": bucket })];
    conditions.extend(fields.iter().map(|(name, value)| json!(["eq", format!("${name}"), value])));
    if let Some((least, greatest)) = terms.size {
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
