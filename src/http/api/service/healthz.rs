//! `GET /healthz`

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::extract::Json;
use crate::http::views::named_values;

const OK: &str = "ok";

named_values! {
    /// The process is alive.
    HealthStatus as "HealthStatus": [OK];
}

/// The health of the process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ok"}))]
pub struct Health {
    #[schema(value_type = HealthStatus)]
    status: &'static str,
}

/// Whether the process is alive
///
/// Does not check the database and the stores, because a restart would not fix them.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "service",
    responses((status = 200, description = "The process is alive", body = Health)))]
pub async fn handle() -> Json<Health> {
    Json(Health { status: OK })
}
