//! Writes deliveries, in the transaction that changes their uploads.

use entity::webhook_delivery::{ActiveModel, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, EntityTrait};
use tokio::sync::Notify;

use crate::db::Result;
use crate::domain::Upload;
use crate::domain::webhook::{
    DeliveryStatus, GIVE_UP_AFTER, Subscriber, delivery_id, event_of, message,
};

/// Rows in one statement: 13 parameters each, and `SQLite` allows 32,766.
const CHUNK: usize = 1000;

/// The subscribers, and a notification for the dispatchers.
#[derive(Debug, Default)]
pub(in crate::db) struct Outbox {
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) new_rows: Notify,
}

impl Outbox {
    /// An outbox for these subscribers.
    pub(in crate::db) fn new(subscribers: Vec<Subscriber>) -> Self {
        Self { subscribers, new_rows: Notify::new() }
    }

    /// Whether there are no subscribers.
    pub(in crate::db) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Inserts a delivery for each changed upload and each subscriber of its new status.
    pub(in crate::db) async fn add<'a>(
        &self,
        connection: &impl ConnectionTrait,
        uploads: impl IntoIterator<Item = &'a Upload>,
    ) -> Result<()> {
        let rows: Vec<ActiveModel> =
            uploads.into_iter().flat_map(|upload| self.rows_of(upload)).collect();
        for rows in rows.chunks(CHUNK) {
            Entity::insert_many(rows.to_vec()).exec_without_returning(connection).await?;
        }
        Ok(())
    }

    fn rows_of(&self, upload: &Upload) -> impl Iterator<Item = ActiveModel> {
        let event = event_of(upload.status());
        let wants = move |subscriber: &&Subscriber| event.is_some_and(|e| subscriber.wants(e));
        self.subscribers
            .iter()
            .filter(wants)
            .filter_map(move |subscriber| Some(row(&subscriber.name, event?, upload)))
    }

    /// Wakes the dispatchers, after a commit.
    pub(in crate::db) fn notify(&self) {
        self.new_rows.notify_waiters();
    }
}

fn row(endpoint: &str, event: &str, upload: &Upload) -> ActiveModel {
    let now = upload.updated_at;
    ActiveModel {
        id: Set(delivery_id(endpoint, upload)),
        endpoint: Set(endpoint.to_owned()),
        upload_id: Set(upload.id.0),
        version: Set(upload.version),
        event: Set(event.to_owned()),
        payload: Set(message(event, upload)),
        status: Set(DeliveryStatus::Pending.name().to_owned()),
        attempts: Set(0),
        next_attempt_at: Set(now),
        give_up_at: Set(now + GIVE_UP_AFTER),
        error: Set(None),
        created_at: Set(now),
        delivered_at: Set(None),
    }
}
