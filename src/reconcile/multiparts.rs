//! Multipart uploads that nobody will finish: their parts cost money and no listing of
//! objects shows them.

use std::collections::HashSet;

use super::worker::{WorkError, Worker};
use crate::app::AppError;
use crate::domain::Upload;
use crate::domain::reconcile::is_abandoned;
use crate::domain::run::{Finding, FindingKind, Stage};
use crate::storage::{OpenMultipart, StoreError};

impl Worker<'_> {
    /// Finds and aborts them, where the store lists them below a prefix. Each run aborts
    /// as many as it may delete objects.
    pub(super) async fn abort_multiparts(
        &self,
        mut marker: Option<String>,
    ) -> Result<(), WorkError> {
        if !self.store.capabilities.list_multiparts {
            return Ok(());
        }
        let known = self.known_multiparts().await?;
        let mut checked = false;
        loop {
            let prefix = self.policy.prefix.as_str();
            self.throttle.acquire().await;
            let listed = self.store.objects.list_multiparts(prefix, marker.as_deref()).await;
            let (open, next) = listed.map_err(AppError::from)?;
            for multipart in open {
                if self.spent() || !self.is_abandoned(&multipart).await? {
                    continue;
                }
                if !checked {
                    self.check_bucket_identity("multipart uploads are to be aborted").await?;
                    checked = true;
                }
                // Said before it is done: who comes after this process says it no more.
                if !known.contains(&multipart.upload_id) {
                    self.report.tally().find([self.abandoned(&multipart)]);
                    self.report.count(|counters| counters.aborted_multipart += 1);
                    self.save(Vec::new(), (Stage::Multiparts, marker.clone())).await?;
                }
                self.abort(multipart).await;
            }
            if next.is_none() || self.spent() {
                return Ok(());
            }
            if next == marker {
                let what = "a page of multipart uploads leads to itself".to_owned();
                return Err(AppError::from(StoreError::Protocol(what)).into());
            }
            marker = next;
        }
    }

    fn spent(&self) -> bool {
        self.report.tally().counters().aborted_multipart >= self.settings.max_deletions
    }

    /// What a process before this one said already.
    async fn known_multiparts(&self) -> Result<HashSet<String>, WorkError> {
        if self.shard.fence <= 1 {
            return Ok(HashSet::new());
        }
        let known = self.app.db.findings().list_multiparts(self.shard.run, self.shard.number).await;
        Ok(known.map_err(AppError::from)?.into_iter().collect())
    }

    /// Reads the row, and what came of the parts, just before.
    async fn is_abandoned(&self, multipart: &OpenMultipart) -> Result<bool, WorkError> {
        let OpenMultipart { key, upload_id, initiated } = multipart;
        // Another's key: never touched.
        let Some(id) = self.policy.prefix.parse_key(key) else { return Ok(false) };
        let row = self.app.db.uploads().find_any_owner(id).await.map_err(AppError::from)?;
        let judge = |row: Option<&Upload>, newest| {
            is_abandoned(row, upload_id, newest, self.app.now(), self.policy)
        };
        if !judge(row.as_ref(), *initiated) {
            return Ok(false);
        }
        self.throttle.acquire().await;
        let parts = match self.store.objects.list_parts(key, upload_id).await {
            Ok(parts) => parts,
            // Finished or aborted meanwhile.
            Err(StoreError::NoSuchMultipart) => return Ok(false),
            Err(error) => return Err(AppError::from(error).into()),
        };
        let newest = parts.iter().filter_map(|part| part.last_modified).max();
        Ok(judge(row.as_ref(), newest.max(*initiated)))
    }

    fn abandoned(&self, multipart: &OpenMultipart) -> Finding {
        let OpenMultipart { key, upload_id, .. } = multipart;
        Finding {
            kind: FindingKind::AbandonedMultipart,
            policy: self.policy.name.clone(),
            upload: self.policy.prefix.parse_key(key),
            key: key.clone(),
            size: None,
            detail: Some(upload_id.clone()),
            found_at: self.app.now(),
        }
    }

    async fn abort(&self, multipart: OpenMultipart) {
        let OpenMultipart { key, upload_id, .. } = multipart;
        if self.run.request.dry_run {
            return;
        }
        if let Err(error) = self.store.objects.abort_multipart(&key, &upload_id).await {
            self.report.count(|counters| {
                counters.aborted_multipart = counters.aborted_multipart.saturating_sub(1);
                counters.errors += 1;
            });
            tracing::warn!(
                key,
                error = &error as &dyn std::error::Error,
                "multipart upload not aborted; the next audit tries again"
            );
        }
    }
}
