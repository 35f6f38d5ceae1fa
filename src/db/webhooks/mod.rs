//! The outbox of webhooks. Deliveries are written in the transaction that changes the upload, and
//! dispatchers claim and send them.
//!
//! A claim moves the delivery's next attempt to the end of a lease. If the dispatcher dies, the
//! delivery is due again after that. Only the oldest pending delivery of an upload to an endpoint
//! can be claimed, so that each endpoint receives the changes of an upload in order.

use entity::webhook_delivery::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query};
use sea_orm::{ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::engine::pagination::keyset;
use super::engine::pool::Engine;
use super::{Cursor, DbError, Page, Result};
use crate::domain::webhook::{Delivery, DeliveryStatus, GIVE_UP_AFTER};
use crate::domain::{Timestamp, UploadId};

mod outbox;

pub(super) use outbox::Outbox;

/// The order of lists, as named in their cursors.
pub const DELIVERY_ORDER: &str = "deliveries:-created_at";

impl TryFrom<Model> for Delivery {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model {
            id,
            endpoint,
            upload_id,
            version: _,
            event,
            payload,
            status,
            attempts,
            next_attempt_at,
            give_up_at,
            error,
            created_at,
            delivered_at,
        } = row;
        let corrupt = |()| DbError::Corrupt {
            table: "webhook_deliveries",
            column: "status",
            id: id.to_string(),
        };
        Ok(Self {
            id,
            endpoint,
            upload: UploadId(upload_id),
            event,
            payload,
            status: status.parse().map_err(corrupt)?,
            attempts,
            next_attempt_at,
            give_up_at,
            error,
            created_at,
            delivered_at,
        })
    }
}

/// The result of an attempt.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// The receiver accepted the delivery.
    Taken,
    /// The delivery is retried at this time, for this reason.
    Retry(Timestamp, String),
    /// The delivery is given up, for this reason.
    Dead(String),
}

/// The outbox of webhook deliveries.
#[derive(Clone, Copy)]
pub struct Webhooks<'a> {
    pub(super) engine: &'a Engine,
    pub(super) outbox: &'a Outbox,
}

