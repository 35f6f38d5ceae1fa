//! Uploads in parts: opened in the store, sent part by part, completed from the store's
//! own list.
//!
//! The row is committed before the store's multipart upload is opened, and the store's id
//! is put on it right after. A row without an id is repaired by whoever needs one next; an
//! id without a row is what an audit finds and aborts.

use chrono::TimeDelta;

use super::{App, AppError, Result};
use crate::db::uploads::{Change, Saved};
use crate::domain::parts::PartPlan;
use crate::domain::transition::{Event, TransitionError};
use crate::domain::upload::{ConfirmedBy, Strategy};
use crate::domain::{Checksum, Owner, Policy, Status, Timestamp, Upload, UploadId};
use crate::storage::signer::{PartRequest, SignedRequest};
use crate::storage::{Part, PutOptions, Store, StoreError};

/// How many parts are signed in one call at most.
pub const MAX_PARTS_A_CALL: usize = 1000;

/// How often a lost race is read again before the caller is told to come back.
const MAX_TRIES: usize = 8;

/// A signed request for one part.
#[derive(Debug)]
pub struct SignedPart {
    /// The part's number.
    pub number: u16,
    /// The request.
    pub request: SignedRequest,
}

/// How a completion in the store ended.
enum Completion {
    /// The store made the object, now or before.
    Done,
    /// An object was there already; the parts still lie beside it.
    Refused,
    /// Another completion made the object; it may have left parts.
    Elsewhere,
}

impl App {
    /// Signs requests for some parts, and moves the deadline along with them: up to the
    /// policy's `max_url_ttl` after the creation, or as far as the last renewal went.
    pub async fn sign_parts(
        &self,
        owner: &Owner,
        id: UploadId,
        numbers: &[i64],
        expires_in: Option<i64>,
    ) -> Result<Vec<SignedPart>> {
        let (upload, plan) = self.multipart_upload(owner, id).await?;
        let (policy, store) = self.rules_of(&upload)?;
        let numbers = check_numbers(numbers, plan)?;
        let ttl = Self::url_ttl(policy, expires_in)?;
        let upload = self.open_multipart(upload, None).await?;
        let now = self.now();
        let last = upload.url_expires_at.max(upload.created_at + policy.max_url_ttl);
        let ends = last.min(now + ttl);
        if ends - now < TimeDelta::seconds(1) {
            return Err(AppError::State(TransitionError::DeadlinePassed));
        }
        // Committed before a URL is out, so that no part comes to a given-up upload.
        let upload = self.move_deadline(upload, ends).await?;
        let multipart_id = open_id(&upload)?;
        let mut parts = Vec::with_capacity(numbers.len());
        for number in numbers {
            let (key, ttl) = (upload.key.as_str(), ends - now);
            let request = PartRequest { content_length: plan.len_of(number), checksum: None };
            let signer = &store.signer;
            let request = signer.upload_part(key, multipart_id, number, &request, now, ttl).await?;
            parts.push(SignedPart { number, request });
        }
        Ok(parts)
    }

    /// The parts that the store holds; none where the upload has ended.
    pub async fn held_parts(&self, owner: &Owner, id: UploadId) -> Result<Vec<Part>> {
        let (upload, _) = self.multipart_upload(owner, id).await?;
        let (_, store) = self.rules_of(&upload)?;
        let Some(multipart_id) = &upload.multipart_id else { return Ok(Vec::new()) };
        match store.objects.list_parts(upload.key.as_str(), multipart_id).await {
            Err(StoreError::NoSuchMultipart) => Err(AppError::PartsGone),
            listed => Ok(listed?),
        }
    }

