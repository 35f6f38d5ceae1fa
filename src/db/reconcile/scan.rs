//! The reconciler's reads of uploads, across owners: the rows of a policy in the order of their
//! keys, and due deletions.

use std::collections::BTreeSet;

use entity::upload::{self, Column};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, EntityTrait, Order, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait as _, Select,
};
use uuid::Uuid;

use crate::db::engine::pagination::keyset;
use crate::db::engine::pool::Engine;
use crate::db::engine::sqlite_json;
use crate::db::{DbError, Result};
use crate::domain::key::Shard;
use crate::domain::reconcile::UploadSummary;
use crate::domain::upload::{Deletion, Strategy};
use crate::domain::{
    KeyRange, Location, LocationNumber, Owner, PolicyName, RejectReason, Status, Timestamp, Upload,
    UploadId,
};

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
    /// The rows of a query that are at this location. The policy is filtered already.
    ///
    /// No index has the location. A run reads the rows of all locations with the same prefix once for
    /// each location, which is short beside the listing of the objects. An index would make every
    /// creation on `SQLite` slower.
    fn only(self, query: Select<upload::Entity>) -> Select<upload::Entity> {
        query.filter(Column::Location.eq(self.location.0))
    }

    fn filter(self, query: Select<upload::Entity>) -> Select<upload::Entity> {
        self.only(query.filter(Column::Policy.eq(self.policy.as_str())))
    }
}

/// Where the object of an upload belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadLocation {
    /// The upload.
    pub upload: UploadId,
    /// Its policy.
    pub policy: PolicyName,
    /// Its location.
    pub location: LocationNumber,
}

