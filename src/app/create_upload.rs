//! Creates an upload: validates the declaration, signs the request, commits the row. The URL is
//! returned only after the commit.

mod sign;
mod strategy;

use std::collections::BTreeMap;

use chrono::TimeDelta;

use self::strategy::{can_be_write_once, check, choose_strategy, plan};
use super::idempotency::IdempotencyKey;
use super::{App, AppError, Result};
use crate::db::idempotency::Claim;
use crate::domain::inspection::Annotations;
use crate::domain::parts::PartPlan;
use crate::domain::sniff;
use crate::domain::upload::{Declared, Deletion, State, Strategy};
use crate::domain::{
    LocationNumber, Owner, Policy, PolicyName, Principal, Status, Subject, Upload, UploadId,
};
use crate::storage::Store;
use crate::storage::signer::{Operation, SignedRequest};
use crate::telemetry::metrics as names;

pub(super) use strategy::NO_S3_MULTIPART;

/// A request for a new upload.
#[derive(Debug, Default, Clone)]
pub struct NewUpload {
    /// The policy; `tracks` by default.
    pub policy: Option<PolicyName>,
    /// The subject that it is attached to.
    pub attach_to: Option<Subject>,
    /// What the client declares about the file.
    pub declared: Declared,
    /// The strategy; by default the service chooses it by the store and the size.
    pub strategy: Option<Strategy>,
    /// Who divides the file of a multipart upload.
    pub divided_by: DividedBy,
    /// For a form: whether the store returns the address of the object.
    pub with_location: bool,
    /// Metadata to store with the object.
    pub metadata: BTreeMap<String, String>,
    /// How long the URL is valid, in seconds.
    pub expires_in: Option<i64>,
    /// Whether the URL can be used only once.
    pub write_once: Option<bool>,
    /// Whether the service checks once for the object after the URL has expired, because no client
    /// confirms it. This costs a write, and has no effect on uploads in parts and direct uploads.
    pub check_at_url_end: bool,
}

/// A valid new upload that is not committed yet, and the request for its bytes.
pub(super) struct Prepared {
    pub upload: Upload,
    pub subject: Option<Subject>,
    pub request: Option<SignedRequest>,
}

/// Who divides the file of a multipart upload into parts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum DividedBy {
    /// The service, based on the declared size.
    #[default]
    Service,
    /// The client, while it sends. The size may be unknown.
    Client,
    /// The client, which also opens the multipart upload in the store, by a signed request.
    ClientAtStore,
}

/// A committed upload and the request that the client sends next.
#[derive(Debug)]
pub struct Created {
    /// The upload.
    pub upload: Upload,
    /// The signed request; `None` if the bytes are sent in parts or through this service.
    pub request: Option<SignedRequest>,
}

impl App {
    /// Creates an upload. A track of `attach_to` must be this owner's.
    pub async fn create_upload(
        &self,
        by: impl Into<Principal<'_>>,
        new: NewUpload,
    ) -> Result<Created> {
        self.create_upload_as(by.into(), new, None).await
    }

    /// Creates an upload, or returns the one that an earlier request with the same key created,
    /// with its request signed again if bytes are still expected.
    pub async fn create_upload_once(
        &self,
        by: impl Into<Principal<'_>>,
        key: Option<&IdempotencyKey>,
        new: NewUpload,
    ) -> Result<Created> {
        let by = by.into();
        let expires_in = new.expires_in;
        let create = |claim: Option<Claim>| async move {
            self.create_upload_as(by, new, claim.as_ref()).await
        };
        let load = |id| self.load_created(by, UploadId(id), expires_in);
        let key = key.cloned().map(|key| key.of(by));
        self.idempotent(by.owner(), key.as_ref(), create, load).await
    }

    /// The upload that an earlier request created. Its request is signed again if bytes are still
    /// expected.
    async fn load_created(
        &self,
        by: Principal<'_>,
        id: UploadId,
        expires_in: Option<i64>,
    ) -> Result<Created> {
        let upload = self.upload(by, id).await?;
        if !matches!(upload.status(), Status::Pending | Status::Expired) {
            return Ok(Created { upload, request: None });
        }
        self.renew_upload(by, id, expires_in).await
    }

