//! `GET /readyz`

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::HttpState;
use crate::http::extract::Json;
use crate::http::openapi::NotReady;
use crate::http::problem::{ApiError, Code};
use crate::http::single_flight::SingleFlight;
use crate::storage::Capabilities;
use crate::telemetry::chain;

/// What one check may take: load balancers ask often and wait a few seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what was found is told to whoever asks next: anybody may ask.
const KEPT: Duration = Duration::from_secs(1);

const OK: &str = "ok";

type Checks = BTreeMap<String, &'static str>;

/// What was found last, for all workers.
pub struct Latest(SingleFlight<Arc<Checks>>);

impl Default for Latest {
    fn default() -> Self {
        Self(SingleFlight::kept_for(KEPT))
    }
}

/// That all is there which requests need.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"ready": true,
    "checks": {"bucket.default": "ok", "database": "ok", "migrations": "ok"},
    "capabilities": {"default": {"write_once": true, "list_order": true, "start_after": true}}}))]
pub struct Readiness {
    /// Whether every check is `ok`.
    ready: bool,
    /// `ok`, or a few words on what is wrong: `database`, `migrations`, and a
    /// `bucket.<store>` for each store.
    checks: BTreeMap<String, &'static str>,
    /// What each store enforces, as probed at start or, where `storage.<name>.probe` is
    /// off, as assumed.
    #[schema(value_type = BTreeMap<String, Object>)]
    capabilities: BTreeMap<String, Arc<Capabilities>>,
}

/// Whether requests can be served
///
/// Asks the database, for pending migrations, and each bucket, side by side and bounded in
/// time; who asks within about a second is told the same. What is wrong in detail is in the log.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "service",
    responses((status = 200, description = "Ready", body = Readiness), NotReady))]
pub async fn handle(
    state: Data<HttpState>,
    latest: Data<Latest>,
) -> Result<Json<Readiness>, ApiError> {
    let app = Arc::clone(&state.app);
    let checks = latest.0.get(|| look(app).map(Arc::new).in_current_span()).await;
    let checks = checks.ok_or_else(|| ApiError::saying(Code::NotReady, "The checks broke off"))?;
    let checks = Checks::clone(&checks);
    let app = &*state.app;
    if checks.values().all(|found| *found == OK) {
        let stores = app.stores.iter();
        let capabilities =
            stores.map(|(name, store)| (name.clone(), Arc::clone(&store.capabilities))).collect();
        return Ok(Json(Readiness { ready: true, checks, capabilities }));
    }
    let down: Vec<_> =
        checks.iter().filter(|(_, found)| **found != OK).map(|(name, _)| name.as_str()).collect();
    Err(ApiError::saying(Code::NotReady, format!("Not ready: {}", down.join(", ")))
        .with("ready", false)
        .with("checks", serde_json::json!(checks)))
}

async fn look(app: Arc<App>) -> Checks {
    let app = &*app;
    let mut checks: Vec<BoxFuture<'_, (String, &'static str)>> = vec![
        check("database".to_owned(), "does not answer", ping(app)).boxed(),
        check("migrations".to_owned(), "pending or unknown", migrations(app)).boxed(),
    ];
    for (name, store) in &app.stores {
        let bucket = async move { store.objects.check_bucket().await.map_err(boxed) };
        checks.push(check(format!("bucket.{name}"), "can't be used", bucket).boxed());
    }
    join_all(checks).await.into_iter().collect()
}

type Failure = Box<dyn Error + Send + Sync>;

fn boxed(error: impl Error + Send + Sync + 'static) -> Failure {
    Box::new(error)
}

async fn ping(app: &App) -> Result<(), Failure> {
    app.db.ping().await.map_err(boxed)
}

async fn migrations(app: &App) -> Result<(), Failure> {
    let pending = app.db.pending_migrations().await.map_err(boxed)?;
    if pending.is_empty() { Ok(()) } else { Err(pending.join(", ").into()) }
}

async fn check(
    name: String,
    wrong: &'static str,
    check: impl Future<Output = Result<(), Failure>>,
) -> (String, &'static str) {
    let found = match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(())) => OK,
        Ok(Err(error)) => {
            tracing::warn!(check = name, error = chain(&*error), "not ready");
            wrong
        }
        Err(_) => {
            tracing::warn!(
                check = name,
                timeout_s = CHECK_TIMEOUT.as_secs(),
                "not ready: no answer"
            );
            "does not answer in time"
        }
    };
    (name, found)
}
