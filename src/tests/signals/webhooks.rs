//! Outgoing webhooks, from the transaction to the receiver.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App as Actix, HttpRequest, HttpResponse, HttpServer};
use serde_json::{Value, json};
use upload_coordinator::app::webhooks::{Endpoint, signature};
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::webhook::{Delivery, DeliveryStatus, Subscriber};
use upload_coordinator::net::{NetError, OutboundClient};
use upload_coordinator::workers::webhooks::Dispatcher;

use crate::support::ID3;
use crate::support::live::Live;
use crate::support::wait::{wait_for, wait_for_at_most};
use crate::support::world::World;

const SECRET: [u8; 24] = [7; 24];

/// A received webhook: id, timestamp, signature, body.
pub type Seen = (String, String, String, String);

#[derive(Default)]
pub struct Inbox {
    pub(super) response: AtomicU16,
    seen: Mutex<Vec<Seen>>,
}

impl Inbox {
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn statuses(&self) -> Vec<String> {
        let body = |seen: Seen| serde_json::from_str::<Value>(&seen.3).unwrap();
        self.seen().into_iter().map(|seen| body(seen)["type"].as_str().unwrap().into()).collect()
    }
}

async fn receive(request: HttpRequest, body: Bytes, inbox: Data<Inbox>) -> HttpResponse {
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed().finish();
    }
    let header = |name: &str| request.headers().get(name).expect(name).to_str().unwrap().to_owned();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let seen =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"), body);
    inbox.seen.lock().unwrap().push(seen);
    let status = inbox.response.load(Ordering::SeqCst).try_into().unwrap();
    HttpResponse::build(status).insert_header(("location", "/elsewhere")).finish()
}

/// Starts a receiver. Returns its inbox and its URL.
pub fn receiver() -> (Data<Inbox>, String) {
    let inbox = Data::new(Inbox { response: AtomicU16::new(204), ..Inbox::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let data = inbox.clone();
    let server = HttpServer::new(move || {
        Actix::new().app_data(data.clone()).default_service(web::to(receive))
    });
    tokio::spawn(server.workers(1).listen(listener).unwrap().disable_signals().run());
    (inbox, format!("http://{address}/hooks"))
}

fn endpoint(name: &str, url: &str) -> Endpoint {
    Endpoint { name: name.to_owned(), url: url.parse().unwrap(), secret: SECRET.to_vec().into() }
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber { name: name.to_owned(), events: Vec::new() }
}

/// The `App` of a process with these endpoints.
pub(super) async fn with_endpoints(world: &World, names: &[&str]) -> Arc<App> {
    let app = world.replica().await;
    let subscribers = names.iter().map(|name| subscriber(name)).collect();
    Arc::new(App { db: app.db.clone().with_subscribers(subscribers), ..app })
}

fn client() -> Arc<OutboundClient> {
    Arc::new(OutboundClient::new(Duration::from_secs(10), true))
}

pub(super) fn dispatcher(app: &Arc<App>, name: &str, url: &str) -> Dispatcher {
    Dispatcher::new(app.clone(), client(), endpoint(name, url))
}

pub(super) async fn upload_and_remove(world: &World, app: &App) {
    let upload = world.upload().await;
    world.put(&upload, ID3).await;
    app.confirm_upload(&world.owner, upload.id).await.unwrap();
    app.delete_upload(&world.owner, upload.id).await.unwrap();
}

pub(super) async fn deliveries(app: &App) -> Vec<Delivery> {
    app.db.webhooks().list(None, None, 100).await.unwrap().items
}

#[tokio::test]
async fn every_change_is_delivered_in_order_and_signed() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm"]).await;
    let (inbox, url) = receiver();
    upload_and_remove(&world, &app).await;
    let dispatcher = dispatcher(&app, "crm", &url);
    for _ in 0..2 {
        // A newer event of an upload is sent after the older one.
        let sent = dispatcher.deliver_due().await.unwrap();
        assert_eq!(sent, 1);
    }
    assert_eq!(dispatcher.deliver_due().await.unwrap(), 0);
    assert_eq!(inbox.statuses(), ["upload.uploaded", "upload.removed"]);
    for (id, at, signed, body) in inbox.seen() {
        assert_eq!(signature(&SECRET, &id, &at, &body).unwrap(), signed);
    }
    let done = deliveries(&app).await;
    assert!(done.iter().all(|delivery| delivery.status == DeliveryStatus::Delivered));
}

#[tokio::test]
async fn a_failed_delivery_is_retried_and_given_up_after_a_day() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm"]).await;
    let (inbox, url) = receiver();
    inbox.response.store(302, Ordering::SeqCst);
    upload_and_remove(&world, &app).await;
    let dispatcher = dispatcher(&app, "crm", &url);
    assert_eq!(dispatcher.deliver_due().await.unwrap(), 1);
    assert_eq!(dispatcher.deliver_due().await.unwrap(), 0, "the next attempt is not due yet");
    assert_eq!(inbox.seen().len(), 1, "no redirect is followed");
    world.pass(chrono::TimeDelta::seconds(7));
    assert_eq!(dispatcher.deliver_due().await.unwrap(), 1);
    let id = |n: usize| inbox.seen()[n].0.clone();
    assert_eq!(id(0), id(1), "both attempts have the same id");
    world.pass(chrono::TimeDelta::hours(25));
    assert_eq!(dispatcher.deliver_due().await.unwrap(), 1);
    let dead: Vec<_> =
        deliveries(&app).await.into_iter().filter(|d| d.status == DeliveryStatus::Dead).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].error.as_deref(), Some("HTTP 302"));
    inbox.response.store(200, Ordering::SeqCst);
    let again = app.db.webhooks().redeliver(dead[0].id, app.now()).await.unwrap().unwrap();
    assert_eq!(again.status, DeliveryStatus::Pending);
    while dispatcher.deliver_due().await.unwrap() > 0 {}
    let done = deliveries(&app).await;
    assert!(done.iter().all(|delivery| delivery.status == DeliveryStatus::Delivered), "{done:?}");
}

