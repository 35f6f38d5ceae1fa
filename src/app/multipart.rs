//! Multipart uploads: the service opens them in the store, signs their parts, and completes them
//! with the store's own list of parts.
//!
//! The row is committed before the store's multipart upload is opened, and the store's id is
//! recorded in the row after that. If a row has no id, the next request that needs parts repairs
//! it. If a multipart upload has no row, an audit finds and aborts it.

use chrono::TimeDelta;

use super::{App, AppError, Result};
use crate::domain::checksum::Algorithm;
use crate::domain::parts::{Division, PartPlan, SentPart, check_sent};
use crate::domain::transition::{Event, TransitionError};
use crate::domain::upload::ConfirmedBy;
use crate::domain::{Checksum, Policy, Principal, Status, Timestamp, Upload, UploadId};
use crate::storage::signer::{Operation, PartRequest, SignedRequest};
use crate::storage::{Part, PutOptions, StoreError};

/// The largest number of parts that one call signs.
pub const MAX_PARTS_PER_CALL: usize = 1000;

/// A signed request for one part.
#[derive(Debug)]
pub struct SignedPart {
    /// The part's number.
    pub number: u16,
    /// The request.
    pub request: SignedRequest,
}

/// Which of the stored parts form the whole file.
#[derive(Clone, Copy)]
enum Whole<'a> {
    /// All parts of the plan, and no others.
    Planned(PartPlan),
    /// The parts in the client's list.
    Sent(&'a [SentPart]),
}

impl<'a> Whole<'a> {
    fn new(division: Division, sent: Option<&'a [SentPart]>) -> Result<Self> {
        match (division, sent) {
            (Division::Planned(plan), _) => Ok(Self::Planned(plan)),
            (Division::ByClient, Some(sent)) => Ok(Self::Sent(sent)),
            (Division::ByClient, None) => Err(AppError::field(
                "parts",
                "The client that divided this file must complete it, with the list of its parts",
            )),
        }
    }

    /// The parts of the object, if all are stored.
    fn select(self, stored: Vec<Part>) -> Result<Vec<Part>> {
        match self {
            Self::Planned(plan) => {
                plan.check(stored.iter().map(|part| (part.number, part.size)))?;
                Ok(stored)
            }
            Self::Sent(sent) => {
                let named = stored.iter().map(|part| (part.number, part.etag.as_str()));
                check_sent(sent, named)?;
                let last = sent.iter().map(|part| part.number).max().unwrap_or_default();
                Ok(stored.into_iter().filter(|part| part.number <= last).collect())
            }
        }
    }
}

/// The result of a completion in the store.
enum Completion {
    /// The store assembled the object, now or earlier.
    Done,
    /// An object with the key existed already. The store still has the parts.
    Refused,
    /// Another request completed the upload. Parts may remain in the store.
    ByAnother,
}

impl App {
    /// Signs requests for some parts, and extends the deadline to their expiry. The expiry is at
    /// most the policy's `max_url_ttl` after the creation or, if that is later, the current
    /// deadline.
    pub async fn sign_parts(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        numbers: &[i64],
        expires_in: Option<i64>,
    ) -> Result<Vec<SignedPart>> {
        let (upload, division) = self.multipart_upload(by.into(), id).await?;
        let (policy, store) = self.rules_of(&upload).await?;
        let numbers = check_numbers(numbers, division)?;
        let ttl = Self::url_ttl(policy, expires_in)?;
        let upload = self.open_multipart(upload, None).await?;
        let now = self.now();
        let last = upload.url_expires_at.max(upload.created_at + policy.max_url_ttl);
        let ends = last.min(now + ttl);
        if ends - now < TimeDelta::seconds(1) {
            return Err(AppError::State(TransitionError::DeadlinePassed));
        }
        // Committed before a URL is returned, so that no part is sent for an expired upload.
        let upload = self.extend_deadline(upload, ends).await?;
        let multipart_id = open_id(&upload)?;
        let mut parts = Vec::with_capacity(numbers.len());
        for number in numbers {
            let (key, ttl) = (upload.key.as_str(), ends - now);
            let request = PartRequest { content_length: division.len_of(number), checksum: None };
            let part = Operation::UploadPart { upload_id: multipart_id, number, request: &request };
            let request = store.signer.sign(key, part, now, ttl).await?;
            parts.push(SignedPart { number, request });
        }
        Ok(parts)
    }

