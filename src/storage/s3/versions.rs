//! Versions of objects, in buckets with versioning.
//!
//! In such a bucket, a DELETE of a key only hides the object: it adds a delete marker. The response
//! to the DELETE shows this, and so this module knows that a bucket has versioning. In a bucket
//! without versioning, no further requests are needed.

use aws_sdk_s3::operation::delete_object::DeleteObjectOutput;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{ChecksumMode, Delete, EncodingType, ObjectIdentifier};

use super::S3;
use super::conversions::{decode, meta};
use super::errors::{status, store_error};
use super::objects::refused;
use crate::domain::limits::MAX_PAGE;
use crate::storage::{ObjectMeta, Result, StoreError};

/// The largest number of pages of versions that one deletion removes: 100,000 versions. The next
/// deletion continues.
const MAX_VERSION_PAGES: usize = 100;

/// The id of an object without a version: it was written before versioning was enabled, or while it
/// was suspended. Such an object can be replaced without a new id, so this id proves nothing.
const NO_VERSION: &str = "null";

/// The version's id, if the bucket has versioning.
pub(super) fn id(version_id: Option<String>) -> Option<String> {
    version_id.filter(|version| version != NO_VERSION)
}

/// Whether a DELETE only hid the object.
pub(super) fn are_left(deleted: &DeleteObjectOutput) -> bool {
    deleted.delete_marker() == Some(true) || deleted.version_id().is_some()
}

impl S3 {
    /// A HEAD of one version. Also returns `None` if the store refuses the id as malformed, because
    /// the id may come from another store, from which the bucket was moved.
    pub(super) async fn head_one_version(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<ObjectMeta>> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).version_id(version_id);
        match head.checksum_mode(ChecksumMode::Enabled).send().await {
            // A store without versions ignores the id and returns the object.
            Ok(head) => {
                let found = meta(head)?;
                Ok(Some(found).filter(|found| found.version_id.as_deref() == Some(version_id)))
            }
            // 405 is the response for a delete marker.
            Err(error) if matches!(status(&error), Some(400 | 404 | 405)) => Ok(None),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Deletes all versions and delete markers of a key. Costs a LIST and a batch deletion for
    /// each 1,000 of them.
    pub(super) async fn delete_versions(&self, key: &str) -> Result<()> {
        for _ in 0..MAX_VERSION_PAGES {
            let list = self.client.list_object_versions().bucket(&self.bucket).prefix(key);
            let list = list.encoding_type(EncodingType::Url).max_keys(1000);
            let page = list.send().await.map_err(store_error)?;
            let versions = versions_of(&page, key)?;
            if versions.is_empty() {
                return Ok(());
            }
            self.delete_each(key, &versions).await?;
            // Longer keys that begin with this key are listed after it.
            let listed = page.versions().len() + page.delete_markers().len();
            if page.is_truncated() != Some(true) || versions.len() < listed {
                return Ok(());
            }
        }
        let what = format!("more than {} versions of one key", MAX_VERSION_PAGES * MAX_PAGE);
        Err(StoreError::Unavailable(what.into()))
    }

    async fn delete_each(&self, key: &str, versions: &[String]) -> Result<()> {
        let mut delete = Delete::builder().quiet(true);
        for version in versions {
            let id = ObjectIdentifier::builder().key(key).version_id(version).build();
            delete = delete.objects(id.map_err(|error| refused("InvalidRequest", error))?);
        }
        let delete = delete.build().map_err(|error| refused("InvalidRequest", error))?;
        let call = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let deleted = call.send().await.map_err(store_error)?;
        let mut errors = deleted.errors().iter();
        let gone = |code: Option<&str>| matches!(code, Some("NoSuchKey" | "NoSuchVersion"));
        let Some(error) = errors.find(|error| !gone(error.code())) else { return Ok(()) };
        let why = error.message().unwrap_or("a version was not deleted").to_owned();
        Err(match error.code() {
            Some("AccessDenied") => StoreError::AccessDenied(why.into()),
            code => refused(code.unwrap_or("Unknown"), why),
        })
    }
}

/// The ids of the versions and delete markers of exactly this key.
fn versions_of(page: &ListObjectVersionsOutput, key: &str) -> Result<Vec<String>> {
    let encoded = page.encoding_type() == Some(&EncodingType::Url);
    let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
    let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
    let mut ids = Vec::new();
    for (listed, id) in versions.chain(markers) {
        let listed = listed.unwrap_or_default();
        let listed = if encoded { decode(listed)? } else { listed.to_owned() };
        if listed == key {
            ids.push(id.unwrap_or(NO_VERSION).to_owned());
        }
    }
    Ok(ids)
}