/// The times that define which rows are open.
#[derive(Debug, Clone, Copy)]
pub struct OpenWindow {
    /// Expired rows whose URL ended after this are still watched for late bytes.
    pub late_since: Timestamp,
    /// Bytes may still arrive by URLs that ended after this: they can overwrite a verified object,
    /// or store a deleted object again.
    pub writable_since: Timestamp,
    /// Whether the store enforces write-once, so that only URLs without it can overwrite.
    pub write_once_holds: bool,
    /// Whether the URL of a part can also write the whole object.
    pub part_urls_write_objects: bool,
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

/// Open rows in a range of keys, in the order of the keys. Pending rows have an index by key. For
/// the other rows the time window is selective: few rows are in the window, but millions may be in
/// the range. The query planner does not know that and would read the range. To prevent this, the
/// key is inside an expression that no index contains.
fn open_within(
    at: PolicyLocation<'_>,
    range: &KeyRange,
    window: &OpenWindow,
    limit: u64,
) -> [Select<upload::Entity>; KINDS] {
    let [pending, inspecting, late, overwritable, deleted] =
        open_queries(at.policy, window, range.shards()).map(|query| at.only(query));
    let by_key = within(pending, range).order_by(Column::Key, Order::Asc).limit(limit);
    let key = Expr::cust("\"uploads\".\"key\" || ''");
    let by_time =
        |query| within_by(&key, query, range).order_by(key.clone(), Order::Asc).limit(limit);
    [by_key, by_time(inspecting), by_time(late), by_time(overwritable), by_time(deleted)]
}

/// The kinds of open rows: pending, inspected, expired, verified, and ended with a deleted object.
const KINDS: usize = 5;

/// One query for each kind of open row. The states are literals, not parameters, because the
/// indexes are partial and the planner must see the state. Rows that are not pending are found by
/// shard and time.
fn open_queries(
    policy: &PolicyName,
    window: &OpenWindow,
    shards: impl Iterator<Item = Shard>,
) -> [Select<upload::Entity>; KINDS] {
    let shards: Vec<Shard> = shards.collect();
    let since = |states: &[Status], time: Timestamp| {
        let policy = policy.as_str();
        let of_state = |status: &Status| {
            let status = status.name();
            shards.iter().map(move |shard| format!("{policy} {status} {}", shard.digit()))
        };
        upload::Entity::find()
            .filter(Expr::cust(POLICY_STATE_SHARD).is_in(states.iter().flat_map(of_state)))
            .filter(Column::UrlExpiresAt.gt(time))
            .filter(Expr::cust("\"uploads\".\"status\" <> 'pending'"))
    };
    let pending = upload::Entity::find()
        .filter(Column::Policy.eq(policy.as_str()))
        .filter(Expr::cust("\"uploads\".\"status\" = 'pending'"));
    let inspecting = since(&[Status::Inspecting], Timestamp::UNIX_EPOCH);
    let late = since(&[Status::Expired], window.late_since);
    // Parts become an object only when this service completes the upload, unless their URLs can do
    // more. Write-once is no obstacle for those.
    let in_parts = Column::Strategy.eq(Strategy::Multipart.name());
    let mut whole = Condition::all().add(Column::Strategy.ne(Strategy::Multipart.name()));
    if window.write_once_holds {
        whole = whole.add(Column::WriteOnce.eq(false));
    }
    let overwritable = since(&[Status::Uploaded], window.writable_since).filter(
        if window.part_urls_write_objects {
            Condition::any().add(whole).add(in_parts)
        } else {
            whole
        },
    );
    // Write-once accepts bytes for a deleted object. Before the deletion there is nothing to find,
    // because the deletion removes all bytes that arrived.
    let ended = [Status::Rejected, Status::Cancelled, Status::Removed];
    let in_parts = window.part_urls_write_objects.then_some(Strategy::Multipart);
    let rewritable =
        [Strategy::Put, Strategy::Post].into_iter().chain(in_parts).map(Strategy::name);
    let deleted = since(&ended, window.writable_since)
        .filter(Column::ObjectDeletedAt.is_not_null())
        .filter(Column::Strategy.is_in(rewritable));
    [pending, inspecting, late, overwritable, deleted]
}

/// One column of a query's rows.
fn only(query: Select<upload::Entity>, column: Column) -> SelectStatement {
    query.select_only().column(column).into_query()
}

/// One column of the rows of several queries. Each query keeps its order and its limit.
fn together(queries: [Select<upload::Entity>; KINDS], column: Column) -> SelectStatement {
    let [mut first, others @ ..] = queries.map(|query| {
        Query::select().column(column).from_subquery(only(query, column), "part").take()
    });
    first.unions(others.map(|query| (UnionType::All, query))).take()
}

/// Policy, state and shard (a key's last digit), as in the index.
const POLICY_STATE_SHARD: &str = "(\"uploads\".\"policy\" || ' ' || \"uploads\".\"status\" || ' ' || \
     substr(\"uploads\".\"key\", length(\"uploads\".\"key\")))";

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

/// Due deletions that are damage, see [`Upload::deletion_is_damage`].
pub(super) fn due_damage(policy: &PolicyName, now: Timestamp) -> Select<upload::Entity> {
    due_query(policy, now).filter(is_damage())
}

fn is_damage() -> Condition {
    let was_verified = Condition::any()
        .add(Column::VerifiedBefore.is_not_null())
        .add(Column::Reason.eq(RejectReason::Overwritten.name()));
    Condition::all().add(Column::Status.eq(Status::Rejected.name())).add(was_verified)
}

fn due_query(policy: &PolicyName, now: Timestamp) -> Select<upload::Entity> {
    upload::Entity::find()
        .filter(Column::ObjectDeletedAt.is_null())
        .filter(Column::ObjectDeleteAfter.lte(now))
        .filter(Column::Policy.eq(policy.as_str()))
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

    /// The keys of open rows of a location in a range, in byte order. Open rows may change without an
    /// event: pending rows; rows that expired after `late_since`; verified rows whose own URL can
    /// still overwrite the object; and rows with a deleted object whose URL can still store another
    /// one. Each kind is a query of its own with a small partial index.
    pub async fn list_open_keys(
        self,
        at: PolicyLocation<'_>,
        range: &KeyRange,
        window: &OpenWindow,
        limit: u64,
    ) -> Result<Vec<String>> {
        let query = together(open_within(at, range, window, limit), Column::Key)
            .order_by(Column::Key, Order::Asc)
            .limit(limit)
            .take();
        let key = sqlite_json::column::<upload::Entity>(Column::Key);
        let keys: Vec<(String,)> = sqlite_json::tuples(&self.0.read, query, [key]).await?;
        Ok(keys.into_iter().map(|(key,)| key).collect())
    }

    /// How many rows of a location are open, up to `most`.
    pub async fn count_open(
        self,
        at: PolicyLocation<'_>,
        window: &OpenWindow,
        most: u64,
    ) -> Result<u64> {
        let queries = open_queries(at.policy, window, Shard::all());
        let queries = queries.map(|query| at.only(query).limit(most));
        Ok(Ord::min(self.count_some(together(queries, Column::Id)).await?, most))
    }

    /// The locations of a policy that have open rows. `None` if more than `most` rows of a kind are
    /// open: then some were not counted.
    pub async fn open_locations(
        self,
        policy: &PolicyName,
        window: &OpenWindow,
        most: u64,
    ) -> Result<Option<BTreeSet<LocationNumber>>> {
        let queries = open_queries(policy, window, Shard::all()).map(|query| query.limit(most));
        let by_location = Query::select()
            .column(Column::Location)
            .expr(Expr::cust("COUNT(*)"))
            .from_subquery(together(queries, Column::Location), "open_rows")
            .group_by_col(Column::Location)
            .take();
        let (mut locations, mut total) = (BTreeSet::new(), 0);
        for row in self.0.read.query_all(&by_location).await? {
            locations.insert(LocationNumber(row.try_get_by_index(0)?));
            total += u64::try_from(row.try_get_by_index::<i64>(1)?).unwrap_or_default();
        }
        Ok((total < most).then_some(locations))
    }

    /// Rows of a location in a final state whose object is due for deletion, in the order of their
    /// due time, after the given row. Damaging deletions of `withheld` owners are left out.
    pub async fn list_due_deletions(
        self,
        at: PolicyLocation<'_>,
        now: Timestamp,
        withheld: &[Owner],
        after: Option<(Timestamp, UploadId)>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = at.only(due_query(at.policy, now));
        if !withheld.is_empty() {
            let owners = withheld.iter().map(Owner::as_str);
            let withheld = is_damage().add(Column::Owner.is_in(owners));
            query = query.filter(withheld.not());
        }
        if let Some((due, id)) = after {
            let behind =
                Condition::all().add(Column::ObjectDeleteAfter.eq(due)).add(Column::Id.gt(id.0));
            let behind = Condition::any().add(Column::ObjectDeleteAfter.gt(due)).add(behind);
            query = query.filter(Column::ObjectDeleteAfter.gte(due)).filter(behind);
        }
        let rows = query
            .order_by(Column::ObjectDeleteAfter, Order::Asc)
            .order_by(Column::Id, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Verified uploads of a location that are not attached and were verified before a time, the
    /// oldest first, after the given one.
    pub async fn list_unattached(
        self,
        at: PolicyLocation<'_>,
        before: Timestamp,
        after: Option<(Timestamp, UploadId)>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = at
            .filter(upload::Entity::find())
            // Written as in the index: with a parameter, the index could not be used.
            .filter(Expr::cust("status = 'uploaded'"))
            .filter(Column::AttachTo.is_null())
            .filter(Column::UploadedAt.lt(before));
        if let Some((verified, id)) = after {
            query =
                query.filter(keyset(Column::UploadedAt, Column::Id, verified.into(), id.0, false));
        }
        let rows = query
            .order_by(Column::UploadedAt, Order::Asc)
            .order_by(Column::Id, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// How many objects of a location are due for deletion, up to `most`.
    pub async fn count_due(self, at: PolicyLocation<'_>, now: Timestamp, most: u64) -> Result<u64> {
        self.count_some(only(at.only(due_query(at.policy, now)).limit(most), Column::Id)).await
    }

    /// How many deletions of a policy's objects are due and are damage
    /// ([`Upload::deletion_is_damage`]): neither the owner nor a newer upload ended the upload.
    /// Counts up to `most`.
    pub async fn count_due_damage(
        self,
        policy: &PolicyName,
        now: Timestamp,
        most: u64,
    ) -> Result<u64> {
        self.count_some(only(due_damage(policy, now).limit(most), Column::Id)).await
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

    /// Whether a location has an upload that needs its store: it waits for bytes, is verified, or has
    /// an object that is to be deleted.
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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::db::Db;
    use crate::db::testing::{insert_many_uploads, on_both};

    async fn check(db: Db) {
        insert_many_uploads(&db).await;
        let policy = PolicyName::default();
        let at = PolicyLocation { policy: &policy, location: LocationNumber(0) };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let window = OpenWindow {
            late_since: now - TimeDelta::days(1),
            writable_since: now - TimeDelta::minutes(15),
            write_once_holds: false,
            part_urls_write_objects: false,
        };
        let range = KeyRange {
            prefix: "tracks/".into(),
            after: Some("tracks/0".into()),
            until: Some("tracks/00012".into()),
        };
        let wide = KeyRange { after: None, until: Some("tracks/1".into()), ..range.clone() };
        let (most, limit) = (4096, 501);
        let counted =
            open_queries(&policy, &window, Shard::all()).map(|query| at.only(query).limit(most));
        let counted = together(counted, Column::Id);
        let read = [&range, &wide].map(|range| {
            let mut query = together(open_within(at, range, &window, limit), Column::Key);
            query.order_by(Column::Key, Order::Asc).limit(limit).take()
        });
        // For a range that contains all pending rows, the planner may also use the index by state.
        let by_key: &[&str] = &["ix_uploads_pending"];
        let by_any: &[&str] = &["ix_uploads_pending", "ix_uploads_stats"];
        let [some, all] = &read;
        for (query, pending) in [(some, by_key), (all, by_any), (&counted, by_any)] {
            let statement = db.engine.read.get_database_backend().build(query);
            let plan = db.engine.explain(statement).await.unwrap().join("\n");
            assert!(pending.iter().any(|index| plan.contains(index)), "{plan}");
            assert_eq!(plan.matches("ix_uploads_window").count(), KINDS - 1, "{plan}");
            assert!(!plan.contains("ix_uploads_key"), "{plan}");
        }
        let due = only(at.only(due_query(&policy, now)).limit(1), Column::Id);
        let due = db.engine.read.get_database_backend().build(&due);
        let due = db.engine.explain(due).await.unwrap().join("\n");
        assert!(due.contains("ix_uploads_due"), "{due}");
        assert_eq!(db.scan().count_open(at, &window, 100).await.unwrap(), 20);
        assert_eq!(db.scan().count_open(at, &window, 7).await.unwrap(), 7);
        let other = PolicyLocation { location: LocationNumber(1), ..at };
        assert_eq!(db.scan().count_open(other, &window, 7).await.unwrap(), 0);
        let only_first = Some(BTreeSet::from([at.location]));
        assert_eq!(db.scan().open_locations(&policy, &window, 100).await.unwrap(), only_first);
        assert_eq!(db.scan().open_locations(&policy, &window, 7).await.unwrap(), None);
        let early = OpenWindow { late_since: DateTime::UNIX_EPOCH, ..window };
        assert_eq!(db.scan().count_open(at, &early, 100).await.unwrap(), 40);
        let early = OpenWindow { writable_since: DateTime::UNIX_EPOCH, ..window };
        let most = 20_000;
        assert_eq!(db.scan().count_open(at, &early, most).await.unwrap(), 19_980);
    }

    #[tokio::test]
    async fn open_rows_are_found_without_reading_other_rows() {
        on_both(check).await;
    }
}
