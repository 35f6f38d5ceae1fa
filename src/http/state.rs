//! The state that the server shares with its handlers, extractors and middleware.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::auth::Authenticator;
use crate::auth::rate_limit::RateLimit;
use crate::auth::sns::Sns;
use crate::db::CursorKey;
use crate::domain::ConcurrencyLimit;
use crate::reconcile::Reconciler;

use super::family::ApiFamily;

/// How many messages with bucket events are processed at the same time.
const EVENT_MESSAGES: usize = 16;

/// The state for handlers.
#[derive(Clone)]
pub struct HttpState {
    /// The use cases.
    pub app: Arc<App>,
    /// Starts reconciliation runs.
    pub reconciler: Arc<Reconciler>,
    /// Whether the service is about to stop.
    pub draining: Draining,
}

/// Whether the service is about to stop: it still serves requests, but `readyz` fails.
#[derive(Debug, Default, Clone)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Records that the service is about to stop.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the service is about to stop.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Limits and options of the server.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// How long the service waits for requests in progress when it stops.
    pub shutdown_timeout: Duration,
    /// The maximum size of a JSON body, in bytes.
    pub json_limit: usize,
    /// The maximum time for a request head, for a JSON body, between two chunks of a file, and
    /// for an idle connection.
    pub client_timeout: Duration,
    /// The smallest number of bytes per second of a file's body, averaged over `client_timeout`. 0
    /// means no limit.
    pub min_rate: u64,
    /// Whether `/demo` is served.
    pub demo: bool,
    /// The number of server threads. `None` is one per core.
    pub workers: Option<usize>,
}

/// Authentication, limits, browser access and the public address.
pub struct SecurityConfig {
    /// The token for `POST /api/events/s3`.
    pub event_auth: EventAuth,
    /// Identifies callers by their token.
    pub auth: Arc<Authenticator>,
    /// Requests per second for each caller. `None` means no limit.
    pub rate_limit: Option<RateLimit>,
    /// Concurrent direct uploads.
    pub direct_uploads: Arc<ConcurrencyLimit>,
    /// Signs the cursors of lists.
    pub cursor_key: CursorKey,
    /// The origins whose pages may call the API. `*` means all, an empty list means none.
    pub cors_origins: Vec<String>,
    /// The base of this service's URLs in responses. If it is empty, responses contain paths.
    pub public_url: String,
    /// The wire formats of other clients that are enabled.
    pub dialects: Vec<Arc<dyn ApiFamily>>,
    /// The certificate and key, if the server itself terminates TLS.
    pub tls: Option<rustls::ServerConfig>,
}

impl Default for SecurityConfig {
    /// Settings without authentication and limits.
    fn default() -> Self {
        Self {
            event_auth: EventAuth::new(None),
            auth: Arc::new(Authenticator::open()),
            rate_limit: None,
            direct_uploads: Arc::new(ConcurrencyLimit::unlimited()),
            cursor_key: CursorKey::new(rand::random()),
            cors_origins: Vec::new(),
            public_url: String::new(),
            dialects: Vec::new(),
            tls: None,
        }
    }
}

impl From<EventAuth> for SecurityConfig {
    fn from(event_auth: EventAuth) -> Self {
        Self { event_auth, ..Self::default() }
    }
}

/// The authentication of messages with bucket events: the token, a limit on concurrent messages,
/// and the verifier of messages from SNS.
#[derive(Clone)]
pub struct EventAuth {
    pub(super) token: Option<SecretString>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) sns: Option<Arc<Sns>>,
}

impl EventAuth {
    /// Accepts messages with this token. Without a token, no message is accepted.
    pub fn new(token: Option<SecretString>) -> Self {
        Self { token, permits: Arc::new(Semaphore::new(EVENT_MESSAGES)), sns: None }
    }

    /// Also accepts messages in the format of SNS.
    #[must_use]
    pub fn with_sns(self, sns: Sns) -> Self {
        Self { sns: Some(Arc::new(sns)), ..self }
    }
}
