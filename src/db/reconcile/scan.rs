//! The reconciler's reads of uploads, across owners: the rows of a policy in the order of their
//! keys, and due deletions.

mod due;
mod open_rows;

use entity::upload::{self, Column};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, EntityTrait, Order, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait as _, Select,
};
use uuid::Uuid;

use crate::db::engine::pool::Engine;
use crate::db::engine::sqlite_json;
use crate::db::{DbError, Result};
use crate::domain::reconcile::UploadSummary;
use crate::domain::upload::Deletion;
use crate::domain::{
    KeyRange, Location, LocationNumber, PolicyName, Status, Timestamp, Upload, UploadId,
};

pub(super) use due::due_damage;
pub use open_rows::OpenWindow;

/// A policy and one of its locations.
#[derive(Debug, Clone, Copy)]
pub struct PolicyLocation<'a> {
    /// The policy.
    pub policy: &'a PolicyName,
    /// The number of its location.
    pub location: LocationNumber,
}

impl<'a> From<&'a Location> for PolicyLocation<'a> {
    fn from(location: &'a Location) -> Self {
        Self { policy: &location.policy, location: location.number }
    }
}

impl PolicyLocation<'_> {
    /// The rows of a query that are at this location. The query already filters by policy.
    ///
    /// No index has the location. A run reads the rows of all locations with the same prefix once
    /// for each location, which is short beside the listing of the objects. An index would make
    /// every creation on `SQLite` slower.
    fn only(self, query: Select<upload::Entity>) -> Select<upload::Entity> {
        query.filter(Column::Location.eq(self.location.0))
    }

    fn filter(self, query: Select<upload::Entity>) -> Select<upload::Entity> {
        self.only(query.filter(Column::Policy.eq(self.policy.as_str())))
    }
}

/// The policy and the location of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadLocation {
    /// The upload.
    pub upload: UploadId,
    /// Its policy.
    pub policy: PolicyName,
    /// Its location.
    pub location: LocationNumber,
}

fn within(query: Select<upload::Entity>, range: &KeyRange) -> Select<upload::Entity> {
    within_by(&Expr::col((upload::Entity, Column::Key)), query, range)
}

fn within_by(
    key: &Expr,
    mut query: Select<upload::Entity>,
    range: &KeyRange,
) -> Select<upload::Entity> {
    if let Some(after) = &range.after {
        query = query.filter(ExprTrait::gt(key.clone(), after.as_str()));
    }
    if let Some(until) = &range.until {
        query = query.filter(ExprTrait::lte(key.clone(), until.as_str()));
    }
    query
}

/// One column of a query's rows.
fn only(query: Select<upload::Entity>, column: Column) -> SelectStatement {
    query.select_only().column(column).into_query()
}

/// The time from which a pending row's deadline is computed.
const DEADLINE: &str =
    "CASE WHEN \"uploads\".\"status\" = 'pending' THEN \"uploads\".\"url_expires_at\" END";

/// The time from which the recorded version may be an old one.
const VERSION_RECORDED: &str = "CASE WHEN \"uploads\".\"status\" IN ('inspecting', 'uploaded') \
     AND \"uploads\".\"version_id\" IS NOT NULL THEN \"uploads\".\"uploaded_at\" END";

/// The columns of [`UploadSummary`], in their order.
type UploadSummaryRow = (
    String,
    String,
    Option<String>,
    bool,
    Option<Timestamp>,
    Option<Timestamp>,
    Option<Timestamp>,
    Option<Timestamp>,
);

fn known(
    (key, status, etag, late, url_expires_at, version_recorded_at, after, done): UploadSummaryRow,
) -> Result<UploadSummary> {
    let Ok(status) = status.parse() else {
        return Err(DbError::Corrupt { table: "uploads", column: "status", id: key });
    };
    Ok(UploadSummary {
        key,
        status,
        etag,
        late,
        url_expires_at,
        version_recorded_at,
        deletion: Deletion { after, done },
    })
}

/// The uploads of a policy, across owners.
#[derive(Clone, Copy)]
pub struct Scan<'a>(pub(in crate::db) &'a Engine);

