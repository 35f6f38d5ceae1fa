//! Uploads that this service receives in pieces of any size, over several requests: tus, and the
//! chunks of `FilePond`.
//!
//! | use case | does |
//! | --- | --- |
//! | [`App::create_tus`] | creates the upload |
//! | [`App::append`] | stores the bytes of one request; the last one completes and verifies the file |
//! | [`App::resume_tus`] | returns how many bytes are stored, after an older writer has saved what it has |
//!
//! The bytes go into the parts of a multipart upload, with about one part in memory for each
//! request. Bytes that are too few for a part are saved as a *tail* before the response is sent. A
//! tail is an object below the policy's prefix (`{prefix}.tails/{upload}/{writer}`). It is not
//! stored in the database, because clients with small chunks send all their bytes this way, and
//! would slow down all other requests. The rows that record where the bytes are ([`Piece`]) are
//! committed after the object is stored, so each row has its object. When the upload ends, its
//! folder is listed and all tails are deleted.
//!
//! One request writes at a time ([`lease`]). An upload that has tails also has a multipart upload.
//! The record of its abort ensures that the tails are deleted, whatever fails.

mod finish;
mod lease;
mod receive;
mod tails;
mod writer;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{Stream, stream};

use self::writer::Writer;
use super::create_upload::NewUpload;
use super::{App, AppError, Result};
use crate::domain::policy::FieldErrors;
use crate::domain::transition::Event;
use crate::domain::tus::PieceChecksum;
use crate::domain::upload::{Declared, RemoveReason, State, Strategy};
use crate::domain::{PolicyName, Principal, Status, Upload, UploadId};

/// Why a request for an upload in pieces failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TusError {
    /// The bytes do not begin where the stored bytes end.
    #[error("the bytes must begin at offset {stored}, where the stored bytes end")]
    Offset {
        /// The number of stored bytes.
        stored: u64,
    },
    /// Another request writes the upload and did not stop in time, or a newer request waits.
    #[error("another request writes this upload; request the offset again and continue there")]
    Busy,
    /// The request has more bytes than the file has, or is allowed to have.
    #[error("the file has more than {limit} bytes")]
    TooLong {
        /// The declared length, or the maximum size.
        limit: u64,
    },
    /// The bytes do not match the checksum. None of them is stored.
    #[error("the bytes do not match the checksum, so none of them is stored; send them again")]
    Checksum,
    /// The upload has ended without a file.
    #[error("the upload is {}; create a new upload", .0.name())]
    Ended(Status),
}

/// The bytes of one request.
#[derive(Debug, Default)]
pub struct Append {
    /// The offset of the first byte.
    pub offset: u64,
    /// The number of bytes, if the client declared it.
    pub size: Option<u64>,
    /// The length of the file, if the client declares it with this request.
    pub length: Option<u64>,
    /// The checksum of the bytes. If it does not match, none of them is stored.
    pub checksum: Option<PieceChecksum>,
    /// Whether the first bytes may be stored already. They are then skipped. Not allowed with a
    /// checksum.
    pub skips_stored: bool,
}

impl Append {
    /// Whether the request can start, if the stored bytes end here.
    fn may_begin_at(&self, stored: u64) -> bool {
        self.offset == stored || (self.skips_stored && self.offset < stored)
    }
}

/// The progress of an upload.
#[derive(Debug)]
pub struct Appended {
    /// The upload. Its state shows whether the file was accepted.
    pub upload: Upload,
    /// The number of stored bytes.
    pub stored: u64,
    /// The length of the file, if the client declared it.
    pub length: Option<u64>,
    /// The client's metadata, exactly as the client sent it.
    pub metadata: Option<String>,
}

impl App {
    /// Creates an upload that is received in pieces. `new.declared.size` is the length of the file,
    /// if the client knows it.
    pub async fn create_tus(
        &self,
        by: impl Into<Principal<'_>>,
        new: NewUpload,
        metadata: Option<String>,
    ) -> Result<Appended> {
        let new = NewUpload { strategy: Some(Strategy::Tus), ..new };
        let upload = self.create_upload(by, new).await?.upload;
        let length = upload.declared.size;
        // If this fails, the upload expires: no client knows it.
        let checked = self.rules_of(&upload).await?.1.capabilities.checked_parts;
        self.db.tus().create(upload.id, length, metadata.clone(), checked).await?;
        Ok(Appended { upload, stored: 0, length, metadata })
    }

