//! `GET /healthz`

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::extract::Json;

/// That the process is alive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ok"}))]
pub struct Health {
    status: &'static str,
}

/// Whether the process is alive
///
/// Touches neither database nor store: a restart would mend neither.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "service",
    responses((status = 200, description = "Alive", body = Health)))]
pub async fn handle() -> Json<Health> {
    Json(Health { status: "ok" })
}
