//! Many uploads in one request: created in one commit, and confirmed concurrently. Each upload has
//! its own result.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::create_upload::{Created, NewUpload, Prepared, record_created};
use super::idempotency::IdempotencyKey;
use super::upload_tokens::within_reach;
use super::uploads::{Confirmation, arrived};
use super::{App, AppError, Result};
use crate::db::DbError;
use crate::db::idempotency::Claim;
use crate::db::uploads::{self as db, NewUploadRow, quota_name};
use crate::domain::upload_token::TokenError;
use crate::domain::{Principal, Status, Upload, UploadId};

/// The largest number of uploads of one request.
pub const MAX_BATCH: usize = 100;

/// The number of objects of one request that are observed at the same time.
const CONCURRENCY: usize = 16;

/// A new upload of a batch.
#[derive(Debug, Clone)]
pub struct BatchItem {
    /// Its position in the request. Its id is derived from the position.
    pub position: u8,
    /// The upload.
    pub new: NewUpload,
}

/// Why an upload of a batch was not committed. It is stored for a repeated request.
#[derive(Debug, Serialize, Deserialize)]
enum Refusal {
    NoTrack,
    OverQuota { what: String, limit: u64 },
    TokenExhausted(u64),
}

impl App {
    /// Creates uploads in one commit. An upload that is refused does not affect the others. The
    /// results are in the order of the items.
    ///
    /// With an idempotency key, a repeated request returns the same results, with new signatures
    /// for the uploads that still wait for their bytes. Multipart uploads are opened in the store
    /// when their first parts are signed.
    ///
    /// # Errors
    /// If nothing is created: the database, a policy's bucket or the credentials are not available.
    pub async fn create_uploads_once(
        &self,
        by: impl Into<Principal<'_>>,
        key: Option<&IdempotencyKey>,
        items: &[BatchItem],
    ) -> Result<Vec<Result<Created>>> {
        let by = by.into();
        let create = |claim: Option<Claim>| async move {
            self.create_uploads(by, items, claim.as_ref()).await
        };
        let key = key.cloned().map(|key| key.of(by));
        let name = key.as_ref().map_or("", |key| &key.key);
        let load = |batch| self.load_batch(by, name, batch, items);
        self.idempotent(by.owner(), key.as_ref(), create, load).await
    }

    async fn create_uploads(
        &self,
        by: Principal<'_>,
        items: &[BatchItem],
        claim: Option<&Claim>,
    ) -> Result<Vec<Result<Created>>> {
        self.require_unexpired(by)?;
        let batch = claim.map_or_else(|| self.ids.uuid(), |claim| claim.resource);
        let (mut results, mut requests) = (Vec::new(), Vec::new());
        let (mut rows, mut positions) = (Vec::new(), Vec::new());
        for BatchItem { position, new } in items {
            let id = UploadId::in_batch(batch, *position);
            match self.prepare_upload(by, id, new.clone()).await {
                Ok(Prepared { upload, subject, request }) => {
                    rows.push(NewUploadRow { upload, subject, claim: None });
                    positions.push(*position);
                    requests.push(request);
                    results.push(None);
                }
                Err(error) if is_about_the_item(&error) => results.push(Some(Err(error))),
                Err(error) => return Err(error),
            }
        }
        let outcome = |created: &[db::Created]| to_outcome(&positions, created);
        let created = if rows.is_empty() && claim.is_none() {
            Vec::new()
        } else {
            self.db.uploads().create_many(&rows, claim, &outcome).await?
        };
        let mut committed = created.into_iter().zip(requests).map(|(created, request)| {
            let upload = created?.ok_or(AppError::NotFound("track"))?;
            record_created(&upload);
            Ok(Created { upload, request })
        });
        let results = results.into_iter().filter_map(|result| result.or_else(|| committed.next()));
        Ok(results.collect())
    }

