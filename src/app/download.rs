//! Downloads of files, by a signed URL or through this service. Only verified files can be
//! downloaded.

use super::{App, AppError, Result};
use crate::domain::policy::DOWNLOAD_TTL;
use crate::domain::transition::Event;
use crate::domain::upload::{ConfirmedBy, Strategy};
use crate::domain::{Owner, Policy, Principal, Status, Subject, TrackId, Upload, UploadId};
use crate::storage::signer::{GetRequest, SignedRequest};
use crate::storage::{ByteStream, Store, StoreError};

/// Only the client may cache the file, because the URL belongs to one user.
const CACHE_CONTROL: &str = "private";

/// The language tag for an undetermined language (BCP 47).
const UNKNOWN_LANGUAGE: &str = "und";

/// The media type of a file whose type is unknown.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A file that is read through this service.
pub struct StoredFile {
    /// The value of `Content-Disposition`.
    pub content_disposition: String,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes.
    pub bytes: ByteStream,
}

impl App {
    /// A signed GET of the current file of a track.
    pub async fn track_file(&self, owner: &Owner, id: TrackId) -> Result<SignedRequest> {
        let track = self.db.tracks().find(owner, id).await?.ok_or(AppError::NotFound("track"))?;
        self.current_file(owner, track.current_upload, track.status).await
    }

    /// A signed GET of the current file of a subject.
    pub async fn attachment_file(&self, owner: &Owner, subject: &Subject) -> Result<SignedRequest> {
        let attachment = self.db.attachments().find(owner, subject).await?;
        let attachment = attachment.ok_or(AppError::NotFound("attachment"))?;
        let current = attachment.current.map(|current| current.upload);
        self.current_file(owner, current, attachment.status).await
    }

    /// A signed GET of the object of the current upload. If there is none, `status` decides the
    /// error. It is the status of the newest upload, whose file may not be verified yet.
    async fn current_file(
        &self,
        owner: &Owner,
        current: Option<UploadId>,
        status: Option<Status>,
    ) -> Result<SignedRequest> {
        let nothing = || match status {
            Some(Status::Pending) => AppError::FilePending,
            Some(Status::Inspecting) => AppError::FileInspecting,
            _ => AppError::NotFound("file"),
        };
        let current = current.ok_or_else(nothing)?;
        let upload = self.db.uploads().find(owner, current).await?.ok_or_else(nothing)?;
        self.sign_file(upload).await
    }

