//! Creates an upload: checks what is declared, commits the row, signs the request. The
//! URL is answered only after the commit.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::{App, AppError, Result};
use crate::domain::policy::{FieldErrors, MAX_PUT_SIZE};
use crate::domain::upload::{Declared, Deletion, State, Strategy};
use crate::domain::{Owner, Policy, PolicyName, TrackId, Upload, UploadId};
use crate::storage::Store;
use crate::storage::presign::{PutTerms, Signed};

/// How much metadata an object may carry, names and values together, in bytes (S3 user
/// guide, "User-defined object metadata").
const MAX_METADATA_LEN: usize = 2048;

/// What a client asks for.
#[derive(Debug, Default, Clone)]
pub struct NewUpload {
    /// The rules; `tracks` by default.
    pub policy: Option<PolicyName>,
    /// The track that the file is for.
    pub track: Option<TrackId>,
    /// What is known of the file.
    pub declared: Declared,
    /// How the bytes will come; by default the store and the size decide.
    pub strategy: Option<Strategy>,
    /// Pairs to store with the object.
    pub metadata: BTreeMap<String, String>,
    /// How long the URL is to live, in seconds.
    pub expires_in: Option<i64>,
    /// Whether the URL may be used once only.
    pub write_once: Option<bool>,
}

/// A committed upload and the request that the client is to send.
#[derive(Debug)]
pub struct Created {
    /// The upload.
    pub upload: Upload,
    /// The signed request; `None` where the bytes come through this service.
    pub request: Option<Signed>,
}

impl App {
    /// Creates an upload. `track` of `new` must be this owner's.
    pub async fn create_upload(&self, owner: &Owner, new: NewUpload) -> Result<Created> {
        let policy = self.policy(new.policy.as_ref())?;
        let store = self.store_of(policy)?;
        check(policy, store, &new)?;
        let ttl = Self::url_ttl(policy, new.expires_in)?;
        let track = new.track;
        let upload = self.new_upload(owner, policy, new, ttl);
        // Signed first, so that what can't be signed leaves no row.
        let request = self.sign_put(&upload, store, ttl).await?;
        let upload = match &request {
            // The URL may end sooner than asked, with the credentials.
            Some(signed) => Upload { url_expires_at: signed.expires_at, ..upload },
            None => upload,
        };
        let upload = self.db.create_upload(upload, track).await?;
        let upload = upload.ok_or(AppError::NotFound("track"))?;
        Ok(Created { upload, request })
    }

    /// The row of a new upload, not yet committed.
    pub(super) fn new_upload(
        &self,
        owner: &Owner,
        policy: &Policy,
        new: NewUpload,
        ttl: TimeDelta,
    ) -> Upload {
        let now = self.now();
        let id = UploadId(self.ids.uuid());
        let write_once = policy.writes_once(new.write_once, &new.declared);
        Upload {
            id,
            owner: owner.clone(),
            policy: policy.name.clone(),
            slot: None,
            key: policy.prefix.key(id),
            declared: new.declared,
            strategy: new.strategy.unwrap_or(Strategy::Put),
            write_once,
            metadata: new.metadata,
            url_expires_at: now + ttl,
            multipart_id: None,
            state: State::Pending,
            deletion: Deletion::default(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Signs the PUT of an upload with all that was declared.
    pub(super) async fn sign_put(
        &self,
        upload: &Upload,
        store: &Store,
        ttl: TimeDelta,
    ) -> Result<Option<Signed>> {
        if upload.strategy != Strategy::Put {
            return Ok(None);
        }
        let declared = &upload.declared;
        let terms = PutTerms {
            content_type: declared.content_type.clone(),
            content_length: declared.size,
            checksum: declared.checksum.clone(),
            write_once: upload.write_once,
            metadata: upload.metadata.clone(),
        };
        let key = upload.key.as_str();
        Ok(Some(store.presigner.put(key, &terms, self.now(), ttl).await?))
    }
}

fn check(policy: &Policy, store: &Store, new: &NewUpload) -> Result<(), FieldErrors> {
    let mut errors = policy.check_declared(&new.declared, "size").err().unwrap_or_default();
    check_strategy(new, &mut errors);
    check_metadata(&new.metadata, &mut errors);
    check_checksum(policy, store, &new.declared, &mut errors);
    errors.into_result()
}

fn check_strategy(new: &NewUpload, errors: &mut FieldErrors) {
    match new.strategy {
        None | Some(Strategy::Put) => {
            if new.declared.size.is_some_and(|size| size > MAX_PUT_SIZE) {
                errors.add("size", format!("A single PUT takes at most {MAX_PUT_SIZE} bytes"));
            }
        }
        Some(Strategy::Direct) => {
            errors.add("strategy", "Send the file to the track's upload route instead");
        }
        Some(Strategy::Post | Strategy::Multipart) => {
            errors.add("strategy", "Must be one of: auto, put");
        }
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    let total: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MAX_METADATA_LEN {
        errors.add("metadata", format!("Must be at most {MAX_METADATA_LEN} bytes in all"));
    }
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if metadata.keys().any(|name| name.is_empty() || !name.bytes().all(token)) {
        errors.add("metadata", "Names may hold only a-z 0-9 - and _");
    }
    let plain =
        |value: &str| value.trim() == value && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !metadata.values().all(|value| plain(value)) {
        errors.add("metadata", "Values may hold only printable ASCII, without space at the ends");
    }
}

/// A checksum must be checkable on arrival: on the store's record, or by reading no more
/// than the policy allows.
fn check_checksum(policy: &Policy, store: &Store, declared: &Declared, errors: &mut FieldErrors) {
    let Some(checksum) = &declared.checksum else { return };
    if store.keeps_checksum(checksum.algorithm()) {
        return;
    }
    let largest = declared.size.unwrap_or(policy.max_size);
    if largest > policy.verify_max_read {
        let (algorithm, limit) = (checksum.algorithm(), policy.verify_max_read);
        errors.add(
            "checksum",
            format!("The store keeps no {algorithm}, so it can be declared only with a size up to {limit}"),
        );
    }
}
