//! `GET /readyz`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use serde::Serialize;
use tokio::time::timeout;
use tracing::Instrument as _;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::readiness::Checks;
use crate::http::HttpState;
use crate::http::extract::Json;
use crate::http::openapi::NotReady;
use crate::http::problem::{ApiError, Code};
use crate::http::single_flight::SingleFlight;
use crate::http::views::named_values;
use crate::storage::Capabilities;

/// How long a result is reused. The route is public, so a check for each request would let anybody
/// load the database and the stores.
const MAX_AGE: Duration = Duration::from_secs(1);

const OK: &str = "ok";
const DEGRADED: &str = "degraded";

named_values! {
    /// The result of all checks together.
    ReadinessStatus as "ReadinessStatus": [OK, DEGRADED];
}

/// The age at which the markers of the buckets are read again.
const MARKER_AGE: Duration = Duration::from_secs(5);

/// How long reading the markers may take. Load balancers wait for a few seconds.
const MARKER_TIMEOUT: Duration = Duration::from_secs(2);

/// The results of all checks.
pub struct Checked {
    checks: Checks,
    /// The reason why each untrusted bucket is not trusted. The keys are `marker.<policy>`.
    distrusted: BTreeMap<String, &'static str>,
}

/// The last result, shared by all server threads.
pub struct Latest(SingleFlight<Arc<Checked>>);

impl Default for Latest {
    fn default() -> Self {
        Self(SingleFlight::new(MAX_AGE))
    }
}

/// The state of everything that requests depend on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"ready": true, "status": "ok",
    "checks": {"bucket.default": "ok", "database": "ok", "migrations": "ok"},
    "capabilities": {"default": {"write_once": true, "list_order": true, "start_after": true}}}))]
pub struct Readiness {
    /// Whether requests can be served.
    ready: bool,
    /// `ok`, or `degraded` if uploads work but the marker of a bucket does not show that the bucket
    /// belongs to this service.
    #[schema(value_type = ReadinessStatus)]
    status: &'static str,
    /// Why the status is `degraded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// The result of each check: `ok`, or a short description of the failure. The checks are
    /// `database`, `migrations`, and a `bucket.<store>` for each store. There is also a
    /// `marker.<policy>` for each policy whose marker does not show that the bucket belongs to this
    /// service.
    checks: BTreeMap<String, &'static str>,
    /// What each store supports and enforces. The service tests this when it starts. If
    /// `storage.<name>.probe` is off, the values are assumptions.
    #[schema(value_type = BTreeMap<String, Object>)]
    capabilities: BTreeMap<String, Arc<Capabilities>>,
}

/// Whether requests can be served
///
/// Checks the database, its migrations and each bucket, at the same time and with a timeout.
/// Requests within about a second get the same result. The log has the details of a failure. During
/// `server.drain_delay`, before a shutdown, the only check is `shutdown`. The status is `degraded`
/// if the marker of a bucket does not show that the bucket belongs to this service. In that case
/// nothing is deleted in this bucket, and new uploads to it may be refused.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "service",
    responses((status = 200, description = "Ready", body = Readiness), NotReady))]
pub async fn handle(
    state: Data<HttpState>,
    latest: Data<Latest>,
) -> Result<Json<Readiness>, ApiError> {
    if state.draining.has_begun() {
        return Err(ApiError::saying(Code::NotReady, "The service is shutting down")
            .with("ready", false)
            .with("checks", serde_json::json!({"shutdown": "in progress"})));
    }
    let app = Arc::clone(&state.app);
    let check = || async move { Arc::new(check(&app).await) }.in_current_span();
    let checked = latest.0.get(check).await;
    let checked = checked.ok_or_else(|| ApiError::saying(Code::NotReady, "The checks failed"))?;
    let Checked { checks, distrusted } = &*checked;
    let text = |result: &Result<(), &'static str>| result.err().unwrap_or(OK);
    let failed: Vec<_> = checks.iter().filter(|(_, result)| result.is_err()).collect();
    let views = checks.iter().map(|(name, result)| (name.clone(), text(result)));
    let mut views: BTreeMap<_, _> = views.collect();
    views.extend(distrusted.iter().map(|(name, problem)| (name.clone(), *problem)));
    if failed.is_empty() {
        let stores = state.app.stores.iter();
        let capabilities =
            stores.map(|(name, store)| (name.clone(), Arc::clone(&store.capabilities))).collect();
        let reasons = distrusted.iter().map(|(name, problem)| format!("{name}: {problem}"));
        let reason = (!distrusted.is_empty()).then(|| reasons.collect::<Vec<_>>().join("; "));
        let status = if reason.is_some() { DEGRADED } else { OK };
        return Ok(Json(Readiness { ready: true, status, reason, checks: views, capabilities }));
    }
    let names: Vec<_> = failed.into_iter().map(|(name, _)| name.as_str()).collect();
    Err(ApiError::saying(Code::NotReady, format!("Failed checks: {}", names.join(", ")))
        .with("ready", false)
        .with("checks", serde_json::json!(views)))
}

async fn check(app: &App) -> Checked {
    let markers = async {
        // A timeout is ignored here: a store that does not respond also fails its own check.
        if let Ok(Err(error)) = timeout(MARKER_TIMEOUT, app.refresh_buckets(MARKER_AGE)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a marker could not be read");
        }
    };
    let (checks, ()) = tokio::join!(app.check_readiness(), markers);
    Checked { checks, distrusted: app.distrusted_buckets() }
}