    /// Makes the object from exactly the parts that the store holds, where they are the
    /// whole file, and verifies it. May be sent again when its answer was lost.
    pub async fn complete_upload(&self, owner: &Owner, id: UploadId) -> Result<Upload> {
        let (upload, plan) = self.multipart_upload(owner, id).await?;
        if upload.status() == Status::Uploaded || upload.status().is_final() {
            return Ok(upload);
        }
        let completed = match upload.multipart_id.clone() {
            Some(multipart_id) if upload.status() == Status::Pending => {
                let upload = self.move_deadline(upload.clone(), self.now()).await?;
                let done = self.complete_in_store(&upload, &multipart_id, plan).await?;
                Some((multipart_id, done))
            }
            _ => None,
        };
        let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
        let upload = self.apply(upload, &event).await?.upload;
        match completed {
            Some((id, Completion::Done)) => self.multipart_is_done(&upload, &id).await,
            Some((id, Completion::Refused)) => {
                let (_, store) = self.rules_of(&upload)?;
                self.abort_multipart(store, &upload, &id).await;
            }
            // An abort of it is on record where its id has left the row.
            Some((_, Completion::Elsewhere)) | None => {}
        }
        match upload.status() {
            Status::Pending | Status::Expired | Status::Missing => Err(AppError::PartsGone),
            Status::Uploaded | Status::Rejected | Status::Cancelled | Status::Removed => Ok(upload),
        }
    }

