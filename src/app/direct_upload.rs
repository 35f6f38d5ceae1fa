//! Direct uploads, for clients that cannot reach the store: the service streams the bytes to the
//! store. The memory for each upload is about one part, for any size of the file. All uploads share
//! a few permits for more parts, so that a single upload sends several at once.
//!
//! The row is committed before the first byte is stored. If the first part breaks a rule, nothing
//! is stored. If a transfer fails later, its parts are aborted. An upload that was created for the
//! transfer is cancelled; an upload that existed before ([`content`]) does not change.

mod content;
mod file;
mod parts;
mod receive;
mod transfer;

use bytes::Bytes;
use futures_util::Stream;

use self::file::File;
use self::transfer::Transfer;
use super::create_upload::{NewUpload, record_created};
use super::tracks::WithUpload;
use super::{App, AppError, Result};
use crate::domain::checksum::Checksum;
use crate::domain::inspection::Annotations;
use crate::domain::sniff;
use crate::domain::transition::{Event, Observation};
use crate::domain::upload::{ConfirmedBy, Declared, ObjectFacts, Strategy};
use crate::domain::{Owner, Policy, PolicyName, Status, Subject, TrackId, Upload, UploadId};
use crate::storage::Written;

/// A request for a direct upload, without the bytes of the file.
#[derive(Debug, Clone)]
pub struct DirectUpload {
    /// The track that the file is for.
    pub track: TrackId,
    /// The policy; `tracks` by default.
    pub policy: Option<PolicyName>,
    /// The file's name.
    pub filename: String,
    /// The file's properties.
    pub sent: SentFile,
}

/// The properties of a file, as the client sends them with its bytes.
#[derive(Debug, Default, Clone)]
pub struct SentFile {
    /// The file's media type, if the client sent one.
    pub content_type: Option<String>,
    /// The file's length in bytes, if the client sent it.
    pub length: Option<u64>,
    /// Checksums of the file that the client sent.
    pub digests: Vec<Checksum>,
}

impl App {
    /// Stores the file of a track from a stream of its bytes.
    ///
    /// # Errors
    /// Fails if the file breaks a rule, if the upload was ended in the meantime
    /// ([`AppError::UploadEnded`]), or if the body, the store or the database fails.
    pub async fn direct_upload<B>(
        &self,
        owner: &Owner,
        request: DirectUpload,
        body: B,
    ) -> Result<WithUpload>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        self.require_direct()?;
        let policy = self.policy(request.policy.as_ref())?;
        let store = self.store_of(policy)?;
        let SentFile { content_type, length, digests } = request.sent;
        let content_type = sniff::informative(content_type.as_deref());
        let declared = Declared {
            filename: Some(request.filename),
            content_type: None,
            size: length,
            checksum: None,
            max_size: None,
        };
        policy.check_declared(&declared, "file")?;
        check_media_type(policy, content_type.as_deref())?;
        let location = self.current_location(policy).await?.number;
        self.require_bucket(policy, location)?;
        self.db.tracks().find(owner, request.track).await?.ok_or(AppError::NotFound("track"))?;

        let (part_size, checked) =
            (self.direct.part_size_for(store), store.capabilities.checked_parts);
        let mut file = File::new(body, policy, part_size, length, digests, checked);
        let first = file.next_part().await?;
        file.check_start(&declared, &first)?;
        let new = NewUpload {
            declared: Declared { content_type, ..declared },
            strategy: Some(Strategy::Direct),
            ..NewUpload::default()
        };
        let target = (policy, store, location);
        let upload = self.new_upload(UploadId(self.ids.uuid()), owner, target, new, policy.url_ttl);
        let upload =
            self.db.uploads().create(upload, Some(Subject::of_track(request.track))).await?;
        let upload = upload.ok_or(AppError::NotFound("track"))?;
        record_created(&upload);

        let mut transfer = Transfer::new(self, store, policy, upload);
        match transfer.store(&mut file, first).await {
            Ok(written) => self.record_file(transfer.upload, written, file).await?,
            Err(error) => {
                transfer.abandon().await;
                return Err(error);
            }
        };
        self.track(owner, request.track).await
    }

    pub(super) fn require_direct(&self) -> Result<()> {
        if self.direct.enabled {
            return Ok(());
        }
        Err(AppError::Disabled("direct uploads are disabled; direct_upload.enabled enables them"))
    }

    /// Records the file that was stored.
    async fn record_file<B>(
        &self,
        upload: Upload,
        written: Written,
        file: File<'_, B>,
    ) -> Result<Upload> {
        let facts = ObjectFacts {
            etag: written.etag,
            version_id: written.version_id,
            size: file.size,
            content_type: file.media_type.clone().or(upload.declared.content_type.clone()),
            checksum: file.checksum(),
        };
        let by = ConfirmedBy::Direct;
        let event = Event::Observed(Observation {
            facts,
            verdict: Ok(()),
            by,
            annotations: Annotations::new(),
        });
        let upload = self.apply(upload, &event).await?.upload;
        // `removed` is no error: a newer upload of the track was verified first.
        if !matches!(upload.status(), Status::Inspecting | Status::Uploaded | Status::Removed) {
            return Err(AppError::UploadEnded);
        }
        Ok(upload)
    }
}

fn check_media_type(policy: &Policy, content_type: Option<&str>) -> Result<()> {
    let declared =
        Declared { content_type: content_type.map(str::to_owned), ..Declared::default() };
    policy.check_declared(&declared, "file").map_err(|_| {
        let allowed = policy.allowed_content_types.join(", ");
        AppError::MediaType(format!("Content-Type must be one of: {allowed}"))
    })
}
