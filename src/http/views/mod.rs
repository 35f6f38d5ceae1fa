//! The JSON of responses. Each view maps a domain value field by field, so that a new field of the
//! domain is a compile error until a view includes or ignores it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::{CursorKey, Page};

mod annotations;
mod attachments;
mod batches;
mod history;
mod instance;
mod multipart;
mod names;
mod runs;
mod tracks;
mod upload_tokens;
mod uploads;

pub use annotations::{AnnotationsView, MediaView, TagsView};
pub use attachments::AttachmentView;
pub use batches::{BatchResultView, BatchResultsView};
pub use history::{HistoryView, StatusChangeView};
pub use instance::InstanceView;
pub use multipart::{HeldPartsView, MultipartView, SignedPartsView};
pub(in crate::http) use names::named_values;
pub use names::{
    AUTO, AlgorithmName, ConfirmedByName, DeliveryStatusName, FindingKindName, MediaKindName,
    ReasonName, RunMode, RunStatusName, RunTrigger, StatusName, StrategyName, StrategyOption,
    TrackStatusName, VERDICTS, VerdictName,
};
pub use runs::{FindingView, MoveView, RunView};
pub use tracks::{FileUrlView, PresignedUrlView, TrackView};
pub use upload_tokens::{IssuedTokenView, UploadTokenView};
pub use uploads::{ChecksumView, RequestView, UploadView};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView<T> {
    /// The items.
    pub items: Vec<T>,
    /// The value of `cursor` for the next page. Null on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// The page of views, with a signed cursor.
    pub fn of<R>(page: Page<R>, view: impl FnMut(R) -> T, cursor_key: &CursorKey) -> Self {
        let Page { items, next } = page.map(view);
        Self { items, next_cursor: next.map(|cursor| cursor.encode(cursor_key)) }
    }
}
