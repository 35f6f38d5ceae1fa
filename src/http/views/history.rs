//! The history of an upload.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ReasonName, StatusName};
use crate::domain::StatusChange;

/// The history of an upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UploadHistory)]
pub struct HistoryView {
    /// The changes of its status, oldest first.
    pub items: Vec<StatusChangeView>,
}

/// A change of an upload's status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatusChange)]
pub struct StatusChangeView {
    /// When the change was committed.
    pub at: DateTime<Utc>,
    /// The status before.
    #[schema(value_type = StatusName)]
    pub from: &'static str,
    /// The status after.
    #[schema(value_type = StatusName)]
    pub to: &'static str,
    /// Who caused the change: `client`, `confirm`, `event`, `scan`, `direct`, `retention`,
    /// `inspector:<name>` or `admin:<owner>`.
    #[schema(example = "scan")]
    pub by: String,
    /// Why the upload was rejected or removed.
    #[schema(required, value_type = Option<ReasonName>)]
    pub reason: Option<String>,
    /// Why the status changed, as a sentence.
    #[schema(example = "File is larger than max_size=1048576")]
    pub detail: String,
}

impl From<Vec<StatusChange>> for HistoryView {
    fn from(changes: Vec<StatusChange>) -> Self {
        Self { items: changes.into_iter().map(Into::into).collect() }
    }
}

impl From<StatusChange> for StatusChangeView {
    fn from(change: StatusChange) -> Self {
        let detail = change.explanation().to_owned();
        let StatusChange { at, from, to, by, reason, detail: _ } = change;
        Self { at, from: from.name(), to: to.name(), by, reason, detail }
    }
}
