//! Lists a caller's uploads.

use super::{App, Result};
use crate::db::Page;
use crate::db::uploads::UploadFilter;
use crate::domain::{Principal, Upload};

impl App {
    /// A page of a caller's uploads, newest first. `filter.token` is replaced: a caller with an
    /// upload token gets only the uploads of this token.
    pub async fn list_uploads(
        &self,
        by: impl Into<Principal<'_>>,
        filter: &UploadFilter,
    ) -> Result<Page<Upload>> {
        let by = by.into();
        let token = by.token().map(|token| token.id);
        let filter = UploadFilter { token, ..filter.clone() };
        Ok(self.db.uploads().list(by.owner(), &filter).await?)
    }
}
