//! A store in memory, for tests. It follows the rules of S3, and tests can inject failures.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use chrono::SubsecRound as _;
use url::Url;

use super::s3::{Presigner, Target, TargetError};
use super::{
    ByteStream, Capabilities, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part,
    PartIntegrity, PutOptions, Result, Store, StoreError, Written,
};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::limits::{MAX_PAGE, MAX_PARTS, MIN_PART_SIZE};
use crate::domain::reconcile::Listed;

mod failures;
mod state;

use failures::{Failure, Failures};
pub use failures::{Gate, ListFailure, Operation};
use state::{Multipart, Object, State, StoredPart};

/// A store in memory. Its state has one lock, so concurrent calls are as consistent as on S3.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    min_part_size: u64,
    state: Mutex<State>,
    failures: Mutex<Failures>,
}

impl MemoryStore {
    /// An empty bucket. `clock` is the source of its objects' times.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State { bucket: true, ..State::default() });
        Self { clock, min_part_size: MIN_PART_SIZE, state, failures: Mutex::default() }
    }

    /// Accepts smaller parts than S3, so that tests need not send megabytes.
    #[must_use]
    pub fn with_min_part_size(self, bytes: u64) -> Self {
        Self { min_part_size: bytes, ..self }
    }

    /// The store for the service. It has no HTTP server: signed URLs have a host that never exists
    /// (RFC 2606), and tests call `put` in place of the client.
    pub fn store(
        self: Arc<Self>,
        name: &str,
        endpoint: Option<&Url>,
    ) -> Result<Store, TargetError> {
        let nowhere = Url::parse("http://memory.invalid").map_err(|_| TargetError::Scheme)?;
        let target = Target::new(endpoint.or(Some(&nowhere)), "us-east-1", "memory", true)?;
        let credentials = Credentials::new("memory", "memory", None, None, "memory");
        Ok(Store {
            name: name.to_owned(),
            bucket: "memory".to_owned(),
            objects: self,
            signer: Arc::new(Presigner::new(target, SharedCredentialsProvider::new(credentials))),
            capabilities: Capabilities { notifications: Some(false), ..Capabilities::aws() }.into(),
        })
    }

    /// The next `times` calls of `operation` fail and do nothing.
    pub fn fail_next(
        &self,
        operation: Operation,
        times: usize,
        error: impl Fn() -> StoreError + Send + Sync + 'static,
    ) {
        self.plan(operation, times, Failure::Fail(Arc::new(error)));
    }

    /// The next `times` calls of `operation` do their work, but their responses are lost: the
    /// caller gets [`StoreError::Unavailable`].
    pub fn lose_next(&self, operation: Operation, times: usize) {
        self.plan(operation, times, Failure::Lose);
    }

    /// Removes the planned failures that have not happened yet.
    pub fn heal(&self) {
        let mut failures = self.failures();
        failures.next.clear();
        failures.lists.clear();
    }

    /// Sets the failures of the next pages of listings, in order; `None` is a valid page.
    pub fn spoil_lists(&self, pages: impl IntoIterator<Item = Option<ListFailure>>) {
        self.failures().lists.extend(pages);
    }

    /// Delays every call of `operation` from now on at the returned gate.
    pub fn hold(&self, operation: Operation) -> Arc<Gate> {
        let gate = Arc::new(Gate::closed());
        self.failures().gates.insert(operation, gate.clone());
        gate
    }

    /// How often `operation` was called, including failed calls.
    pub fn calls(&self, operation: Operation) -> usize {
        self.failures().calls.get(&operation).copied().unwrap_or_default()
    }

    /// The keys of all objects, in ascending order.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Keeps the versions of objects that are written from now on.
    pub fn keep_versions(&self) {
        self.state().keeps_versions = true;
    }

    /// The ids of all versions and delete markers of a key, the oldest first.
    pub fn versions(&self, key: &str) -> Vec<String> {
        let state = self.state();
        state.versions.get(key).into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    /// Removes one version, as a lifecycle rule of the bucket does.
    pub fn remove_version(&self, key: &str, version_id: &str) {
        self.state().remove_version(key, version_id);
    }

    /// Hides a key behind a delete marker, as a plain DELETE does in a bucket with versions.
    pub fn hide(&self, key: &str) {
        self.state().hide(key);
    }

    /// Deletes the bucket and its content.
    pub fn drop_bucket(&self) {
        *self.state() = State::default();
    }

    fn plan(&self, operation: Operation, times: usize, failure: Failure) {
        let mut failures = self.failures();
        let queue: &mut VecDeque<_> = failures.next.entry(operation).or_default();
        queue.extend(std::iter::repeat_n(failure, times));
    }

    /// Counts the call, waits at its gate, and then runs it on the state.
    async fn run<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let gate = {
            let mut failures = self.failures();
            *failures.calls.entry(operation).or_default() += 1;
            failures.gates.get(&operation).cloned()
        };
        if let Some(gate) = gate {
            gate.wait().await;
        }
        let failure = self.failures().next.get_mut(&operation).and_then(VecDeque::pop_front);
        if let Some(Failure::Fail(error)) = &failure {
            return Err(error());
        }
        let mut state = self.state();
        if !state.bucket && operation != Operation::CreateBucket {
            return Err(StoreError::NoSuchBucket);
        }
        let done = work(&mut state);
        match failure {
            Some(Failure::Lose) => Err(StoreError::Unavailable("the response was lost".into())),
            _ => done,
        }
    }

    /// The time in whole seconds, as in S3.
    fn now(&self) -> Timestamp {
        self.clock.now().trunc_subsecs(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        // In S3, a HEAD cannot tell a missing bucket from a missing object.
        let found = self.run(Operation::Head, |state| Ok(state.objects.get(key).map(Object::meta)));
        match found.await {
            Err(StoreError::NoSuchBucket) => Ok(None),
            found => found,
        }
    }

    async fn head_version(&self, key: &str, version_id: &str) -> Result<Option<ObjectMeta>> {
        match self.run(Operation::Head, |state| Ok(state.version(key, version_id))).await {
            Err(StoreError::NoSuchBucket) => Ok(None),
            found => found,
        }
    }

    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let body = self.run(Operation::Read, |state| state.matching(key, if_match)).await?;
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(at(range.start)..at(range.end)))
    }

    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream> {
        let body = self.run(Operation::Read, |state| state.matching(key, if_match)).await?;
        Ok(Box::pin(futures_util::stream::unfold(body, |mut remaining| async {
            let chunk = remaining.split_to(remaining.len().min(64 * 1024));
            (!chunk.is_empty()).then_some((Ok(chunk), remaining))
        })))
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let now = self.now();
        self.run(Operation::Put, |state| {
            if options.if_none_match && state.objects.contains_key(key) {
                return Err(StoreError::PreconditionFailed);
            }
            if let Some(etag) = &options.if_match {
                state.matching(key, etag)?;
            }
            if let Some(declared) = &options.checksum
                && Checksum::of(declared.algorithm(), &body) != *declared
            {
                return Err(refused("BadDigest"));
            }
            let etag = hex::encode(state::md5(&body));
            Ok(state.write(key, Object::new(etag, body, options, now)))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let work = |state: &mut State| {
            state.remove(key);
            Ok(())
        };
        self.run(Operation::Delete, work).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let failure = self.failures().lists.pop_front().flatten();
        self.run(Operation::List, |state| Ok(state.page(request, failure))).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String> {
        let initiated = self.now();
        self.run(Operation::CreateMultipart, |state| {
            state.created += 1;
            let upload_id = format!("memory-{:08}", state.created);
            let options = PutOptions { if_none_match: false, ..options.clone() };
            let multipart = Multipart { options, initiated, parts: BTreeMap::new() };
            state.multiparts.insert((key.to_owned(), upload_id.clone()), multipart);
            Ok(upload_id)
        })
        .await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        _integrity: PartIntegrity,
    ) -> Result<Part> {
        let now = self.now();
        self.run(Operation::UploadPart, |state| {
            if !(1..=MAX_PARTS).contains(&number) {
                return Err(refused("InvalidArgument"));
            }
            let multipart = state.multipart(key, upload_id)?;
            let stored = StoredPart { md5: state::md5(&body), body, last_modified: now };
            let part = Part { last_modified: None, ..stored.part(number) };
            multipart.parts.insert(number, stored);
            Ok(part)
        })
        .await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.run(Operation::ListParts, |state| {
            let parts = &state.multipart(key, upload_id)?.parts;
            Ok(parts.iter().map(|(number, part)| part.part(*number)).collect())
        })
        .await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        let now = self.now();
        self.run(Operation::CompleteMultipart, |state| {
            let exists = state.objects.contains_key(key);
            let multipart = state.multipart(key, upload_id)?;
            if if_none_match && exists {
                return Err(StoreError::PreconditionFailed);
            }
            let object = multipart.assemble(parts, self.min_part_size, now)?;
            state.multiparts.remove(&(key.to_owned(), upload_id.to_owned()));
            Ok(state.write(key, object))
        })
        .await
    }

    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()> {
        let work = |state: &mut State| {
            state.multiparts.remove(&(key.to_owned(), upload_id.to_owned()));
            Ok(())
        };
        self.run(Operation::AbortMultipart, work).await
    }

    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        self.run(Operation::ListMultiparts, |state| {
            let after = marker.and_then(|marker| marker.split_once('\n'));
            let begin = after.map_or(Bound::Unbounded, |(id, key)| {
                Bound::Excluded((key.to_owned(), id.to_owned()))
            });
            let mut open = state
                .multiparts
                .range((begin, Bound::Unbounded))
                .filter(|((key, _), _)| key.starts_with(prefix))
                .map(|((key, upload_id), multipart)| OpenMultipart {
                    key: key.clone(),
                    upload_id: upload_id.clone(),
                    initiated: Some(multipart.initiated),
                });
            let page: Vec<_> = open.by_ref().take(MAX_PAGE).collect();
            let more = open.next().is_some();
            let next = page.last().filter(|_| more).map(|u| format!("{}\n{}", u.upload_id, u.key));
            Ok((page, next))
        })
        .await
    }

    async fn check_bucket(&self) -> Result<()> {
        self.run(Operation::CheckBucket, |_| Ok(())).await
    }

    async fn create_bucket(&self) -> Result<()> {
        let work = |state: &mut State| {
            state.bucket = true;
            Ok(())
        };
        self.run(Operation::CreateBucket, work).await
    }
}

fn refused(code: &str) -> StoreError {
    StoreError::Refused { code: code.to_owned(), source: code.into() }
}

/// The checksums in a HEAD response. S3 returns MD5 only as the ETag.
fn is_returned_by_head(checksum: &Checksum) -> bool {
    checksum.algorithm() != Algorithm::Md5
}

#[cfg(test)]
mod tests;