    /// The results of an earlier request with the same key and body.
    async fn load_batch(
        &self,
        by: Principal<'_>,
        key: &str,
        batch: Uuid,
        items: &[BatchItem],
    ) -> Result<Vec<Result<Created>>> {
        let outcome = self.db.idempotency().outcome(by.owner(), key).await?;
        let mut refused = from_outcome(outcome.as_deref());
        let ids: Vec<_> =
            items.iter().map(|item| UploadId::in_batch(batch, item.position)).collect();
        let mut found = self.find_uploads(by, &ids).await?;
        let (mut results, mut events, mut requests) = (Vec::new(), Vec::new(), Vec::new());
        for (item, id) in items.iter().zip(&ids) {
            let Some(upload) = found.remove(id) else {
                results.push(Some(Err(match refused.remove(&item.position) {
                    Some(error) => error,
                    None => self.why_not_created(by, *id, item.new.clone()).await,
                })));
                continue;
            };
            if !matches!(upload.status(), Status::Pending | Status::Expired) {
                results.push(Some(Ok(Created { upload, request: None })));
                continue;
            }
            match self.sign_renewal(by, &upload, item.new.expires_in).await {
                Ok((event, request)) => {
                    events.push((upload, event));
                    requests.push(request);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let renewed = self.apply_many(events).await?;
        let mut renewed = renewed
            .into_iter()
            .zip(requests)
            .map(|(applied, request)| Ok(Created { upload: applied?.upload, request }));
        let results = results.into_iter().filter_map(|result| result.or_else(|| renewed.next()));
        Ok(results.collect())
    }

    /// Why an upload of an earlier request was not created: it is invalid, or was created and
    /// deleted since.
    async fn why_not_created(&self, by: Principal<'_>, id: UploadId, new: NewUpload) -> AppError {
        let prepared = self.prepare_upload(by, id, new).await;
        prepared.err().unwrap_or(AppError::NotFound("upload"))
    }

    /// The uploads with these ids that the caller may use. Sends one query.
    async fn find_uploads(
        &self,
        by: Principal<'_>,
        ids: &[UploadId],
    ) -> Result<HashMap<UploadId, Upload>> {
        let found = self.db.uploads().find_many(by.owner(), ids).await?;
        let found = found.into_iter().filter_map(|upload| within_reach(by, Some(upload)));
        Ok(found.map(|upload| (upload.id, upload)).collect())
    }

    /// Observes the objects of different uploads now, several at the same time, and saves the
    /// results in one commit. The results are in the order of the ids, each as
    /// [`Self::confirm_upload`] would return it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn confirm_uploads(
        &self,
        by: impl Into<Principal<'_>>,
        ids: &[UploadId],
    ) -> Result<Vec<Result<Upload>>> {
        let mut found = self.find_uploads(by.into(), ids).await?;
        let observed: Vec<_> = ids
            .iter()
            .map(|id| {
                let upload = found.remove(id);
                async { self.observe_item(upload).await }
            })
            .collect();
        let observed: Vec<_> = stream::iter(observed).buffered(CONCURRENCY).collect().await;
        let (mut results, mut events) = (Vec::new(), Vec::new());
        for item in observed {
            match item {
                Ok(Confirmation::Settled(upload)) => results.push(Some(Ok(upload))),
                Ok(Confirmation::Observed(upload, event)) => {
                    events.push((upload, event));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let applied = self.apply_many(events).await?;
        let mut applied = applied.into_iter().map(|applied| arrived(applied?.upload));
        let results = results.into_iter().filter_map(|result| result.or_else(|| applied.next()));
        Ok(results.collect())
    }

    async fn observe_item(&self, upload: Option<Upload>) -> Result<Confirmation> {
        let upload = upload.ok_or(AppError::NotFound("upload"))?;
        match self.observe_to_confirm(upload).await? {
            Confirmation::Observed(upload, event)
                if !self.is_within_damage_limit(&upload, &event).await? =>
            {
                arrived(upload).map(Confirmation::Settled)
            }
            confirmation => Ok(confirmation),
        }
    }
}

/// Whether an error affects only one upload of a batch. Other errors fail the whole request.
fn is_about_the_item(error: &AppError) -> bool {
    match error {
        AppError::Invalid(_) | AppError::Disabled(_) => true,
        AppError::Token(refused) => !matches!(refused, TokenError::Unknown | TokenError::Expired),
        _ => false,
    }
}

/// Which uploads were refused, as the text that is stored with the idempotency key. `None` if there
/// are none.
fn to_outcome(positions: &[u8], created: &[db::Created]) -> Option<String> {
    let refused = positions.iter().zip(created).filter_map(|(position, created)| {
        let refusal = match created {
            Ok(None) => Refusal::NoTrack,
            Err(DbError::OverQuota { what, limit }) => {
                Refusal::OverQuota { what: (*what).to_owned(), limit: *limit }
            }
            Err(DbError::Token(TokenError::Exhausted(limit))) => Refusal::TokenExhausted(*limit),
            Ok(Some(_)) | Err(_) => return None,
        };
        Some((*position, refusal))
    });
    let refused: BTreeMap<u8, Refusal> = refused.collect();
    if refused.is_empty() { None } else { serde_json::to_string(&refused).ok() }
}

/// The errors of the uploads that were refused, by position.
fn from_outcome(text: Option<&str>) -> BTreeMap<u8, AppError> {
    let refused: BTreeMap<u8, Refusal> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let errors = refused.into_iter().filter_map(|(position, refusal)| {
        let error = match refusal {
            Refusal::NoTrack => AppError::NotFound("track"),
            Refusal::OverQuota { what, limit } => {
                DbError::OverQuota { what: quota_name(&what)?, limit }.into()
            }
            Refusal::TokenExhausted(limit) => TokenError::Exhausted(limit).into(),
        };
        Some((position, error))
    });
    errors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_stored_completely_and_briefly() {
        let over = || DbError::OverQuota { what: "pending uploads", limit: u64::MAX };
        let positions: Vec<u8> = (0..100).collect();
        let exhausted = || DbError::Token(TokenError::Exhausted(7));
        let created = |n: &u8| match n % 3 {
            0 => Ok(None),
            1 => Err(exhausted()),
            _ => Err(over()),
        };
        let created: Vec<db::Created> = positions.iter().map(created).collect();
        let text = to_outcome(&positions, &created).unwrap();
        assert!(text.len() < 8192, "{}", text.len());
        let errors = from_outcome(Some(&text));
        assert_eq!(errors.len(), 100);
        assert!(matches!(errors[&0], AppError::NotFound("track")));
        assert!(matches!(errors[&1], AppError::Token(TokenError::Exhausted(7))));
        let AppError::Db(error) = &errors[&98] else { panic!("{errors:?}") };
        assert_eq!(error.to_string(), over().to_string());
        assert_eq!(to_outcome(&[], &[]), None);
        for unknown in [None, Some("x"), Some(r#"{"0":{"Other":1}}"#)] {
            assert!(from_outcome(unknown).is_empty());
        }
    }
}
