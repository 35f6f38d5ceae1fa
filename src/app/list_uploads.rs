//! Lists an owner's uploads.

use super::{App, Result};
use crate::db::Page;
use crate::db::uploads::UploadFilter;
use crate::domain::{Owner, Upload};

impl App {
    /// A page of an owner's uploads, newest first.
    pub async fn list_uploads(&self, owner: &Owner, filter: &UploadFilter) -> Result<Page<Upload>> {
        Ok(self.db.uploads().list(owner, filter).await?)
    }
}
