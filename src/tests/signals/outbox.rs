//! Ended webhook deliveries, and deliveries to unknown endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use upload_coordinator::app::App;
use upload_coordinator::app::retention::{Pruned, Retention};
use upload_coordinator::domain::webhook::DeliveryStatus;

use super::webhooks::{Inbox, deliveries, dispatcher, receiver, upload_and_remove, with_endpoints};
use crate::support::served::Served;
use crate::support::world::World;

/// Creates a delivery that succeeded and one that was given up.
async fn ended(world: &World, app: &Arc<App>, inbox: &Inbox, url: &str) {
    let dispatcher = dispatcher(app, "crm", url);
    upload_and_remove(world, app).await;
    dispatcher.deliver_due().await.unwrap();
    inbox.response.store(500, Ordering::SeqCst);
    world.pass(chrono::TimeDelta::hours(25));
    dispatcher.deliver_due().await.unwrap();
    let mut ended: Vec<_> = deliveries(app).await.into_iter().map(|d| d.status.name()).collect();
    ended.sort_unstable();
    assert_eq!(ended, ["dead", "delivered"]);
}

#[tokio::test]
async fn an_administrator_can_redeliver_a_delivery_that_was_given_up() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm"]).await;
    let (inbox, url) = receiver();
    ended(&world, &app, &inbox, &url).await;
    let served = Served::over(world, app.clone());
    let list = "/api/admin/webhooks/deliveries?status=dead";
    let page: Value = served.get(list).send().await.unwrap().json().await.unwrap();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    let again = async |id: &str| {
        let path = format!("{}/api/admin/webhooks/deliveries/{id}/redeliver", served.url);
        let response = served.client.post(path).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, delivery) = again(&id).await;
    assert_eq!((status, &delivery["status"]), (202, &json!("pending")), "{delivery}");
    inbox.response.store(200, Ordering::SeqCst);
    let before = inbox.seen().len();
    let sent = dispatcher(&app, "crm", &url).deliver_due().await.unwrap();
    assert_eq!(sent, 1);
    assert_eq!(inbox.seen()[before].0, id, "the same delivery as before");
    let page: Value = served.get(list).send().await.unwrap().json().await.unwrap();
    assert_eq!(page["items"], json!([]));
    assert_eq!(again(&uuid::Uuid::nil().to_string()).await.0, 404);
    assert_eq!(again("garbage").await.0, 404);
    served.stop().await;
}

#[tokio::test]
async fn ended_deliveries_are_pruned_after_their_retention_and_pending_ones_never() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm"]).await;
    let (inbox, url) = receiver();
    ended(&world, &app, &inbox, &url).await;
    upload_and_remove(&world, &app).await;
    let day = chrono::TimeDelta::days(1);
    let retention = Retention { findings: day * 30, ended: None, deliveries: day * 7 };
    world.pass(day * 5);
    assert_eq!(app.prune(retention).await.unwrap(), Pruned::default());
    world.pass(day * 3);
    let pruned = app.prune(retention).await.unwrap();
    assert_eq!(pruned, Pruned { deliveries: 2, ..Pruned::default() });
    let left = deliveries(&app).await;
    assert!(left.iter().all(|delivery| delivery.status == DeliveryStatus::Pending));
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn deliveries_to_an_endpoint_that_is_no_longer_configured_are_given_up_with_a_reason() {
    let world = World::new().await;
    let app = with_endpoints(&world, &["crm", "old"]).await;
    upload_and_remove(&world, &app).await;
    let app = with_endpoints(&world, &["crm"]).await;
    let day = chrono::TimeDelta::days(1);
    let retention = Retention { findings: day * 30, ended: None, deliveries: day * 7 };
    world.pass(chrono::TimeDelta::minutes(30));
    // Not yet: during a deployment, other processes may still have the endpoint.
    assert_eq!(app.prune(retention).await.unwrap(), Pruned::default());
    world.pass(day * 30);
    let pruned = app.prune(retention).await.unwrap();
    assert_eq!(pruned, Pruned { given_up: 2, ..Pruned::default() });
    let (dead, waiting): (Vec<_>, Vec<_>) =
        deliveries(&app).await.into_iter().partition(|delivery| delivery.endpoint == "old");
    let why = "the endpoint is not configured any more";
    assert!(dead.iter().all(|d| d.status == DeliveryStatus::Dead));
    assert!(dead.iter().all(|d| d.error.as_deref() == Some(why)));
    assert!(waiting.iter().all(|d| d.status == DeliveryStatus::Pending));
    assert_eq!((dead.len(), waiting.len()), (2, 2));
    world.pass(day * 8);
    assert_eq!(
        app.prune(retention).await.unwrap().deliveries,
        2,
        "they were kept until their retention ended"
    );
}
