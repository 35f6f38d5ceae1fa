//! `GET /healthz`

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::extract::Json;

/// The health of the process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ok"}))]
pub struct Health {
    status: &'static str,
}

/// Whether the process is alive
///
/// Does not check the database and the stores, because a restart would not fix them.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "service",
    responses((status = 200, description = "The process is alive", body = Health)))]
pub async fn handle() -> Json<Health> {
    Json(Health { status: "ok" })
}
