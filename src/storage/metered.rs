//! Metrics for store calls.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::TimeDelta;

use super::credentials::{GuardedSigner, MAX_REFUSALS, Refusals};
use super::{
    ByteStream, CopySource, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part,
    PartIntegrity, PutOptions, Result, Store, StoreError, Written,
};
use crate::telemetry::{chain, metrics as names};

/// Calls that need free space in the store.
const WRITES: [&str; 5] = ["put", "upload_part", "complete_multipart", "copy", "copy_part"];

/// How long a store counts as full after a write has failed. Only another write can find out
/// whether it is still full.
const FULL_FOR: Duration = Duration::from_mins(1);

/// Records the number, duration and outcome of the calls to a store.
pub struct MeteredStore {
    name: String,
    inner: Arc<dyn ObjectStore>,
    refusals: Arc<Refusals>,
    /// When the last write failed because the store was full.
    full_at: Mutex<Option<Instant>>,
}

impl MeteredStore {
    /// Adds metrics with the name of the store. The store signs only while the checks of its bucket
    /// show that it accepts the credentials.
    #[must_use]
    pub fn wrap(store: Store) -> Store {
        let refusals = Arc::<Refusals>::default();
        let signer = GuardedSigner { inner: store.signer, refusals: Arc::clone(&refusals) };
        let metered = Self {
            name: store.name.clone(),
            inner: store.objects,
            refusals,
            full_at: Mutex::default(),
        };
        Store { objects: Arc::new(metered), signer: Arc::new(signer), ..store }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let begun = Instant::now();
        let response = call.await;
        if let Some(offset) = self.inner.clock_offset() {
            metrics::gauge!(names::STORE_CLOCK_OFFSET, "store" => self.name.clone())
                .set(offset.as_seconds_f64());
        }
        self.observe_space(operation, response.as_ref().err());
        let outcome = response.as_ref().map_or_else(kind, |_| "ok");
        let store = || self.name.clone();
        metrics::counter!(names::STORE_CALLS,
            "store" => store(), "operation" => operation, "outcome" => outcome)
        .increment(1);
        metrics::histogram!(names::STORE_DURATION, "store" => store(), "operation" => operation)
            .record(begun.elapsed());
        response
    }
}

impl MeteredStore {
    fn observe_space(&self, operation: &str, error: Option<&StoreError>) {
        let full_at = match error {
            Some(StoreError::Full(_)) => Some(Instant::now()),
            None if WRITES.contains(&operation) => None,
            _ => return,
        };
        *self.full_at.lock().unwrap_or_else(PoisonError::into_inner) = full_at;
    }
}

/// The metric label of an error.
fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::PreconditionFailed => "precondition_failed",
        StoreError::NoSuchMultipart => "no_such_multipart",
        StoreError::NoSuchBucket => "no_such_bucket",
        StoreError::AccessDenied(_) => "access_denied",
        StoreError::Refused { .. } => "refused",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Full(_) => "full",
        StoreError::Protocol(_) => "protocol",
        StoreError::Body(_) => "body",
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        self.call("head", self.inner.head(key)).await
    }

    async fn head_version(&self, key: &str, version_id: &str) -> Result<Option<ObjectMeta>> {
        self.call("head", self.inner.head_version(key, version_id)).await
    }

    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes> {
        self.call("read", self.inner.read(key, range, if_match)).await
    }

    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream> {
        self.call("read_all", self.inner.read_all(key, if_match)).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.call("put", self.inner.put(key, body, options)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.call("delete", self.inner.delete(key)).await
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        self.call("delete_batch", self.inner.delete_batch(keys)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        self.call("list", self.inner.list(request)).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String> {
        self.call("create_multipart", self.inner.create_multipart(key, options)).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        integrity: PartIntegrity,
    ) -> Result<Part> {
        let call = self.inner.upload_part(key, upload_id, number, body, integrity);
        self.call("upload_part", call).await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.call("list_parts", self.inner.list_parts(key, upload_id)).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        let call = self.inner.complete_multipart(key, upload_id, parts, if_none_match);
        self.call("complete_multipart", call).await
    }

    fn copy_domain(&self) -> Option<&str> {
        self.inner.copy_domain()
    }

    async fn copy(
        &self,
        source: &CopySource<'_>,
        key: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.call("copy", self.inner.copy(source, key, options)).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        range: Range<u64>,
        key: &str,
        upload_id: &str,
        number: u16,
    ) -> Result<Part> {
        let call = self.inner.copy_part(source, range, key, upload_id, number);
        self.call("copy_part", call).await
    }

    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()> {
        self.call("abort_multipart", self.inner.abort_multipart(key, upload_id)).await
    }

    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        self.call("list_multiparts", self.inner.list_multiparts(prefix, marker)).await
    }

    async fn check_bucket(&self) -> Result<()> {
        let checked = self.call("check_bucket", self.inner.check_bucket()).await;
        let refused = self.refusals.record(&checked);
        metrics::gauge!(names::STORE_REFUSALS, "store" => self.name.clone()).set(refused);
        if refused == MAX_REFUSALS {
            tracing::error!(
                store = self.name,
                error = checked.as_ref().err().map(|error| chain(error)),
                "the store refuses the credentials: no URL is signed until it accepts them again"
            );
        }
        checked
    }

    async fn create_bucket(&self) -> Result<()> {
        self.call("create_bucket", self.inner.create_bucket()).await
    }

    fn is_full(&self) -> bool {
        let full_at = *self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        full_at.is_some_and(|at| at.elapsed() < FULL_FOR)
    }

    fn clock_offset(&self) -> Option<TimeDelta> {
        self.inner.clock_offset()
    }
}
