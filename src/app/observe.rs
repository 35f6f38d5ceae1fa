//! Observes an upload's object and validates it: one HEAD, one ranged GET of the first bytes,
//! and a read of the whole object only for a checksum that the store does not keep.

use futures_util::TryStreamExt;

use super::inspect_media::{inspect_media, violation};
use super::{App, AppError, MAX_TRIES, Result};
use crate::domain::checksum::{Algorithm, Checksum, Hasher};
use crate::domain::inspection::{Annotations, InspectorName, MEDIA};
use crate::domain::media;
use crate::domain::rules::{Pass, ReceivedObject, Violation};
use crate::domain::sniff::SNIFF_LEN;
use crate::domain::transition::{Absence, Event, Observation};
use crate::domain::upload::{ConfirmedBy, ObjectFacts};
use crate::domain::{Policy, Status, Timestamp, Upload};
use crate::storage::{ObjectMeta, Store, StoreError};
use crate::telemetry::metrics as names;

impl App {
    /// Returns the event about an upload's object: an observation with the verdict of the rules, or
    /// an absence with the time at which the request started.
    ///
    /// # Errors
    /// If the store fails, or if the object is replaced during each of [`MAX_TRIES`] attempts to
    /// read it ([`AppError::Contended`]).
    pub async fn observe_object(&self, upload: &Upload, by: ConfirmedBy) -> Result<Event> {
        let (policy, store) = self.rules_of(upload).await?;
        for _ in 0..MAX_TRIES {
            let requested_at = self.database_now();
            // Listed before the HEAD: if the parts disappear after that, they may have become the
            // object.
            let last_part_at = last_part(upload, policy, store, requested_at).await?;
            let Some(meta) = store.objects.head(upload.key.as_str()).await? else {
                return Ok(Event::Absent(Absence {
                    requested_at,
                    by_head: true,
                    last_part_at,
                    by,
                }));
            };
            if let Some(known) = upload.state.arrived()
                && known.facts.etag == meta.etag
            {
                // The same object as before is not read again.
                let facts =
                    ObjectFacts { version_id: meta.version_id.clone(), ..known.facts.clone() };
                let annotations = upload.annotations.clone();
                return Ok(Event::Observed(Observation {
                    facts,
                    verdict: Ok(()),
                    by,
                    annotations,
                }));
            }
            match self.validate(upload, policy, store, &meta).await {
                Ok((facts, verdict, annotations)) => {
                    record_delay(upload, &meta, verdict.is_ok(), by, self.now());
                    return Ok(Event::Observed(Observation { facts, verdict, by, annotations }));
                }
                // The object was replaced between HEAD and GET. The verdict must be about the new
                // object.
                Err(StoreError::PreconditionFailed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::Contended)
    }
}

/// Records the time between the arrival of bytes and their verification. It is not exact: the
/// store reports whole seconds, and its clock may differ from this machine's.
fn record_delay(upload: &Upload, meta: &ObjectMeta, valid: bool, by: ConfirmedBy, now: Timestamp) {
    if valid
        && upload.status() == Status::Pending
        && let Some(arrived) = meta.last_modified
    {
        let policy = upload.policy.as_str().to_owned();
        metrics::histogram!(names::PUT_TO_UPLOADED, "policy" => policy, "source" => by.name())
            .record((now - arrived).as_seconds_f64().max(0.0));
    }
}

/// When the newest part arrived, if that decides whether the upload expires.
async fn last_part(
    upload: &Upload,
    policy: &Policy,
    store: &Store,
    requested_at: Timestamp,
) -> Result<Option<Timestamp>> {
    let waiting =
        upload.status() == Status::Pending && requested_at > upload.deadline(policy.grace);
    let Some(multipart_id) = upload.multipart_id.as_deref().filter(|_| waiting) else {
        return Ok(None);
    };
    match store.objects.list_parts(upload.key.as_str(), multipart_id).await {
        Ok(parts) => Ok(parts.iter().filter_map(|part| part.last_modified).max()),
        Err(StoreError::NoSuchMultipart) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type Verdict = std::result::Result<(), Violation>;

impl App {
    /// Validates an object by the rules of the policy, and inspects it if it passes them.
    async fn validate(
        &self,
        upload: &Upload,
        policy: &Policy,
        store: &Store,
        meta: &ObjectMeta,
    ) -> std::result::Result<(ObjectFacts, Verdict, Annotations), StoreError> {
        let key = upload.key.as_str();
        let head = read_head(policy, store, key, meta.size, &meta.etag).await?;
        let received = ReceivedObject {
            size: meta.size,
            content_type: meta.content_type.as_deref(),
            content_encoding: meta.content_encoding.as_deref(),
            // The rules get the same number of bytes, whether or not `media` needs more.
            head: &head[..head.len().min(SNIFF_LEN)],
            checksum: None,
        };
        // If an object breaks a rule of the first pass, it is read completely only to find out
        // whether it is the verified one. The verified object is never rejected by a rule.
        let mut result = policy.validate(&upload.declared, &received, Pass::WithoutChecksum);
        let declared = upload.declared.checksum.as_ref().filter(|_| result.is_ok());
        let mut checksum = None;
        if let Some(expected) = declared.or_else(|| on_record(upload, policy, store, meta)) {
            let found = checksum_of(store, key, meta, expected).await?;
            if result.is_ok() {
                let received = ReceivedObject { checksum: Some(&found), ..received.clone() };
                result = policy.validate(&upload.declared, &received, Pass::All);
            }
            checksum = Some(found);
        }
        // Recorded if no further request is needed, so that a later replacement of the bytes is
        // recognised.
        let checksum = checksum.or_else(|| free_checksum(store, meta, &head));
        let content_type = policy.media_type(&received);
        let facts = ObjectFacts {
            etag: meta.etag.clone(),
            version_id: meta.version_id.clone(),
            size: meta.size,
            content_type,
            checksum,
        };
        let mut annotations = Annotations::new();
        if let (Ok(()), Some(settings)) = (&result, &policy.media) {
            let threads = &self.media_threads;
            let found = inspect_media(settings, threads, store, key, &facts, head).await?;
            let named = found.annotation.map(|found| (InspectorName::new(MEDIA), found));
            annotations.extend(named);
            result = found.broken.map_or(Ok(()), |sentence| Err(violation(sentence)));
        }
        Ok((facts, result, annotations))
    }
}

/// The first bytes of an object, as many as the rules and, if it is used, the inspector `media`
/// need.
pub(super) async fn read_head(
    policy: &Policy,
    store: &Store,
    key: &str,
    size: u64,
    etag: &str,
) -> std::result::Result<bytes::Bytes, StoreError> {
    let head_len = if policy.media.is_some() { media::HEAD_LEN } else { SNIFF_LEN as u64 };
    match size.min(head_len) {
        0 => Ok(bytes::Bytes::new()),
        len => store.objects.read(key, 0..len, etag).await,
    }
}

/// The recorded checksum of an object that was verified before and has the same size. `None` if the
/// policy does not allow reading that many bytes for a comparison.
fn on_record<'a>(
    upload: &'a Upload,
    policy: &Policy,
    store: &Store,
    meta: &ObjectMeta,
) -> Option<&'a Checksum> {
    let facts = &upload.state.ever_verified()?.facts;
    let known = facts.checksum.as_ref()?;
    let cheap = meta.size <= policy.verify_max_read
        || checksum_of_store(store, meta, known.algorithm()).is_some();
    (cheap && facts.size == meta.size).then_some(known)
}

/// A checksum of the object that needs no further request: the store's checksum, or that of the
/// first bytes if they are the whole object.
fn free_checksum(store: &Store, meta: &ObjectMeta, head: &[u8]) -> Option<Checksum> {
    let whole = meta.size == head.len() as u64;
    let stored = store.checksums_of(meta).into_iter().next();
    stored.or_else(|| whole.then(|| Checksum::of(Algorithm::Sha256, head)))
}

/// The object's checksum in an algorithm, if the store returned it with the metadata.
fn checksum_of_store(store: &Store, meta: &ObjectMeta, algorithm: Algorithm) -> Option<Checksum> {
    store.checksums_of(meta).into_iter().find(|checksum| checksum.algorithm() == algorithm)
}

/// The object's checksum in the algorithm of `declared`: returned by the store, or computed from
/// the object. The creation refuses declarations for which more bytes must be read than the policy
/// allows.
pub(super) async fn checksum_of(
    store: &Store,
    key: &str,
    meta: &ObjectMeta,
    declared: &Checksum,
) -> std::result::Result<Checksum, StoreError> {
    let algorithm = declared.algorithm();
    if let Some(checksum) = checksum_of_store(store, meta, algorithm) {
        return Ok(checksum);
    }
    let stream = store.objects.read_all(key, &meta.etag).await?;
    let hasher = Hasher::new(algorithm);
    let hash = |mut hasher: Hasher, bytes: bytes::Bytes| async move {
        hasher.update(&bytes);
        Ok(hasher)
    };
    Ok(stream.try_fold(hasher, hash).await?.finish())
}