impl Webhooks<'_> {
    /// Waits for new deliveries of this process. Other processes write deliveries too, so the
    /// caller must also poll.
    pub async fn wait_for_new(self) {
        self.outbox.new_rows.notified().await;
    }

    /// Claims up to `limit` due deliveries of an endpoint, until `lease_end`.
    pub async fn claim(
        self,
        endpoint: &str,
        now: Timestamp,
        lease_end: Timestamp,
        limit: u64,
    ) -> Result<Vec<Delivery>> {
        let older = Alias::new("older");
        let hidden = Query::select()
            .expr(Expr::val(1))
            .from_as(Entity, older.clone())
            .and_where(
                Expr::col((older.clone(), Column::UploadId)).equals((Entity, Column::UploadId)),
            )
            .and_where(Expr::col((older.clone(), Column::Endpoint)).eq(endpoint))
            .and_where(
                Expr::col((older.clone(), Column::Status)).eq(DeliveryStatus::Pending.name()),
            )
            .and_where(Expr::col((older, Column::Version)).lt(Expr::col((Entity, Column::Version))))
            .to_owned();
        let due = Entity::find()
            .filter(Column::Endpoint.eq(endpoint))
            .filter(Column::Status.eq(DeliveryStatus::Pending.name()))
            .filter(Column::NextAttemptAt.lte(now))
            .filter(Condition::all().not().add(Expr::exists(hidden)))
            .order_by(Column::NextAttemptAt, Order::Asc)
            .limit(limit)
            .all(&self.engine.read)
            .await?;
        let mut claimed = Vec::new();
        for row in due {
            let taken = Entity::update_many()
                .set(ActiveModel {
                    attempts: Set(row.attempts + 1),
                    next_attempt_at: Set(lease_end),
                    ..Default::default()
                })
                .filter(Column::Id.eq(row.id))
                // If another dispatcher was faster, it has incremented this number.
                .filter(Column::Attempts.eq(row.attempts))
                .filter(Column::Status.eq(DeliveryStatus::Pending.name()))
                .exec(&self.engine.write)
                .await?;
            if taken.rows_affected == 1 {
                let attempts = row.attempts + 1;
                claimed.push(Model { attempts, next_attempt_at: lease_end, ..row }.try_into()?);
            }
        }
        Ok(claimed)
    }

    /// Records the result of an attempt, unless another process has claimed the delivery since.
    pub async fn record_attempt(
        self,
        delivery: &Delivery,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<()> {
        let change = match attempt {
            Attempt::Taken => ActiveModel {
                status: Set(DeliveryStatus::Delivered.name().to_owned()),
                delivered_at: Set(Some(now)),
                error: Set(None),
                ..Default::default()
            },
            Attempt::Retry(at, error) => ActiveModel {
                next_attempt_at: Set(*at),
                error: Set(Some(error.clone())),
                ..Default::default()
            },
            Attempt::Dead(error) => ActiveModel {
                status: Set(DeliveryStatus::Dead.name().to_owned()),
                error: Set(Some(error.clone())),
                ..Default::default()
            },
        };
        Entity::update_many()
            .set(change)
            .filter(Column::Id.eq(delivery.id))
            .filter(Column::Attempts.eq(delivery.attempts))
            .exec(&self.engine.write)
            .await?;
        Ok(())
    }

    /// Makes a delivery pending again, whatever its status. Returns `None` if there is no such
    /// delivery.
    pub async fn redeliver(self, id: Uuid, now: Timestamp) -> Result<Option<Delivery>> {
        Entity::update_many()
            .set(ActiveModel {
                status: Set(DeliveryStatus::Pending.name().to_owned()),
                attempts: Set(0),
                next_attempt_at: Set(now),
                give_up_at: Set(now + GIVE_UP_AFTER),
                delivered_at: Set(None),
                ..Default::default()
            })
            .filter(Column::Id.eq(id))
            .exec(&self.engine.write)
            .await?;
        self.outbox.notify();
        Entity::find_by_id(id).one(&self.engine.read).await?.map(TryInto::try_into).transpose()
    }

    /// Deletes a batch of deliveries that ended before a time. Returns their number.
    pub async fn prune(self, before: Timestamp, limit: u64) -> Result<u64> {
        let ended = [DeliveryStatus::Delivered, DeliveryStatus::Dead].map(DeliveryStatus::name);
        // The lease of the last attempt ends at about the time when the delivery ended.
        let old =
            Condition::all().add(Column::Status.is_in(ended)).add(Column::NextAttemptAt.lt(before));
        let ids = self.delivery_ids(old.clone(), limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        // One of them may have been redelivered in the meantime.
        let done = Entity::delete_many().filter(Column::Id.is_in(ids)).filter(old);
        Ok(done.exec(&self.engine.write).await?.rows_affected)
    }

    /// Gives up a batch of deliveries that have been due since before a time and whose endpoints
    /// are not configured any more. Returns their number.
    pub async fn give_up_unconfigured(
        self,
        before: Timestamp,
        now: Timestamp,
        limit: u64,
    ) -> Result<u64> {
        let configured = self.outbox.subscribers.iter().map(|subscriber| &subscriber.name);
        let waiting = Condition::all()
            .add(Column::Status.eq(DeliveryStatus::Pending.name()))
            .add(Column::NextAttemptAt.lt(before))
            .add(Column::Endpoint.is_not_in(configured));
        let ids = self.delivery_ids(waiting.clone(), limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let done = Entity::update_many()
            .set(ActiveModel {
                status: Set(DeliveryStatus::Dead.name().to_owned()),
                // For an ended delivery, this column is the time of its end. Retention uses it.
                next_attempt_at: Set(now),
                error: Set(Some("the endpoint is not configured any more".to_owned())),
                ..Default::default()
            })
            .filter(Column::Id.is_in(ids))
            .filter(waiting);
        Ok(done.exec(&self.engine.write).await?.rows_affected)
    }

    async fn delivery_ids(self, which: Condition, limit: u64) -> Result<Vec<Uuid>> {
        let ids = Entity::find().select_only().column(Column::Id).filter(which);
        let ids = ids.order_by(Column::NextAttemptAt, Order::Asc).limit(limit);
        Ok(ids.into_tuple().all(&self.engine.read).await?)
    }

    /// A page of deliveries, newest first.
    pub async fn list(
        self,
        status: Option<DeliveryStatus>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Delivery>> {
        let mut query = Entity::find();
        if let Some(status) = status {
            query = query.filter(Column::Status.eq(status.name()));
        }
        if let Some(cursor) = cursor
            && let Ok(at) = cursor.value.parse::<Timestamp>()
        {
            query = query.filter(keyset(Column::CreatedAt, Column::Id, at.into(), cursor.id, true));
        }
        let rows = query
            .order_by(Column::CreatedAt, Order::Desc)
            .order_by(Column::Id, Order::Desc)
            .limit(limit + 1)
            .all(&self.engine.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: DELIVERY_ORDER.to_owned(),
            value: row.created_at.to_rfc3339(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }
}