    async fn complete_in_store(
        &self,
        upload: &Upload,
        multipart_id: &str,
        plan: PartPlan,
    ) -> Result<Completion> {
        let (_, store) = self.rules_of(upload)?;
        let (objects, key) = (store.objects.as_ref(), upload.key.as_str());
        let parts = match objects.list_parts(key, multipart_id).await {
            // Completed before, and the answer was lost; or aborted: a HEAD tells.
            Err(StoreError::NoSuchMultipart) => return Ok(Completion::Done),
            listed => listed?,
        };
        plan.check(parts.iter().map(|part| (part.number, part.size)))?;
        let once = upload.write_once && store.capabilities.multipart_write_once;
        match objects.complete_multipart(key, multipart_id, &parts, once).await {
            Ok(_) | Err(StoreError::NoSuchMultipart) => Ok(Completion::Done),
            Err(StoreError::PreconditionFailed) => Ok(Completion::Refused),
            // Another completion was faster, or a part was sent again since it was listed.
            Err(StoreError::Refused { code, .. }) if code == "InvalidPart" => {
                let there = objects.head(key).await?.is_some();
                if there { Ok(Completion::Elsewhere) } else { Err(AppError::Contended) }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn multipart_upload(&self, owner: &Owner, id: UploadId) -> Result<(Upload, PartPlan)> {
        let upload = self.upload(owner, id).await?;
        match upload.parts() {
            Some(plan) if upload.strategy == Strategy::Multipart => Ok((upload, plan)),
            _ => Err(AppError::field(
                "id",
                format!("The upload's strategy is {}, not multipart", upload.strategy.name()),
            )),
        }
    }

    /// Makes sure that a pending upload has a multipart upload in the store, other than
    /// `gone`, which the store does not know any more.
    pub(super) async fn open_multipart(
        &self,
        mut upload: Upload,
        gone: Option<&str>,
    ) -> Result<Upload> {
        for _ in 0..MAX_TRIES {
            if upload.status() != Status::Pending {
                return Err(TransitionError::TakesNoParts(upload.status()).into());
            }
            if upload.multipart_id.is_some() && upload.multipart_id.as_deref() != gone {
                return Ok(upload);
            }
            let (policy, store) = self.rules_of(&upload)?;
            let key = upload.key.as_str();
            // Whatever becomes of this call and of this process, what it opens is found.
            let (token, due) = (self.ids.uuid(), self.now() + policy.grace);
            let intent = self.db.multipart_aborts().create_intent(&upload, token, due).await?;
            let new = store.objects.create_multipart(key, &options(&upload, store)).await?;
            let noted = Upload { multipart_id: Some(new.clone()), ..upload.clone() };
            match self.note(noted, policy).await? {
                Some(upload) => {
                    self.db.multipart_aborts().complete(&intent).await?;
                    return Ok(upload);
                }
                None => self.abort_unknown(store, &upload, &new).await,
            }
            self.db.multipart_aborts().complete(&intent).await?;
            upload = self.read_again(upload.id).await?;
        }
        Err(AppError::Contended)
    }

    /// The store's upload of a renewed row: the one it has, while the store still knows
    /// it, else a new one.
    pub(super) async fn reopen_multipart(&self, upload: Upload) -> Result<Upload> {
        let (_, store) = self.rules_of(&upload)?;
        let Some(known) = upload.multipart_id.clone() else {
            return self.open_multipart(upload, None).await;
        };
        match store.objects.list_parts(upload.key.as_str(), &known).await {
            Ok(_) => Ok(upload),
            Err(StoreError::NoSuchMultipart) => {
                // Completed, and nobody heard of it?
                let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
                let upload = self.apply(upload, &event).await?.upload;
                self.open_multipart(upload, Some(&known)).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Moves a pending upload's deadline, never back; one that has ended is answered as it is.
    async fn move_deadline(&self, mut upload: Upload, ends: Timestamp) -> Result<Upload> {
        for _ in 0..MAX_TRIES {
            if upload.status() != Status::Pending || ends <= upload.url_expires_at {
                return Ok(upload);
            }
            let (policy, _) = self.rules_of(&upload)?;
            let moved = Upload { url_expires_at: ends, ..upload.clone() };
            if let Some(upload) = self.note(moved, policy).await? {
                return Ok(upload);
            }
            upload = self.read_again(upload.id).await?;
        }
        Err(AppError::Contended)
    }

    /// Saves what is no transition; `None` where another writer was first.
    async fn note(&self, upload: Upload, policy: &Policy) -> Result<Option<Upload>> {
        let change = Change { upload, effects: vec![], policy };
        Ok(match self.db.uploads().save(change, self.now()).await? {
            Saved::Done(upload) => Some(upload),
            Saved::Lost => None,
        })
    }

    async fn read_again(&self, id: UploadId) -> Result<Upload> {
        self.db.uploads().find_any_owner(id).await?.ok_or(AppError::NotFound("upload"))
    }

    /// Opens the store's side of a new upload. Where that fails the row is ended, so that
    /// nothing hangs; where that fails too, it expires by itself.
    pub(super) async fn open_new_multipart(&self, upload: Upload) -> Result<Upload> {
        let row = upload.clone();
        let opened = self.open_multipart(upload, None).await;
        if opened.is_err()
            && let Err(error) = self.apply(row, &Event::Delete).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an upload that could not be opened is not ended; it expires by itself"
            );
        }
        opened
    }
}

fn options(upload: &Upload, store: &Store) -> PutOptions {
    let kept = |sum: &Checksum| store.keeps_checksum_of_parts(sum.algorithm());
    PutOptions {
        checksum: upload.declared.checksum.clone().filter(kept),
        content_type: upload.declared.content_type.clone(),
        metadata: upload.metadata.clone(),
        ..PutOptions::default()
    }
}

fn open_id(upload: &Upload) -> Result<&str> {
    let open = upload.multipart_id.as_deref().filter(|_| upload.status() == Status::Pending);
    open.ok_or(TransitionError::TakesNoParts(upload.status()).into())
}

/// The numbers as asked, where each is a part of the plan, once.
fn check_numbers(numbers: &[i64], plan: PartPlan) -> Result<Vec<u16>> {
    let refuse = |sentence: String| Err(AppError::field("part_numbers", sentence));
    if numbers.is_empty() || numbers.len() > MAX_PARTS_A_CALL {
        return refuse(format!("Must be from 1 to {MAX_PARTS_A_CALL} numbers"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut parts = Vec::with_capacity(numbers.len());
    for number in numbers {
        let part = u16::try_from(*number).ok().filter(|part| plan.len_of(*part).is_some());
        let Some(part) = part else {
            let count = plan.part_count();
            return refuse(format!("{number} is none of the parts: they are 1 to {count}"));
        };
        if !seen.insert(part) {
            return refuse(format!("{number} is there twice"));
        }
        parts.push(part);
    }
    Ok(parts)
}
