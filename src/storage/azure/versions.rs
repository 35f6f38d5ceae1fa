//! Accounts with versioning: a deleted blob keeps its versions.

use super::Azure;
use super::client::{About, Call};
use super::objects::{meta, name};
use crate::domain::limits::MAX_PAGE;
use crate::storage::{ObjectMeta, Result, StoreError};

impl Azure {
    pub(super) async fn head_one_version(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<ObjectMeta>> {
        let call = Call::new("HEAD", About::Blob(key)).query("versionid", version_id);
        match self.client.send(&call).await {
            // A store without versions may ignore the id.
            Ok(response) => {
                let meta = meta(&response)?;
                Ok(Some(meta).filter(|meta| meta.version_id.as_deref() == Some(version_id)))
            }
            // 400: the text does not have the format of a version id.
            Err(error) if error.is_not_found() || error.status == Some(400) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes all versions of a blob that has no current version any more.
    pub(super) async fn delete_versions(&self, key: &str) -> Result<()> {
        let mut marker = None;
        loop {
            let page = self.page(key, marker.as_deref(), MAX_PAGE, Some("versions")).await?;
            for blob in &page.0 {
                if name(blob)? != key {
                    continue;
                }
                let current = blob.text_of("IsCurrentVersion") == Some("true");
                match blob.text_of("VersionId") {
                    Some(version) if !current => self.delete_one(key, Some(version)).await?,
                    // Somebody wrote the blob again during the deletion.
                    Some(_) => return Err(StoreError::PreconditionFailed),
                    None => {}
                }
            }
            match page.1 {
                Some(next) => marker = Some(next),
                None => return Ok(()),
            }
        }
    }
}
