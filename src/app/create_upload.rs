//! Creates an upload: validates the declaration, signs the request, commits the row. The URL is
//! returned only after the commit.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::idempotency::IdempotencyKey;
use super::{App, AppError, Result};
use crate::db::idempotency::Claim;
use crate::domain::inspection::Annotations;
use crate::domain::limits::MAX_OBJECT_SIZE;
use crate::domain::metadata::check_metadata;
use crate::domain::parts::PartPlan;
use crate::domain::policy::FieldErrors;
use crate::domain::sniff;
use crate::domain::upload::{Declared, Deletion, State, Strategy};
use crate::domain::{
    LocationNumber, Owner, Policy, PolicyName, Principal, Status, Subject, Upload, UploadId,
};
use crate::storage::signer::{Operation, PostRequest, PutRequest, SignedRequest};
use crate::storage::{Capabilities, Store};
use crate::telemetry::metrics as names;

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

    /// An upload that an earlier request created.
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
        // If the store refuses the condition, it is not signed, unless the client requires it.
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

    /// Signs the request of an upload that is sent whole, with everything that was declared.
    pub(super) async fn sign_whole(
        &self,
        upload: &Upload,
        policy: &Policy,
        store: &Store,
        ttl: TimeDelta,
    ) -> Result<Option<SignedRequest>> {
        match upload.strategy {
            Strategy::Put => {
                self.sign_put(upload, policy, store, |put| Operation::Put(put), ttl).await.map(Some)
            }
            Strategy::Post => self.sign_post(upload, policy, store, ttl, false).await.map(Some),
            Strategy::Multipart | Strategy::Direct | Strategy::Tus => Ok(None),
        }
    }

    async fn sign_post(
        &self,
        upload: &Upload,
        policy: &Policy,
        store: &Store,
        ttl: TimeDelta,
        with_location: bool,
    ) -> Result<SignedRequest> {
        let size = upload
            .declared
            .size
            .map_or((1, policy.max_size_of(&upload.declared)), |size| (size, size));
        let request = PostRequest {
            content_type: upload.declared.content_type.clone(),
            size: Some(size),
            metadata: upload.metadata.clone(),
            object: policy.object.clone(),
            with_location,
        };
        let key = upload.key.as_str();
        Ok(store.signer.post(key, &request, self.now(), ttl).await?)
    }

    /// Signs a PUT of the whole file, or the request that opens a multipart upload in the store.
    async fn sign_put(
        &self,
        upload: &Upload,
        policy: &Policy,
        store: &Store,
        operation: fn(&PutRequest) -> Operation<'_>,
        ttl: TimeDelta,
    ) -> Result<SignedRequest> {
        let declared = &upload.declared;
        let request = PutRequest {
            content_type: declared.content_type.clone(),
            content_length: declared.size,
            checksum: declared.checksum.clone(),
            // The store may have changed after the row was written.
            write_once: upload.write_once && store.capabilities.accepts_write_once(),
            metadata: upload.metadata.clone(),
            object: policy.object.clone(),
        };
        let key = upload.key.as_str();
        Ok(store.signer.sign(key, operation(&request), self.now(), ttl).await?)
    }
}

/// Counts a committed upload.
pub(super) fn record_created(upload: &Upload) {
    let (policy, strategy) = (upload.policy.as_str().to_owned(), upload.strategy.name());
    metrics::counter!(names::UPLOADS_CREATED, "policy" => policy, "strategy" => strategy)
        .increment(1);
}

/// Returns the strategy: as requested, otherwise multipart from the policy's threshold on, and for
/// a file that is too large for a single PUT.
fn choose_strategy(policy: &Policy, store: &Store, new: &NewUpload) -> Strategy {
    let Capabilities { multipart, max_put_size, .. } = *store.capabilities;
    let is_large = |size| size >= policy.multipart_threshold || size > max_put_size;
    let large = new.declared.size.is_some_and(is_large);
    let auto = if large && multipart && plan(policy, store, &new.declared).is_some() {
        Strategy::Multipart
    } else {
        Strategy::Put
    };
    new.strategy.unwrap_or(auto)
}

