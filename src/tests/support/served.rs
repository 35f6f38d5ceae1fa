//! A [`World`] behind HTTP on a free port.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use reqwest::{Client, RequestBuilder};
use upload_coordinator::app::App;
use upload_coordinator::http::{Draining, EventAuth, HttpSettings, HttpState, build_with};

use super::world::World;

/// The token of the senders of events.
pub const TOKEN: &str = "token-of-the-tests";

pub struct Served {
    pub world: World,
    pub url: String,
    pub client: Client,
    handle: ServerHandle,
}

impl Served {
    pub async fn new() -> Self {
        let world = World::new().await;
        let app = world.app.clone();
        Self::over(world, app)
    }

    /// Serves `app`: the use cases of `world`, or of another process on the same database and
    /// store.
    pub fn over(world: World, app: Arc<App>) -> Self {
        Self::with_events(world, app, EventAuth::new(Some(TOKEN.into())))
    }

    /// Like [`Served::over`], with this authentication of events.
    pub fn with_events(world: World, app: Arc<App>, event_auth: EventAuth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let settings = HttpSettings {
            shutdown_timeout: Duration::from_secs(1),
            json_limit: 64 << 10,
            client_timeout: Duration::from_secs(20),
            min_rate: 1024,
            demo: false,
            workers: Some(1),
        };
        let state =
            HttpState { app, reconciler: world.reconciler.clone(), draining: Draining::default() };
        let server = build_with(state, event_auth, settings, listener).unwrap();
        let handle = server.handle();
        tokio::spawn(server);
        let client = Client::builder().no_proxy().build().unwrap();
        Self { world, url: format!("http://{address}"), client, handle }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}