    /// Stores the bytes of one request after the stored bytes, and stops an older request that
    /// writes the same upload. If these bytes are the last, it completes the file and verifies it.
    /// `ttl` is how long the upload waits for the next request.
    ///
    /// If the body fails, the bytes received until then are stored, unless the request has a
    /// checksum.
    ///
    /// # Errors
    /// [`AppError::Tus`], or if the body, the store or the database fails.
    pub async fn append<B>(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        request: Append,
        body: B,
        ttl: TimeDelta,
    ) -> Result<Appended>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        match self.write(by.into(), id, ttl).await? {
            Written::Ended(ended) if request.may_begin_at(ended.stored) => Ok(ended),
            Written::Ended(ended) => Err(TusError::Offset { stored: ended.stored }.into()),
            Written::Open(mut writer) => {
                let result = writer.append(request, body).await;
                writer.release().await;
                result
            }
        }
    }

    /// Returns the progress of an upload, after an older request that writes it has saved its
    /// bytes. If all bytes are stored but the last request was interrupted, this completes the
    /// file.
    ///
    /// # Errors
    /// [`AppError::Tus`], or if the store or the database fails.
    pub async fn resume_tus(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        ttl: TimeDelta,
    ) -> Result<Appended> {
        match self.write(by.into(), id, ttl).await? {
            Written::Ended(ended) => Ok(ended),
            Written::Open(mut writer) => {
                let result = if writer.is_whole() {
                    let request =
                        Append { offset: writer.stored(), size: Some(0), ..Append::default() };
                    writer.append(request, stream::empty()).await
                } else {
                    Ok(writer.appended())
                };
                writer.release().await;
                result
            }
        }
    }

    /// Ends an upload and deletes its bytes.
    ///
    /// # Errors
    /// [`TusError::Ended`] if it has ended already.
    pub async fn end_tus(&self, by: impl Into<Principal<'_>>, id: UploadId) -> Result<()> {
        let upload = self.tus_upload(by.into(), id).await?;
        match upload.status() {
            Status::Cancelled | Status::Removed => Err(TusError::Ended(upload.status()).into()),
            _ => self.apply(upload, &Event::Delete).await.map(drop),
        }
    }

    /// The maximum size in bytes of a file of this caller. If the caller has an upload token, the
    /// token's policy and size limit apply.
    pub fn largest_file(&self, by: Principal<'_>, policy: Option<&PolicyName>) -> Result<u64> {
        let token = by.token();
        let policy = self.policy(token.map(|token| &token.policy).or(policy))?;
        let max_size = token.and_then(|token| token.max_size);
        Ok(policy.max_size_of(&Declared { max_size, ..Declared::default() }))
    }

    /// Makes this request the only writer of the upload, or returns how the upload ended.
    async fn write(&self, by: Principal<'_>, id: UploadId, ttl: TimeDelta) -> Result<Written<'_>> {
        let upload = self.tus_upload(by, id).await?;
        if upload.status() != Status::Pending {
            return Ok(Written::Ended(self.ended(upload).await?));
        }
        // An upload that an expired token created continues until its deadline, which is not
        // extended.
        let unexpired = self.require_unexpired(by);
        let ttl = unexpired.is_ok().then_some(ttl);
        if upload.url_expires_at <= self.now() {
            unexpired?;
        }
        let (lease, state) = self.take_lease(&upload).await?;
        // The previous writer may have completed the file.
        let upload = self.tus_upload(by, id).await?;
        if upload.status() != Status::Pending {
            lease.release().await;
            return Ok(Written::Ended(self.ended(upload).await?));
        }
        Writer::new(self, upload, lease, state, ttl).await.map(Written::Open)
    }

    async fn tus_upload(&self, by: Principal<'_>, id: UploadId) -> Result<Upload> {
        let upload = self.upload(by, id).await?;
        if upload.strategy == Strategy::Tus {
            return Ok(upload);
        }
        Err(AppError::NotFound("upload"))
    }

    /// The progress of an upload that is not pending.
    ///
    /// # Errors
    /// [`TusError::Ended`] if the upload ended without a complete file.
    async fn ended(&self, upload: Upload) -> Result<Appended> {
        let complete = match &upload.state {
            State::Uploaded(_) | State::Inspecting(_) => true,
            State::Removed { reason, .. } => *reason == RemoveReason::Superseded,
            _ => false,
        };
        let facts = upload.state.facts().filter(|_| complete);
        let Some(size) = facts.map(|facts| facts.size) else {
            return Err(TusError::Ended(upload.status()).into());
        };
        let row = self.db.tus().find(upload.id).await?;
        let metadata = row.and_then(|row| row.metadata);
        Ok(Appended { upload, stored: size, length: Some(size), metadata })
    }
}

/// The upload that a request wants to write.
enum Written<'a> {
    /// The request may write it.
    Open(Writer<'a>),
    /// The file is complete.
    Ended(Appended),
}

/// Refuses a length that is not the declared one, or that the policy does not allow.
fn check_length(
    declared: Option<u64>,
    sent: Option<u64>,
    stored: u64,
    most: u64,
) -> Result<Option<u64>> {
    let refuse = |sentence: String| {
        let errors = FieldErrors::one("length", sentence);
        Err(AppError::Invalid(errors))
    };
    match (declared, sent) {
        (declared, None) => Ok(declared),
        (Some(declared), Some(sent)) if declared == sent => Ok(Some(declared)),
        (Some(declared), Some(_)) => refuse(format!("The length was declared as {declared}")),
        (None, Some(0)) => refuse("File is empty".to_owned()),
        (None, Some(sent)) if sent < stored => refuse(format!("{stored} bytes are stored already")),
        (None, Some(sent)) if sent > most => Err(TusError::TooLong { limit: most }.into()),
        (None, Some(sent)) => Ok(Some(sent)),
    }
}
