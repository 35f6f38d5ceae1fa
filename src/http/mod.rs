//! Stub until the http branch lands.
#![allow(missing_docs)]
use crate::app::App;
use crate::reconcile::Reconciler;
use std::sync::Arc;
pub struct HttpState {
    pub app: Arc<App>,
    pub reconciler: Arc<Reconciler>,
}
pub struct HttpSettings {
    pub bind: std::net::SocketAddr,
    pub shutdown_timeout: std::time::Duration,
    pub json_limit: usize,
    pub client_timeout: std::time::Duration,
    pub workers: Option<usize>,
}
pub fn build(
    _: HttpState,
    _: HttpSettings,
    listener: std::net::TcpListener,
) -> std::io::Result<actix_web::dev::Server> {
    Ok(actix_web::HttpServer::new(actix_web::App::new).listen(listener)?.disable_signals().run())
}
pub mod openapi {
    pub fn document() -> utoipa::openapi::OpenApi {
        utoipa::openapi::OpenApi::default()
    }
}
pub mod views {
    #[derive(serde::Serialize)]
    pub struct RunView;
    impl From<&crate::domain::run::Run> for RunView {
        fn from(_: &crate::domain::run::Run) -> Self {
            Self
        }
    }
}
