//! Attachments.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{StatusName, UploadView};
use crate::app::App;
use crate::app::attachments::AttachmentUploads;
use crate::domain::Attachment;

/// The file of a subject.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attachment)]
pub struct AttachmentView {
    /// The subject.
    #[schema(example = "album:42:cover")]
    pub subject: String,
    /// The status of the newest upload.
    #[schema(required, value_type = Option<StatusName>)]
    pub status: Option<&'static str>,
    /// The newest upload.
    #[schema(required)]
    pub upload: Option<UploadView>,
    /// The verified upload whose file is served. Null if no upload is verified yet.
    #[schema(required)]
    pub current: Option<UploadView>,
    /// When the attachment last changed.
    pub updated_at: DateTime<Utc>,
}

impl AttachmentView {
    /// The view of an attachment and its uploads.
    pub fn of(of: AttachmentUploads, app: &App) -> Self {
        let view = |upload| UploadView::of(upload, app);
        let AttachmentUploads { attachment, latest, current } = of;
        let Attachment { owner: _, subject, latest_upload: _, current: _, status, updated_at } =
            attachment;
        Self {
            subject: subject.to_string(),
            status: status.map(crate::domain::Status::name),
            upload: latest.map(view),
            current: current.map(view),
            updated_at,
        }
    }
}
