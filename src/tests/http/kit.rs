//! A server on a free port, over a database in a temporary folder and a store in memory.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use upload_coordinator::app::App;
use upload_coordinator::auth::api_keys::{self, NewApiKey};
use upload_coordinator::auth::{ApiKeyVerifier, Authenticator, owner};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::Scopes;
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::http::{Draining, HttpSettings, HttpState, SecurityConfig, build_with};
use upload_coordinator::reconcile::{ReconcileSettings, Reconciler};
use upload_coordinator::storage::memory::MemoryStore;

use crate::support::app::AppParts;
use crate::support::database::TestDatabase;
use crate::support::policies;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub store: Arc<MemoryStore>,
    pub app: Arc<App>,
    client: Client,
    handle: ServerHandle,
    pub database: TestDatabase,
}

/// A complete response.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Asserts a complete problem document of this kind.
    #[track_caller]
    pub fn is_problem(&self, status: u16, name: &str) {
        let problem = self.json();
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], format!("/problems/{name}"), "{self:?}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string());
        assert_eq!(problem["request_id"], self.header("x-request-id"));
    }

    /// Asserts a 400 with a message about this field.
    #[track_caller]
    pub fn blames(&self, field: &str) {
        self.is_problem(400, "validation");
        let sentences = &self.json()["errors"][field];
        assert!(sentences[0].is_string(), "{field}: {}", self.text);
    }
}

pub async fn fetch(request: RequestBuilder) -> Response {
    let response = request.send().await.unwrap();
    Response {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Duration::from_secs(20)).await
    }

    /// A server with this `client_timeout`.
    pub async fn with(client_timeout: Duration) -> Self {
        Self::build(client_timeout, Quota::default(), |_| SecurityConfig::default()).await
    }

    /// A server with API keys, which are not cached.
    pub async fn keyed() -> Self {
        Self::protected(Quota::default(), |_| {}).await
    }

    /// A server with API keys, a quota and other changes of the security configuration.
    pub async fn protected(quota: Quota, change: impl FnOnce(&mut SecurityConfig)) -> Self {
        Self::build(Duration::from_secs(20), quota, |app| {
            let keys = ApiKeyVerifier::new(app.db.clone(), app.clock.clone(), Duration::ZERO);
            let auth = Arc::new(Authenticator::new(Some(keys), None));
            let mut security = SecurityConfig { auth, ..SecurityConfig::default() };
            change(&mut security);
            security
        })
        .await
    }

    /// A server with this `client_timeout`, quota and security configuration.
    pub async fn build(
        client_timeout: Duration,
        quota: Quota,
        protect: impl FnOnce(&App) -> SecurityConfig,
    ) -> Self {
        let database = TestDatabase::create().await;
        let db = database.migrated().await.with_quota(quota);
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let objects = store.clone().store("default", None).unwrap();
        let mut policies = policies();
        // Small, so that tests can send a larger file.
        for policy in policies.values_mut() {
            policy.max_size = 16 << 20;
        }
        let app = AppParts { policies, ..AppParts::new(db, objects) }.build();
        app.register_locations().await.unwrap();
        let settings = ReconcileSettings::default();
        let reconciler = Arc::new(Reconciler::new(app.clone(), settings));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let settings = HttpSettings {
            shutdown_timeout: Duration::from_secs(1),
            json_limit: 64 * 1024,
            client_timeout,
            min_rate: 1024,
            demo: false,
            workers: Some(1),
        };
        let state = HttpState { app: app.clone(), reconciler, draining: Draining::default() };
        let security = protect(&app);
        let server = build_with(state, security, settings, listener).unwrap();
        let handle = server.handle();
        tokio::spawn(server);
        let redirects = reqwest::redirect::Policy::none();
        let client = Client::builder().redirect(redirects).build().unwrap();
        Self { address, store, app, client, handle, database }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = method.parse().unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Response {
        fetch(self.request("GET", path)).await
    }

    pub async fn send(&self, method: &str, path: &str, body: Value) -> Response {
        fetch(self.request(method, path).json(&body)).await
    }

    /// A new API key of an owner with these scopes, as the value of `Authorization`.
    pub async fn key(&self, name: &str, scopes: Scopes) -> String {
        let owner = owner(name).unwrap();
        let new = NewApiKey { name: String::new(), owner, scopes, expires_in: None };
        let made = api_keys::create(&self.app.db, &SystemClock, &SystemIds, new).await;
        format!("Bearer {}", made.unwrap().1.expose_secret())
    }

    /// Creates a track and returns its id.
    pub async fn track(&self) -> String {
        let body = serde_json::json!({"title": "Blue in Green", "artist_name": "Miles Davis"});
        let track = self.send("POST", "/api/tracks", body).await;
        assert_eq!(track.status, 201, "{track:?}");
        track.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

/// Sends many inputs to one server and reports the smallest input that fails.
pub fn fuzz<S: Strategy>(
    server: impl Future<Output = Server>,
    inputs: &S,
    case: impl AsyncFn(&Server, S::Value) -> TestCaseResult,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    let server = runtime.block_on(server);
    let config = Config::with_source_file(file!());
    // Half the usual number of cases, because each case sends several requests.
    let config = Config { cases: config.cases / 2, ..config };
    let outcome =
        TestRunner::new(config).run(inputs, |input| runtime.block_on(case(&server, input)));
    runtime.block_on(server.stop());
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
