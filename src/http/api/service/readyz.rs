//! `GET /readyz`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;

use crate::app::readiness::Checks;
use crate::http::HttpState;
use crate::http::extract::Json;
use crate::http::openapi::NotReady;
use crate::http::problem::{ApiError, Code};
use crate::http::single_flight::SingleFlight;
use crate::storage::Capabilities;

/// How long a result is reused. The route is public, so requests must not cause a check each.
const MAX_AGE: Duration = Duration::from_secs(1);

const OK: &str = "ok";

/// The last result, shared by all server threads.
pub struct Latest(SingleFlight<Arc<Checks>>);

impl Default for Latest {
    fn default() -> Self {
        Self(SingleFlight::new(MAX_AGE))
    }
}

/// The state of everything that requests depend on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"ready": true,
    "checks": {"bucket.default": "ok", "database": "ok", "migrations": "ok"},
    "capabilities": {"default": {"write_once": true, "list_order": true, "start_after": true}}}))]
pub struct Readiness {
    /// Whether every check is `ok`.
    ready: bool,
    /// `ok` or a short description of the failure, for `database`, `migrations` and a
    /// `bucket.<store>` for each store.
    checks: BTreeMap<String, &'static str>,
    /// What each store enforces, as probed at the start. If `storage.<name>.probe` is off, this is
    /// an assumption.
    #[schema(value_type = BTreeMap<String, Object>)]
    capabilities: BTreeMap<String, Arc<Capabilities>>,
}

/// Whether requests can be served
///
/// Checks the database, its migrations and each bucket, at the same time and with a timeout.
/// Requests within about a second get the same result. The log has the details of a failure.
/// During `server.drain_delay`, before a shutdown, the only check is `shutdown`.
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
    let check = || async move { Arc::new(app.check_readiness().await) }.in_current_span();
    let checks = latest.0.get(check).await;
    let checks = checks.ok_or_else(|| ApiError::saying(Code::NotReady, "The checks failed"))?;
    let text = |result: &Result<(), &'static str>| result.err().unwrap_or(OK);
    let failed: Vec<_> = checks.iter().filter(|(_, result)| result.is_err()).collect();
    let views = checks.iter().map(|(name, result)| (name.clone(), text(result)));
    let views: BTreeMap<_, _> = views.collect();
    if failed.is_empty() {
        let stores = state.app.stores.iter();
        let capabilities =
            stores.map(|(name, store)| (name.clone(), Arc::clone(&store.capabilities))).collect();
        return Ok(Json(Readiness { ready: true, checks: views, capabilities }));
    }
    let names: Vec<_> = failed.into_iter().map(|(name, _)| name.as_str()).collect();
    Err(ApiError::saying(Code::NotReady, format!("Failed checks: {}", names.join(", ")))
        .with("ready", false)
        .with("checks", serde_json::json!(views)))
}