/// Whether the store accepts the condition of a write-once upload. A form has no condition, and a
/// direct upload uses it only if it is enforced.
fn can_be_write_once(store: &Store, strategy: Strategy) -> bool {
    let capabilities = &store.capabilities;
    match strategy {
        Strategy::Put => capabilities.accepts_write_once(),
        Strategy::Multipart => {
            capabilities.accepts_write_once() || capabilities.multipart_write_once
        }
        Strategy::Post | Strategy::Direct | Strategy::Tus => true,
    }
}

/// The division into parts of the policy's size, as far as the store accepts parts of that size.
fn plan(policy: &Policy, store: &Store, declared: &Declared) -> Option<PartPlan> {
    PartPlan::new(declared.size?, policy.part_size.min(store.capabilities.max_part_size))
}

fn check(
    policy: &Policy,
    store: &Store,
    new: &NewUpload,
    strategy: Strategy,
) -> Result<(), FieldErrors> {
    let mut errors = policy.check_declared(&new.declared, "size").err().unwrap_or_default();
    check_strategy(policy, store, new, strategy, &mut errors);
    check_metadata(&new.metadata, &mut errors);
    check_checksum(policy, store, &new.declared, strategy, &mut errors);
    errors.into_result()
}

/// Why a client that needs S3's own requests can't send a file in parts.
pub(super) const NO_S3_MULTIPART: &str = "The store does not have S3's requests for uploads in parts, so this client must send the file \
     whole, or in parts through the service (tus)";

fn check_strategy(
    policy: &Policy,
    store: &Store,
    new: &NewUpload,
    strategy: Strategy,
    errors: &mut FieldErrors,
) {
    if new.write_once == Some(true) && !can_be_write_once(store, strategy) {
        errors.add(
            "write_once",
            "The store refuses requests with If-None-Match, so no upload to it can be write-once",
        );
    }
    let size = new.declared.size;
    let max_put_size = store.capabilities.max_put_size;
    let too_much = size.is_some_and(|size| size > max_put_size);
    match strategy {
        Strategy::Put if too_much => {
            errors.add("size", format!("A single PUT can have at most {max_put_size} bytes"));
        }
        Strategy::Post if !store.capabilities.post_policy => {
            errors.add("strategy", "The store does not accept form uploads");
        }
        Strategy::Post if too_much => {
            errors.add("size", format!("A form upload can have at most {max_put_size} bytes"));
        }
        Strategy::Post if new.write_once == Some(true) => {
            errors.add("write_once", "A form upload can't be write-once");
        }
        Strategy::Multipart | Strategy::Tus if !store.capabilities.multipart => {
            errors.add("strategy", "The store does not accept uploads in parts");
        }
        Strategy::Multipart
            if new.divided_by != DividedBy::Service && !store.capabilities.s3_multipart =>
        {
            errors.add("strategy", NO_S3_MULTIPART);
        }
        Strategy::Multipart if new.divided_by != DividedBy::Service => {}
        Strategy::Multipart if size.is_none() => {
            errors.add("size", "An upload in parts needs a declared size");
        }
        // The policy has already refused a size of zero.
        Strategy::Multipart if size != Some(0) && plan(policy, store, &new.declared).is_none() => {
            errors.add("size", format!("An object can have at most {MAX_OBJECT_SIZE} bytes"));
        }
        Strategy::Put | Strategy::Post | Strategy::Multipart | Strategy::Direct | Strategy::Tus => {
        }
    }
}

/// The service must be able to compare a declared checksum when the file arrives: with the store's
/// checksum, or by reading the file if the policy allows to read that much.
fn check_checksum(
    policy: &Policy,
    store: &Store,
    declared: &Declared,
    strategy: Strategy,
    errors: &mut FieldErrors,
) {
    let Some(checksum) = &declared.checksum else { return };
    let is_stored = match strategy {
        Strategy::Put => store.keeps_checksum(checksum.algorithm()),
        Strategy::Multipart => store.keeps_checksum_of_parts(checksum.algorithm()),
        // A form contains no checksum, and for a direct upload the service computes the checksum
        // itself.
        Strategy::Post | Strategy::Direct | Strategy::Tus => false,
    };
    if is_stored {
        return;
    }
    let largest = declared.size.unwrap_or(policy.max_size_of(declared));
    if largest > policy.verify_max_read {
        let (algorithm, limit) = (checksum.algorithm(), policy.verify_max_read);
        errors.add(
            "checksum",
            format!(
                "The store does not keep the {algorithm} of this upload, so it can only be \
                declared together with a size of at most {limit}"
            ),
        );
    }
}
