//! Signs the request for the bytes of an upload.

use chrono::TimeDelta;

use crate::app::{App, Result};
use crate::domain::upload::Strategy;
use crate::domain::{Policy, Upload};
use crate::storage::Store;
use crate::storage::signer::{Operation, PostRequest, PutRequest, SignedRequest};

impl App {
    /// Signs the request of an upload that is sent whole, with everything that was declared.
    pub(in crate::app) async fn sign_whole(
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

    pub(super) async fn sign_post(
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
    pub(super) async fn sign_put(
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
            // The capabilities of the store may have changed after the row was written.
            write_once: upload.write_once && store.capabilities.accepts_write_once(),
            metadata: upload.metadata.clone(),
            object: policy.object.clone(),
        };
        let key = upload.key.as_str();
        Ok(store.signer.sign(key, operation(&request), self.now(), ttl).await?)
    }
}