    /// The parts that the store has; none if the upload has ended.
    pub async fn held_parts(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<Vec<Part>> {
        let (upload, _) = self.multipart_upload(by.into(), id).await?;
        let (_, store) = self.rules_of(&upload).await?;
        let Some(multipart_id) = &upload.multipart_id else { return Ok(Vec::new()) };
        match store.objects.list_parts(upload.key.as_str(), multipart_id).await {
            Err(StoreError::NoSuchMultipart) => Err(AppError::PartsGone),
            listed => Ok(listed?),
        }
    }

    /// Completes the upload if the stored parts are the whole file, and validates the object. A
    /// client may repeat the request if it received no response.
    ///
    /// `sent` is the client's own list of parts. It is required if the client divides the file,
    /// because only the client knows the last part.
    pub async fn complete_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        sent: Option<&[SentPart]>,
    ) -> Result<Upload> {
        let (upload, division) = self.multipart_upload(by.into(), id).await?;
        let arrived = matches!(upload.status(), Status::Inspecting | Status::Uploaded);
        if arrived || upload.status().is_final() {
            return Ok(upload);
        }
        let completed = match upload.multipart_id.clone() {
            Some(multipart_id) if upload.status() == Status::Pending => {
                let upload = self.extend_deadline(upload.clone(), self.now()).await?;
                let whole = Whole::new(division, sent)?;
                let done = self.complete_in_store(&upload, &multipart_id, whole).await?;
                Some((multipart_id, done))
            }
            _ => None,
        };
        let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
        let upload = self.apply(upload, &event).await?.upload;
        match completed {
            Some((id, Completion::Done)) => self.settle_multipart(&upload, &id).await,
            Some((id, Completion::Refused)) => {
                let (_, store) = self.rules_of(&upload).await?;
                self.abort_multipart(store, &upload, &id).await;
            }
            // Nothing to do: the commit that removed the id from the row has recorded the abort.
            Some((_, Completion::ByAnother)) | None => {}
        }
        match upload.status() {
            Status::Pending | Status::Expired | Status::Missing => Err(AppError::PartsGone),
            Status::Inspecting
            | Status::Uploaded
            | Status::Rejected
            | Status::Cancelled
            | Status::Removed => Ok(upload),
        }
    }

