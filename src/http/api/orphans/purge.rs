//! `POST /api/admin/orphans/purge`

use actix_web::web::Data;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::ConfigDuration;
use crate::domain::policy::FieldErrors;
use crate::http::HttpState;
use crate::http::extract::text::{self, REQUIRED, record_error};
use crate::http::extract::{Caller, Json};
use crate::http::openapi::{BadBody, Conflict, NotFound};
use crate::http::problem::{ApiError, Code};
use crate::reconcile::purge::{Purge, PurgeError};

/// The number of objects to delete: default and maximum.
const LIMIT: (u64, u64) = (100, 1000);

/// The default minimum age of an orphan.
const OLDER_THAN: TimeDelta = TimeDelta::hours(24);

/// The orphans to delete.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrphanPurge,
    example = json!({"run_id": "0190a6f2-7b3c-7def-8123-456789abcdef", "older_than": "36h",
        "limit": 100, "dry_run": true}))]
pub struct PurgeBody {
    /// The id of the run that found the orphans.
    #[schema(required, value_type = uuid::Uuid)]
    run_id: Option<String>,
    /// The minimum age of the objects. The grace period of the policy applies too. The default is
    /// `24h`.
    #[schema(example = "36h")]
    older_than: Option<String>,
    /// The maximum number of objects, 1 to 1000. The default is 100.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Report what would be deleted without deleting it.
    dry_run: Option<bool>,
}

/// The deleted objects.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PurgedOrphans)]
pub struct PurgedView {
    /// The number of deleted objects. In a dry run, the number of objects that would be deleted.
    pub deleted: u64,
    /// The number of findings that are no longer orphans, are too young or were not deleted because
    /// of an error.
    pub skipped: u64,
    /// Whether this was a dry run, which deletes nothing.
    pub dry_run: bool,
    /// The keys of the objects.
    pub keys: Vec<String>,
}

impl PurgeBody {
    fn purge(self) -> Result<Purge, FieldErrors> {
        let Self { run_id, older_than, limit, dry_run } = self;
        let mut errors = FieldErrors::default();
        let run = run_id.ok_or(REQUIRED.to_owned()).and_then(|id| text::id(&id));
        let run = record_error(run, "run_id", &mut errors);
        let age = older_than.map_or(Ok(OLDER_THAN), |text| age(&text));
        let age = record_error(age, "older_than", &mut errors);
        let limit = limit.unwrap_or(LIMIT.0);
        if !(1..=LIMIT.1).contains(&limit) {
            errors.add("limit", format!("Must be from 1 to {}", LIMIT.1));
        }
        errors.clone().into_result()?;
        let (Some(run), Some(older_than)) = (run, age) else { return Err(errors) };
        Ok(Purge { run, older_than, limit, dry_run: dry_run.unwrap_or_default() })
    }
}

fn age(text: &str) -> Result<TimeDelta, String> {
    let age: Result<ConfigDuration, ()> = text.parse();
    age.map(ConfigDuration::delta).map_err(|()| "Must be an age such as 36h".to_owned())
}

/// Delete orphans
///
/// An orphan is an object without an upload. Deletes the orphans that a run found and that still
/// have no upload. Before an object is deleted, a `removed` upload is created for it, so that its
/// id cannot be used again. A dry run returns exactly the objects that would be deleted.
#[utoipa::path(post, path = "/api/admin/orphans/purge", operation_id = "purge_orphans",
    tag = "admin", request_body = PurgeBody,
    responses((status = 200, description = "The deleted objects", body = PurgedView),
        BadBody, NotFound, Conflict))]
pub async fn handle(
    _caller: Caller,
    Json(body): Json<PurgeBody>,
    state: Data<HttpState>,
) -> Result<Json<PurgedView>, ApiError> {
    let purge = body.purge()?;
    let purged = state.reconciler.purge_orphans(purge).await.map_err(|error| match error {
        PurgeError::BucketMismatch(why) => ApiError::saying(Code::State, why),
        PurgeError::App(error) => error.into(),
    })?;
    Ok(Json(PurgedView {
        deleted: purged.keys.len() as u64,
        skipped: purged.skipped,
        dry_run: purge.dry_run,
        keys: purged.keys,
    }))
}