    /// A signed GET of an upload's file.
    pub async fn upload_file(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<SignedRequest> {
        self.sign_file(with_file(self.upload(by, id).await?)?).await
    }

    /// The bytes of an upload's file, for clients that cannot follow a redirect to the store.
    pub async fn read_file(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<StoredFile> {
        let upload = with_file(self.upload(by, id).await?)?;
        let upload = with_file(self.check_not_changed(upload).await?)?;
        let facts = upload.state.facts().ok_or(AppError::NotFound("file"))?;
        let (_, store) = self.rules_of(&upload).await?;
        let bytes = match store.objects.read_all(upload.key.as_str(), &facts.etag).await {
            // The object was deleted or replaced after the check.
            Err(StoreError::PreconditionFailed) => return Err(AppError::NotFound("file")),
            bytes => bytes?,
        };
        Ok(StoredFile {
            content_disposition: content_disposition(upload.declared.filename.as_deref()),
            content_type: facts.content_type.clone().unwrap_or_else(|| UNKNOWN_TYPE.to_owned()),
            size: facts.size,
            bytes,
        })
    }

    /// Signs a GET of the verified object. If another object has replaced it, signs nothing.
    async fn sign_file(&self, upload: Upload) -> Result<SignedRequest> {
        let upload = with_file(self.check_not_changed(upload).await?)?;
        let (_, store) = self.rules_of(&upload).await?;
        let facts = upload.state.facts();
        // A client can store any value of these headers with the object, so the signed URL
        // overrides all of them.
        let content_type = facts.and_then(|facts| facts.content_type.clone());
        let request = GetRequest {
            content_disposition: Some(content_disposition(upload.declared.filename.as_deref())),
            content_type: Some(content_type.unwrap_or_else(|| UNKNOWN_TYPE.to_owned())),
            cache_control: Some(CACHE_CONTROL.to_owned()),
            content_language: Some(UNKNOWN_LANGUAGE.to_owned()),
            version_id: facts.and_then(|facts| facts.version_id.clone()),
        };
        Ok(store.signer.get(upload.key.as_str(), &request, self.now(), DOWNLOAD_TTL).await?)
    }

    /// Observes the object if it may no longer be the verified one, and applies a change at once.
    /// Returns the upload with the object that is stored now.
    async fn check_not_changed(&self, upload: Upload) -> Result<Upload> {
        if !self.may_be_changed(&upload).await? {
            return Ok(upload);
        }
        let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
        // Only the reconciler records a loss, because it checks that the bucket is the right one.
        let Event::Observed(seen) = &event else { return Err(AppError::NotFound("file")) };
        let stored = seen.facts.etag.clone();
        let upload = self.apply_within_limit(upload, &event).await?.upload;
        // If the change is refused or withheld, the row does not describe the stored bytes.
        if upload.state.facts().is_some_and(|facts| facts.etag != stored) {
            return Err(AppError::NotFound("file"));
        }
        Ok(upload)
    }

    /// Whether the bytes that would be served may not be the verified ones. A version never
    /// changes, but the bucket's lifecycle rules or an operator may remove it. So each download
    /// from a bucket with versioning costs one HEAD.
    async fn may_be_changed(&self, upload: &Upload) -> Result<bool> {
        let (policy, store) = self.rules_of(upload).await?;
        let Some(facts) = upload.state.facts() else { return Ok(false) };
        let Some(version) = &facts.version_id else {
            return Ok(self.may_be_overwritten(upload, policy, store));
        };
        let found = store.objects.head_version(upload.key.as_str(), version).await?;
        Ok(found.is_none_or(|meta| meta.etag != facts.etag))
    }

    /// Whether a PUT with the upload's URL can replace the object. The store checks the URL's
    /// expiry when a PUT starts, and replaces the object when it ends.
    pub(crate) fn may_be_overwritten(
        &self,
        upload: &Upload,
        policy: &Policy,
        store: &Store,
    ) -> bool {
        let once = match upload.strategy {
            // Parts become an object only when this service completes the upload.
            Strategy::Multipart => !store.capabilities.part_urls_write_objects,
            Strategy::Tus => true,
            Strategy::Put | Strategy::Post | Strategy::Direct => {
                upload.write_once && store.capabilities.write_once_is_effective()
            }
        };
        !once && self.now() <= upload.url_expires_at + policy.replacement_window()
    }
}

/// Returns the upload if its file is served, otherwise the error for the client.
fn with_file(upload: Upload) -> Result<Upload> {
    match upload.status() {
        Status::Uploaded => Ok(upload),
        Status::Pending => Err(AppError::FilePending),
        Status::Inspecting => Err(AppError::FileInspecting),
        _ => Err(AppError::NotFound("file")),
    }
}

/// `attachment` with the filename in both forms of RFC 6266: plain ASCII for old clients, and
/// RFC 8187 for all of Unicode.
fn content_disposition(filename: Option<&str>) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    // RFC 8187, 3.2.1: attr-char.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'!')
        .remove(b'#')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b'-')
        .remove(b'.')
        .remove(b'^')
        .remove(b'_')
        .remove(b'`')
        .remove(b'|')
        .remove(b'~');
    let Some(name) = filename else { return "attachment".to_owned() };
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' }
        })
        .collect();
    let whole = utf8_percent_encode(name, ESCAPED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}")
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::content_disposition;

    proptest! {
        #[test]
        fn a_filename_stays_in_its_quotes_and_is_transferred_completely(name in ".{0,80}") {
            let header = content_disposition(Some(&name));
            prop_assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", header);
            let inside = header.strip_prefix("attachment; filename=\"").unwrap();
            let (plain, whole) = inside.split_once("\"; filename*=UTF-8''").unwrap();
            prop_assert!(!plain.contains(['"', '\\', '%']));
            let attr_chars = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&b);
            prop_assert!(whole.bytes().all(attr_chars), "{}", whole);
            prop_assert_eq!(percent_decode_str(whole).decode_utf8().unwrap(), name);
        }
    }

    #[test]
    fn filenames_are_encoded_in_both_forms() {
        assert_eq!(content_disposition(None), "attachment");
        assert_eq!(
            content_disposition(Some("a \"b\".mp3")),
            "attachment; filename=\"a _b_.mp3\"; filename*=UTF-8''a%20%22b%22.mp3"
        );
        assert_eq!(
            content_disposition(Some("Ü€😀.mp3")),
            "attachment; filename=\"___.mp3\"; filename*=UTF-8''%C3%9C%E2%82%AC%F0%9F%98%80.mp3"
        );
    }
}
