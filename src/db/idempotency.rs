//! Idempotency keys. A key is first reserved in a separate commit, with the id that its resource
//! will have. The transaction that creates the resource completes the key. If the process dies in
//! between, its lease expires, and the next attempt creates the resource with the same id. If both
//! attempts continue, only one succeeds, because the id is the primary key of the resource.

use std::time::Duration;

use entity::idempotency_key::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::Result;
use super::engine::clock::time;
use super::engine::pool::Engine;
use crate::domain::{Owner, Timestamp};

/// How long a key is stored. During this time it can be used only for the same request.
const LIFE: Duration = Duration::from_hours(24);

/// A key that this process has reserved.
#[derive(Debug, Clone)]
pub struct Claim {
    owner: Owner,
    key: String,
    lease_until: Timestamp,
    /// The id that the resource will have.
    pub resource: Uuid,
}

/// The result of an attempt to reserve a key.
#[derive(Debug, Clone)]
pub enum Reservation {
    /// The key is reserved for this attempt, until it is completed or released.
    Held(Claim),
    /// An earlier attempt has created the resource with this id.
    Done(Uuid),
    /// The owner has used the key for a different request.
    Mismatch,
    /// Another attempt of the same request is in progress.
    InFlight,
}

/// Idempotency keys.
#[derive(Clone, Copy)]
pub struct Idempotency<'a>(pub(in crate::db) &'a Engine);

impl Idempotency<'_> {
    /// Reserves a key for a request. Its resource gets the id `candidate`, or the id of an earlier
    /// attempt whose lease has expired. `fingerprint` identifies the content of the request.
    pub async fn reserve(
        self,
        owner: &Owner,
        key: &str,
        fingerprint: &str,
        candidate: Uuid,
        lease: Duration,
    ) -> Result<Reservation> {
        let txn = self.0.begin().await?;
        let now = time(&txn, Duration::ZERO).await?;
        let fresh = Model {
            owner: owner.as_str().to_owned(),
            key: key.to_owned(),
            fingerprint: fingerprint.to_owned(),
            resource: candidate,
            done: false,
            outcome: None,
            lease_until: now + lease,
            created_at: now,
        };
        let known = [Column::Owner, Column::Key];
        Entity::insert(ActiveModel::from(fresh.clone()))
            .on_conflict(OnConflict::columns(known).do_nothing().to_owned())
            .exec_without_returning(&txn)
            .await?;
        let query = Entity::find_by_id((fresh.owner.clone(), fresh.key.clone()));
        let query = if self.0.is_postgres() { query.lock_exclusive() } else { query };
        let row = query.one(&txn).await?.unwrap_or_else(|| fresh.clone());
        let claim = |resource| Claim {
            owner: owner.clone(),
            key: key.to_owned(),
            lease_until: fresh.lease_until,
            resource,
        };
        let old = row.created_at + LIFE <= now;
        let outcome = if row.resource == candidate {
            Reservation::Held(claim(candidate))
        } else if !old && row.fingerprint != fingerprint {
            Reservation::Mismatch
        } else if !old && row.done {
            Reservation::Done(row.resource)
        } else if row.lease_until > now && !row.done {
            Reservation::InFlight
        } else {
            // The lease has expired, or the key is older than a day and not pruned yet.
            let resource = if old { candidate } else { row.resource };
            let taken = Model {
                resource,
                created_at: if old { now } else { row.created_at },
                ..fresh.clone()
            };
            Entity::update(ActiveModel::from(taken).reset_all()).exec(&txn).await?;
            Reservation::Held(claim(resource))
        };
        txn.commit().await?;
        Ok(outcome)
    }

    /// Releases the key of a failed request, so that the client can repeat the request at once.
    pub async fn release(self, claim: &Claim) -> Result<()> {
        Entity::delete_many()
            .filter(Column::Owner.eq(claim.owner.as_str()))
            .filter(Column::Key.eq(claim.key.as_str()))
            .filter(Column::Resource.eq(claim.resource))
            // After the lease has expired, another attempt may hold the key.
            .filter(Column::LeaseUntil.eq(claim.lease_until))
            .filter(Column::Done.eq(false))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Whether the key's resource was created, by this or another request.
    pub async fn is_completed(self, claim: &Claim) -> Result<bool> {
        let id = (claim.owner.as_str().to_owned(), claim.key.clone());
        let row = Entity::find_by_id(id).one(&self.0.write).await?;
        Ok(row.is_some_and(|row| row.done && row.resource == claim.resource))
    }

    /// The text that was stored with a key when it was completed.
    pub async fn outcome(self, owner: &Owner, key: &str) -> Result<Option<String>> {
        let id = (owner.as_str().to_owned(), key.to_owned());
        Ok(Entity::find_by_id(id).one(&self.0.read).await?.and_then(|row| row.outcome))
    }

    /// Completes a key outside of the transaction that created its resource.
    pub async fn complete(self, claim: &Claim) -> Result<()> {
        // A missing key is no error here, because the resource exists anyway.
        complete(&self.0.write, claim, None).await.map(drop)
    }

    /// Deletes a batch of keys that are older than a day. Returns the number of deleted keys; 0
    /// means that no more are due.
    pub async fn prune(self, limit: u64) -> Result<u64> {
        let before = time(&self.0.read, Duration::ZERO).await? - LIFE;
        let ages: Vec<Timestamp> = Entity::find()
            .select_only()
            .column(Column::CreatedAt)
            .filter(Column::CreatedAt.lte(before))
            .order_by(Column::CreatedAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        let Some(last) = ages.last() else { return Ok(0) };
        let done = Entity::delete_many().filter(Column::CreatedAt.lte(*last));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }
}

/// Completes a key inside the transaction that creates its resource. `false` if the key is gone:
/// another attempt took it over and released it, so the resource must not be created. `outcome` is
/// stored with the key for repeated requests.
pub(super) async fn complete(
    connection: &impl ConnectionTrait,
    claim: &Claim,
    outcome: Option<String>,
) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::Done, Expr::value(true))
        .col_expr(Column::Outcome, Expr::value(outcome))
        .filter(Column::Owner.eq(claim.owner.as_str()))
        .filter(Column::Key.eq(claim.key.as_str()))
        .filter(Column::Resource.eq(claim.resource))
        .exec(connection)
        .await?;
    Ok(done.rows_affected == 1)
}