    async fn complete_in_store(
        &self,
        upload: &Upload,
        multipart_id: &str,
        whole: Whole<'_>,
    ) -> Result<Completion> {
        let (_, store) = self.rules_of(upload).await?;
        let (objects, key) = (store.objects.as_ref(), upload.key.as_str());
        let stored = match objects.list_parts(key, multipart_id).await {
            // The upload was completed earlier and the response was lost, or it was aborted. A HEAD
            // shows which of the two.
            Err(StoreError::NoSuchMultipart) => return Ok(Completion::Done),
            listed => listed?,
        };
        let parts = whole.select(stored)?;
        let once = upload.write_once && store.capabilities.multipart_write_once;
        match objects.complete_multipart(key, multipart_id, &parts, once).await {
            Ok(_) | Err(StoreError::NoSuchMultipart) => Ok(Completion::Done),
            Err(StoreError::PreconditionFailed) => Ok(Completion::Refused),
            // Another request completed it, or a part was uploaded again after the listing.
            Err(StoreError::Refused { code, .. }) if code == "InvalidPart" => {
                let exists = objects.head(key).await?.is_some();
                if exists { Ok(Completion::ByAnother) } else { Err(AppError::Contended) }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn multipart_upload(
        &self,
        by: Principal<'_>,
        id: UploadId,
    ) -> Result<(Upload, Division)> {
        let upload = self.upload(by, id).await?;
        match upload.division() {
            Some(division) => Ok((upload, division)),
            None => Err(AppError::field(
                "id",
                format!("The upload's strategy is {}, not multipart", upload.strategy.name()),
            )),
        }
    }

    /// Opens a multipart upload in the store for a pending upload, unless it already has one.
    /// `gone` is the id of a multipart upload that the store no longer has. It is replaced.
    pub(super) async fn open_multipart(
        &self,
        upload: Upload,
        gone: Option<&str>,
    ) -> Result<Upload> {
        let store = self.rules_of(&upload).await?.1;
        let is_supported = |sum: &Checksum| store.keeps_checksum_of_parts(sum.algorithm());
        let checksum = upload.declared.checksum.clone().filter(is_supported);
        self.open_multipart_with(upload, gone, checksum.map(|sum| sum.algorithm())).await
    }

    /// Like [`Self::open_multipart`], with the algorithm of the checksum that the store keeps.
    pub(super) async fn open_multipart_with(
        &self,
        upload: Upload,
        gone: Option<&str>,
        checksum: Option<Algorithm>,
    ) -> Result<Upload> {
        if upload.status() != Status::Pending {
            return Err(TransitionError::TakesNoParts(upload.status()).into());
        }
        if upload.multipart_id.is_some() && upload.multipart_id.as_deref() != gone {
            return Ok(upload);
        }
        let (policy, store) = self.rules_of(&upload).await?;
        let key = upload.key.as_str();
        // If this process ends before the id is recorded, this record is used to find the multipart
        // upload.
        let (token, due) = (self.ids.uuid(), self.now() + policy.grace);
        let intent = self.db.multipart_aborts().create_intent(&upload, token, due).await?;
        let id = store.objects.create_multipart(key, &options(&upload, policy, checksum)).await?;
        let replaces = gone.map(str::to_owned);
        let event = Event::MultipartOpened { multipart_id: id.clone(), replaces };
        let opened = self.apply(upload.clone(), &event).await.map(|applied| applied.upload);
        match &opened {
            Ok(opened) if opened.multipart_id.as_ref() == Some(&id) => {}
            // Another request was first, or the upload has ended.
            Ok(_) | Err(AppError::State(_)) => self.abort_unrecorded(store, &upload, &id).await,
            // The result is unknown, so the record of the intent remains.
            Err(_) => return opened,
        }
        self.db.multipart_aborts().complete(&intent).await?;
        opened
    }

    /// Ensures that a renewed upload has a multipart upload in the store: the recorded one if the
    /// store still has it, otherwise a new one.
    pub(super) async fn reopen_multipart(&self, upload: Upload) -> Result<Upload> {
        let (_, store) = self.rules_of(&upload).await?;
        let Some(known) = upload.multipart_id.clone() else {
            return self.open_multipart(upload, None).await;
        };
        match store.objects.list_parts(upload.key.as_str(), &known).await {
            Ok(_) => Ok(upload),
            Err(StoreError::NoSuchMultipart) => {
                // It may have been completed although no response was received.
                let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
                let upload = self.apply(upload, &event).await?.upload;
                self.open_multipart(upload, Some(&known)).await
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn extend_deadline(
        &self,
        upload: Upload,
        url_expires_at: Timestamp,
    ) -> Result<Upload> {
        let event = Event::ExtendDeadline { url_expires_at };
        Ok(self.apply(upload, &event).await?.upload)
    }

    /// Opens the multipart upload of a new upload. If that fails, the upload is cancelled. If
    /// cancelling fails too, the upload expires.
    pub(super) async fn open_new_multipart(&self, upload: Upload) -> Result<Upload> {
        let row = upload.clone();
        let opened = self.open_multipart(upload, None).await;
        if opened.is_err()
            && let Err(error) = self.apply(row, &Event::Delete).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the multipart upload of a new upload could not be opened, and the upload was not \
                 cancelled; it expires at its deadline"
            );
        }
        opened
    }
}

fn options(upload: &Upload, policy: &Policy, checksum: Option<Algorithm>) -> PutOptions {
    PutOptions {
        // Only its algorithm is used.
        checksum: checksum.map(|algorithm| Checksum::of(algorithm, &[])),
        content_type: upload.declared.content_type.clone(),
        metadata: upload.metadata.clone(),
        object: policy.object.clone(),
        ..PutOptions::default()
    }
}

pub(super) fn open_id(upload: &Upload) -> Result<&str> {
    let open = upload.multipart_id.as_deref().filter(|_| upload.status() == Status::Pending);
    open.ok_or(TransitionError::TakesNoParts(upload.status()).into())
}

/// Checks that each number is a possible part and occurs once.
fn check_numbers(numbers: &[i64], division: Division) -> Result<Vec<u16>> {
    let refuse = |sentence: String| Err(AppError::field("part_numbers", sentence));
    if numbers.is_empty() || numbers.len() > MAX_PARTS_PER_CALL {
        return refuse(format!("Must contain 1 to {MAX_PARTS_PER_CALL} part numbers"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut parts = Vec::with_capacity(numbers.len());
    for number in numbers {
        let part = u16::try_from(*number).ok().filter(|part| division.has(*part));
        let Some(part) = part else {
            let count = division.part_count();
            return refuse(format!("{number} is not a part: the parts are 1 to {count}"));
        };
        if !seen.insert(part) {
            return refuse(format!("{number} occurs more than once"));
        }
        parts.push(part);
    }
    Ok(parts)
}
