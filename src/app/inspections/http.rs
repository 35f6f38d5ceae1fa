//! An inspector behind HTTP. It receives a signed POST with a URL of the file, as in Standard
//! Webhooks.

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretSlice};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use super::{ExamineError, Examiner, File, Opinion, clean};
use crate::app::App;
use crate::app::webhooks::signature;
use crate::domain::inspection::{Annotation, Verdict};
use crate::domain::webhook;
use crate::net::OutboundClient;
use crate::storage::signer::GetRequest;
use crate::telemetry::chain;

/// The `type` of the message.
const EVENT: &str = "upload.inspect";

/// The maximum size of one inspector's annotations, in bytes of JSON.
pub const MAX_ANNOTATION: usize = 16 * 1024;

/// Examines files with a service of the operator.
#[derive(Debug)]
pub struct HttpExaminer {
    /// The URL that inspections are posted to.
    pub url: Url,
    /// The key that bodies are signed with.
    pub secret: SecretSlice<u8>,
    /// Sends the requests. It does not follow redirects.
    pub client: OutboundClient,
}

/// The body of a response.
#[derive(Debug, Deserialize)]
struct Response {
    verdict: Decision,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    annotations: Option<Annotation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Accept,
    Reject,
    Defer,
}

impl HttpExaminer {
    async fn message(&self, app: &App, file: File<'_>) -> Result<String, crate::app::AppError> {
        let (_, store) = app.rules_of(file.upload).await?;
        let version_id = file.facts.version_id.clone();
        let request = GetRequest { version_id, ..GetRequest::default() };
        let now = app.now();
        let key = file.upload.key.as_str();
        let download = store.signer.get(key, &request, now, file.deadline).await?;
        let data = json!({
            "inspector": file.inspector,
            "etag": file.facts.etag,
            "version_id": file.facts.version_id,
            "upload": webhook::data(file.upload),
            "download": {"url": download.url, "expires_at": download.expires_at},
        });
        Ok(json!({"type": EVENT, "timestamp": now, "data": data}).to_string())
    }
}

#[async_trait]
impl Examiner for HttpExaminer {
    async fn examine(&self, app: &App, file: File<'_>) -> Result<Opinion, ExamineError> {
        let failed = |error: crate::app::AppError| ExamineError::Failed(chain(&error));
        let body = self.message(app, file).await.map_err(failed)?;
        let id = message_id(file).to_string();
        let at = app.now().timestamp().to_string();
        let signed = signature(self.secret.expose_secret(), &id, &at, &body).map_err(failed)?;
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("user-agent", "upload-coordinator"),
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signed.as_str()),
        ];
        let response = self.client.post(&self.url, headers, Bytes::from(body)).await;
        let response = response.map_err(|error| ExamineError::Failed(chain(&error)))?;
        if response.status != 200 {
            return Err(ExamineError::Failed(format!("HTTP {}", response.status)));
        }
        read(&response.body).map_err(ExamineError::Failed)
    }
}

/// Returns the same id for each attempt with the same bytes.
fn message_id(file: File<'_>) -> Uuid {
    let version = file.facts.version_id.as_deref().unwrap_or_default();
    let text = format!("{}\n{}\n{}\n{version}", file.inspector, file.upload.id, file.facts.etag);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Parses a response. Anything except a verdict is an error, and never an acceptance.
fn read(body: &[u8]) -> Result<Opinion, String> {
    let no_verdict = |error| format!("the response is not a verdict: {error}");
    // Parsed as an object first: serde would also accept an array with the members in order.
    let object: Annotation = serde_json::from_slice(body).map_err(no_verdict)?;
    let Response { verdict, reason, annotations } =
        serde_json::from_value(object.into()).map_err(no_verdict)?;
    let annotation = annotations.unwrap_or_default();
    check_annotation(&annotation)?;
    let reason = reason.map(clean).filter(|reason| !reason.trim().is_empty());
    Ok(match verdict {
        Decision::Accept => Opinion::Verdict(Verdict::Accept, annotation),
        Decision::Reject => {
            let reason = reason.unwrap_or_else(|| "rejected".to_owned());
            Opinion::Verdict(Verdict::Reject(reason), annotation)
        }
        Decision::Defer => Opinion::Deferred,
    })
}

/// Refuses annotations that are too large to store with each upload.
pub(super) fn check_annotation(annotation: &Annotation) -> Result<(), String> {
    let size = serde_json::to_vec(annotation).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_ANNOTATION {
        return Err(format!("annotations of {size} bytes exceed the limit of {MAX_ANNOTATION}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_response_is_a_verdict() {
        let said = |body: &str| read(body.as_bytes());
        let accept = Opinion::Verdict(Verdict::Accept, Annotation::new());
        assert_eq!(said(r#"{"verdict": "accept"}"#), Ok(accept.clone()));
        assert_eq!(said(r#"{"verdict": "accept", "reason": null, "more": 1}"#), Ok(accept));
        assert_eq!(said(r#"{"verdict": "defer"}"#), Ok(Opinion::Deferred));
        let rejected = |reason: &str| {
            Ok(Opinion::Verdict(Verdict::Reject(reason.to_owned()), Annotation::new()))
        };
        assert_eq!(said(r#"{"verdict": "reject"}"#), rejected("rejected"));
        assert_eq!(said(r#"{"verdict": "reject", "reason": "a\u0000b"}"#), rejected("a b"));
        for garbage in [
            "",
            "{}",
            "[]",
            r#"["accept"]"#,
            "null",
            "accept",
            r#""accept""#,
            r#"{"verdict": "ok"}"#,
            r#"{"verdict": "Accept"}"#,
            r#"{"verdict": true}"#,
            r#"{"verdict": "accept"} x"#,
            r#"{"verdict": "accept", "annotations": []}"#,
            r#"{"verdict": "accept""#,
            r#"{"verdict": "accept", "reason": 1}"#,
            "<html>accept</html>",
        ] {
            assert!(said(garbage).is_err(), "{garbage}");
        }
        let long = "x".repeat(MAX_ANNOTATION);
        assert!(
            said(&json!({"verdict": "accept", "annotations": {"a": long}}).to_string()).is_err()
        );
    }
}