    /// Creates an upload with the id of an idempotency claim, and completes the claim.
    pub(super) async fn create_upload_as(
        &self,
        by: Principal<'_>,
        new: NewUpload,
        claim: Option<&Claim>,
    ) -> Result<Created> {
        let id = UploadId(claim.map_or_else(|| self.ids.uuid(), |claim| claim.resource));
        let check_at_url_end = new.check_at_url_end;
        let Prepared { upload, subject, request } = self.prepare_upload(by, id, new).await?;
        if check_at_url_end {
            self.check_at_url_end(&upload).await?;
        }
        let upload = self.db.uploads().create_claimed(upload, subject, claim).await?;
        let mut upload = upload.ok_or(AppError::NotFound("track"))?;
        record_created(&upload);
        if upload.strategy == Strategy::Multipart && request.is_none() {
            upload = match claim {
                // The idempotency key refers to this row. If this step fails, the next attempt
                // repeats it.
                Some(_) => Box::pin(self.open_multipart(upload, None)).await?,
                None => Box::pin(self.open_new_multipart(upload)).await?,
            };
        }
        Ok(Created { upload, request })
    }

    /// Validates a new upload and signs its request.
    pub(super) async fn prepare_upload(
        &self,
        by: Principal<'_>,
        id: UploadId,
        new: NewUpload,
    ) -> Result<Prepared> {
        let new = self.restrict(by, new)?;
        let policy = self.policy(new.policy.as_ref())?;
        let store = self.store_of(policy)?;
        let strategy = choose_strategy(policy, store, &new);
        let mut new = NewUpload { strategy: Some(strategy), ..new };
        if strategy == Strategy::Direct {
            self.require_direct()?;
        }
        check(policy, store, &new, strategy)?;
        let location = self.current_location(policy).await?.number;
        self.require_bucket(policy, location)?;
        // The generic media type says nothing about the file, so it counts as undeclared.
        new.declared.content_type.take_if(|content_type| sniff::is_generic(content_type));
        let ttl = Self::url_ttl(policy, new.expires_in)?;
        let subject = new.attach_to.clone();
        let (divided_by, with_location) = (new.divided_by, new.with_location);
        let upload = self.new_upload(id, by.owner(), (policy, store, location), new, ttl);
        let token = by.token().map(|token| token.id);
        // If the store refuses `If-None-Match`, the request is signed without it. A client that
        // requires write-once was refused by `check`.
        let write_once = upload.write_once && can_be_write_once(store, strategy);
        let upload = Upload { token, write_once, ..upload };
        // Signed first, so that no row remains if signing fails.
        let request = match (strategy, divided_by) {
            (Strategy::Multipart, DividedBy::ClientAtStore) => Some(
                self.sign_put(&upload, policy, store, |put| Operation::CreateMultipart(put), ttl)
                    .await?,
            ),
            (Strategy::Post, _) => {
                Some(self.sign_post(&upload, policy, store, ttl, with_location).await?)
            }
            _ => self.sign_whole(&upload, policy, store, ttl).await?,
        };
        let upload = match &request {
            // The URL expires with the store's credentials, if they expire first.
            Some(signed) => Upload { url_expires_at: signed.expires_at, ..upload },
            None => upload,
        };
        Ok(Prepared { upload, subject, request })
    }

    /// The row of a new upload, not yet committed.
    pub(super) fn new_upload(
        &self,
        id: UploadId,
        owner: &Owner,
        (policy, store, location): (&Policy, &Store, LocationNumber),
        new: NewUpload,
        ttl: TimeDelta,
    ) -> Upload {
        let now = self.now();
        let strategy = new.strategy.unwrap_or(Strategy::Put);
        let write_once = match strategy {
            // A form cannot contain `If-None-Match`.
            Strategy::Post => false,
            // If two requests send a file, one of them must fail.
            Strategy::Direct | Strategy::Tus => true,
            Strategy::Put | Strategy::Multipart => {
                policy.writes_once(new.write_once, &new.declared)
            }
        };
        let planned = strategy == Strategy::Multipart && new.divided_by == DividedBy::Service;
        let plan = plan(policy, store, &new.declared).filter(|_| planned);
        Upload {
            id,
            owner: owner.clone(),
            token: None,
            policy: policy.name.clone(),
            location,
            slot: None,
            key: policy.prefix.key(id),
            declared: new.declared,
            strategy,
            write_once,
            metadata: new.metadata,
            url_expires_at: now + ttl,
            multipart_id: None,
            part_size: plan.map(PartPlan::part_size),
            state: State::Pending,
            detail: None,
            annotations: Annotations::new(),
            deletion: Deletion::default(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Counts a committed upload.
pub(super) fn record_created(upload: &Upload) {
    let (policy, strategy) = (upload.policy.as_str().to_owned(), upload.strategy.name());
    metrics::counter!(names::UPLOADS_CREATED, "policy" => policy, "strategy" => strategy)
        .increment(1);
}
