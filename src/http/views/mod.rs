//! What clients see: the wire shapes, mapped field by field from the domain, so that a
//! new field there breaks the build here.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::{Page, Seal};

mod multipart;
mod runs;
mod tracks;
mod uploads;

pub use multipart::{HeldPartsView, MultipartView, SignedPartsView};
pub use runs::{FindingView, RunView};
pub use tracks::{FileUrlView, PresignedUrlView, TrackView};
pub use uploads::{ChecksumView, RequestView, StatusName, UploadView};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView<T> {
    /// The rows.
    pub items: Vec<T>,
    /// For `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// A page, each row mapped, its cursor sealed.
    pub fn of<R>(page: Page<R>, view: impl FnMut(R) -> T, seal: &Seal) -> Self {
        let Page { items, next } = page.map(view);
        Self { items, next_cursor: next.map(|cursor| cursor.encode(seal)) }
    }
}