impl Scan<'_> {
    /// The next rows of a location in a range of keys, in byte order of the key, with the few
    /// columns that decisions need.
    pub async fn list_summaries(
        self,
        at: PolicyLocation<'_>,
        range: &KeyRange,
        limit: u64,
    ) -> Result<Vec<UploadSummary>> {
        let query = upload::Entity::find()
            .select_only()
            .columns([Column::Key, Column::Status, Column::Etag, Column::Late])
            // Parsing timestamps is slow, so they are read only if the decision needs them.
            .column_as(Expr::cust(DEADLINE), "deadline")
            .column_as(Expr::cust(VERSION_RECORDED), "version_recorded")
            .columns([Column::ObjectDeleteAfter, Column::ObjectDeletedAt]);
        let query = within(at.filter(query), range).order_by(Column::Key, Order::Asc).limit(limit);
        let values = [
            sqlite_json::column::<upload::Entity>(Column::Key),
            sqlite_json::column::<upload::Entity>(Column::Status),
            sqlite_json::column::<upload::Entity>(Column::Etag),
            sqlite_json::column::<upload::Entity>(Column::Late),
            Expr::col("deadline"),
            Expr::col("version_recorded"),
            sqlite_json::column::<upload::Entity>(Column::ObjectDeleteAfter),
            sqlite_json::column::<upload::Entity>(Column::ObjectDeletedAt),
        ];
        let rows: Vec<UploadSummaryRow> =
            sqlite_json::tuples(&self.0.read, query.into_query(), values).await?;
        rows.into_iter().map(known).collect()
    }

    /// The next verified uploads of a policy after a key, in byte order of the key.
    pub async fn list_uploaded_after(
        self,
        policy: &PolicyName,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = upload::Entity::find()
            .filter(Column::Policy.eq(policy.as_str()))
            .filter(Column::Status.eq(Status::Uploaded.name()));
        if let Some(after) = after {
            query = query.filter(Column::Key.gt(after));
        }
        let query = query.order_by(Column::Key, Order::Asc).limit(limit);
        query.all(&self.0.read).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// The next uploads of a location that a move moves or reports, in byte order of the key:
    /// verified ones, and those that can still change. An upload that expired before `late_since`
    /// does not change any more.
    pub async fn list_movable(
        self,
        at: PolicyLocation<'_>,
        range: &KeyRange,
        late_since: Timestamp,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let states = [Status::Pending, Status::Inspecting, Status::Uploaded].map(Status::name);
        let late = Condition::all()
            .add(Column::Status.eq(Status::Expired.name()))
            .add(Column::UrlExpiresAt.gt(late_since));
        let query = at
            .filter(upload::Entity::find())
            .filter(Condition::any().add(Column::Status.is_in(states)).add(late));
        let query = within(query, range).order_by(Column::Key, Order::Asc).limit(limit);
        query.all(&self.0.read).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// The rows of a location with these keys, in no order.
    pub async fn find_by_keys(
        self,
        at: PolicyLocation<'_>,
        keys: Vec<String>,
    ) -> Result<Vec<Upload>> {
        let query = at.filter(upload::Entity::find()).filter(Column::Key.is_in(keys));
        query.all(&self.0.read).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// The locations of the uploads with these ids, in no order. Ids without a row are left out.
    pub async fn list_locations(self, ids: Vec<UploadId>) -> Result<Vec<UploadLocation>> {
        let query = upload::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Policy, Column::Location])
            .filter(Column::Id.is_in(ids.into_iter().map(|id| id.0)));
        let rows: Vec<(Uuid, String, i32)> = query.into_tuple().all(&self.0.read).await?;
        let to_location = |(id, policy, location)| UploadLocation {
            upload: UploadId(id),
            policy: PolicyName::new(policy),
            location: LocationNumber(location),
        };
        Ok(rows.into_iter().map(to_location).collect())
    }

    /// How many rows of a location are in a range of keys, up to `most`.
    pub async fn count_in_range(
        self,
        at: PolicyLocation<'_>,
        range: &KeyRange,
        most: u64,
    ) -> Result<u64> {
        // In the order of the index, so that no row after the limit is read.
        let query = within(at.filter(upload::Entity::find()), range)
            .order_by(Column::Key, Order::Asc)
            .limit(most);
        self.count_some(only(query, Column::Id)).await
    }

    /// Counts the rows of a query up to its limit. (sea-orm's own count drops the limit.)
    async fn count_some(self, query: SelectStatement) -> Result<u64> {
        let count =
            Query::select().expr(Expr::cust("COUNT(*)")).from_subquery(query, "some_rows").take();
        // A count always returns one row, and is never negative.
        let Some(row) = self.0.read.query_one(&count).await? else { return Ok(0) };
        let count: i64 = row.try_get_by_index(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Whether an upload of a location was ever observed in the store.
    pub async fn has_seen_objects(self, at: PolicyLocation<'_>) -> Result<bool> {
        let query = at.filter(upload::Entity::find()).filter(Column::Etag.is_not_null());
        Ok(query.limit(1).one(&self.0.read).await?.is_some())
    }

    /// Whether a location has an upload that needs its store: it waits for bytes, is verified, or
    /// has an object that is to be deleted.
    pub async fn needs_store(self, at: PolicyLocation<'_>) -> Result<bool> {
        let open = [Status::Pending, Status::Inspecting, Status::Uploaded].map(Status::name);
        let undeleted = Condition::all()
            .add(Column::ObjectDeleteAfter.is_not_null())
            .add(Column::ObjectDeletedAt.is_null());
        let query = at
            .filter(upload::Entity::find())
            .filter(Condition::any().add(Column::Status.is_in(open)).add(undeleted));
        Ok(query.limit(1).one(&self.0.read).await?.is_some())
    }

    /// How many verified uploads a policy has.
    pub async fn count_verified(self, policy: &PolicyName) -> Result<u64> {
        let query = upload::Entity::find()
            .filter(Column::Status.eq(Status::Uploaded.name()))
            .filter(Column::Policy.eq(policy.as_str()));
        Ok(query.count(&self.0.read).await?)
    }
}
