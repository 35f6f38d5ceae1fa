//! `POST /api/uploads/{id}/verdicts`

use actix_web::web::Data;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::UploadId;
use crate::domain::inspection::{Inspected, InspectorName, Verdict};
use crate::domain::policy::FieldErrors;
use crate::http::HttpState;
use crate::http::extract::text::{REQUIRED, record_error, refuse_control};
use crate::http::extract::{Id, Json};
use crate::http::openapi::{BadBody, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::{UploadView, VERDICTS, VerdictName};

/// The longest ETag or version, in bytes.
const MAX_TEXT: usize = 1024;

/// The verdict of an inspector about a file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewVerdict, example = json!({"inspector": "acme",
    "etag": "900150983cd24fb0d6963f7d28e17f72", "verdict": "reject", "reason": "Not a song"}))]
pub struct VerdictBody {
    /// The name of the inspector.
    #[schema(required, value_type = String, min_length = 1, max_length = 1024)]
    inspector: Option<String>,
    /// The ETag of the inspected object, as in the message to the inspector.
    #[schema(required, value_type = String, min_length = 1, max_length = 1024)]
    etag: Option<String>,
    /// The version of the inspected object, as in the message to the inspector.
    #[schema(max_length = 1024)]
    version_id: Option<String>,
    /// The verdict.
    #[schema(required, value_type = VerdictName)]
    verdict: Option<String>,
    /// Why the file is rejected. The text is cut after 500 bytes.
    reason: Option<String>,
    /// The additional results of the inspector, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    annotations: Option<Map<String, Value>>,
}

impl TryFrom<VerdictBody> for Inspected {
    type Error = FieldErrors;

    fn try_from(body: VerdictBody) -> Result<Self, FieldErrors> {
        let VerdictBody { inspector, etag, version_id, verdict, reason, annotations } = body;
        let mut errors = FieldErrors::default();
        let mut text = |field, value: Option<String>| {
            record_error(value.ok_or(REQUIRED.to_owned()).and_then(short), field, &mut errors)
        };
        let inspector = text("inspector", inspector);
        let etag = text("etag", etag);
        let version_id = version_id.and_then(|version| text("version_id", Some(version)));
        let verdict = verdict.ok_or(REQUIRED.to_owned()).and_then(|name| read(&name, reason));
        let verdict = record_error(verdict, "verdict", &mut errors);
        errors.into_result()?;
        // None of these fields is missing, because that would be an error.
        Ok(Self {
            inspector: InspectorName::new(inspector.unwrap_or_default()),
            etag: etag.unwrap_or_default(),
            version_id,
            verdict: verdict.unwrap_or(Verdict::Accept),
            annotation: annotations.unwrap_or_default(),
            forced_by: None,
            backfill: false,
        })
    }
}

fn short(text: String) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(format!("Must be 1 to {MAX_TEXT} bytes long"));
    }
    refuse_control(&text)?;
    Ok(text)
}

fn read(name: &str, reason: Option<String>) -> Result<Verdict, String> {
    match name {
        "accept" => Ok(Verdict::Accept),
        "reject" => Ok(Verdict::Reject(reason.unwrap_or_else(|| "rejected".to_owned()))),
        _ => Err(format!("Must be one of: {}", VERDICTS.join(", "))),
    }
}

/// Send the verdict of an inspector
///
/// Used by an inspector that responded `defer`, and by an operator who decides about a file that an
/// inspector cannot examine. The verdict is about the object with this ETag and version. If the
/// upload has another object now, or does not wait for the inspector, nothing changes. To find out,
/// compare `etag` and `status` in the response.
#[utoipa::path(post, path = "/api/uploads/{id}/verdicts", operation_id = "submit_verdict",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload, of any owner")),
    request_body = VerdictBody,
    responses((status = 200, description = "The upload after the verdict", body = UploadView),
        BadBody, NotFound))]
pub async fn handle(
    Id(id): Id<UploadId>,
    Json(body): Json<VerdictBody>,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    let inspected = Inspected::try_from(body).map_err(crate::app::AppError::from)?;
    let upload = state.app.submit_verdict(id, inspected).await?;
    Ok(Json(UploadView::of(upload, &state.app)))
}