#[tokio::test]
async fn an_abandoned_claim_expires_with_its_lease() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm"]).await;
    upload_and_remove(&world, &app).await;
    let (now, lease) = (app.now(), chrono::TimeDelta::seconds(60));
    let claim = |now| app.db.webhooks().claim("crm", now, now + lease, 10);
    assert_eq!(claim(now).await.unwrap().len(), 1);
    assert_eq!(claim(now).await.unwrap().len(), 0, "another process gets no delivery");
    let later = claim(now + lease).await.unwrap();
    assert_eq!((later.len(), later[0].attempts), (1, 2));
}

#[tokio::test]
async fn a_dead_receiver_delays_no_other_endpoint() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["dead", "crm"]).await;
    let (inbox, url) = receiver();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = endpoint("dead", &format!("http://{nobody}/"));
    let _running = Dispatcher::start(&app, client(), vec![dead, endpoint("crm", &url)]);
    for _ in 0..6 {
        upload_and_remove(&world, &app).await;
    }
    wait_for("12 deliveries", async || (inbox.seen().len() >= 12).then_some(())).await;
    let failed = deliveries(&app).await.into_iter().filter(|d| d.endpoint == "dead");
    assert!(failed.clone().all(|delivery| delivery.status == DeliveryStatus::Pending));
    assert_eq!(failed.count(), 12);
}

#[tokio::test]
async fn urls_with_a_private_address_or_a_name_of_one_are_refused() -> Result<(), AppError> {
    let (inbox, url) = receiver();
    let client = OutboundClient::new(Duration::from_secs(5), false);
    for url in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        let refused = client.post(&url.parse().unwrap(), [], Bytes::new()).await;
        assert!(matches!(refused, Err(NetError::PrivateAddress)), "{url}: {refused:?}");
    }
    assert!(inbox.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_endpoint_receives_only_its_events() {
    let world = World::new().await;
    let app = world.replica().await;
    let only = Subscriber { name: "crm".into(), events: vec!["upload.removed".into()] };
    let app = App { db: app.db.clone().with_subscribers(vec![only]), ..app };
    upload_and_remove(&world, &app).await;
    let reported: Vec<_> = deliveries(&app).await.into_iter().map(|d| d.event).collect();
    assert_eq!(reported, ["upload.removed"]);
}

/// The real binary, killed while deliveries are waiting.
#[tokio::test]
async fn every_change_is_delivered_even_if_the_service_is_killed() {
    let (inbox, url) = receiver();
    inbox.response.store(500, Ordering::SeqCst);
    let secret = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let mut live = Live::with(&[
        ("webhooks.allow_private", "true"),
        ("webhooks.crm.url", &url),
        ("webhooks.crm.secret", secret),
    ])
    .await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (status, upload) = live.post("/api/uploads", json!({"filename": "a.mp3"})).await;
        assert_eq!(status, 201, "{upload}");
        let id = upload["id"].as_str().unwrap().to_owned();
        let (status, _) =
            live.send(reqwest::Method::DELETE, &format!("/api/uploads/{id}"), None).await;
        assert_eq!(status, 204);
        ids.push(id);
    }
    live.kill().await;
    inbox.response.store(204, Ordering::SeqCst);
    live.restart().await;
    let reported = |id: &String| inbox.seen().iter().any(|seen| seen.3.contains(id.as_str()));
    // The claim of the killed process is due again after its lease of one minute.
    wait_for_at_most(Duration::from_secs(100), "five deliveries", async || {
        let (_, page) = live.get("/api/admin/webhooks/deliveries?status=delivered").await;
        page["items"].as_array().is_some_and(|items| items.len() == 5).then_some(())
    })
    .await;
    assert!(ids.iter().all(reported));
}
