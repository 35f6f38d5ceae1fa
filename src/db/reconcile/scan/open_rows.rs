//! Reads the open rows: the rows that may change without an event.

use std::collections::BTreeSet;

use entity::upload::{self, Column};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};

use super::{PolicyLocation, Scan, only, within, within_by};
use crate::db::Result;
use crate::db::engine::sqlite_json;
use crate::domain::key::Shard;
use crate::domain::upload::Strategy;
use crate::domain::{KeyRange, LocationNumber, PolicyName, Status, Timestamp};

/// Decides which rows are open: their objects may change without an event (see
/// [`Scan::list_open_keys`]).
#[derive(Debug, Clone, Copy)]
pub struct OpenWindow {
    /// Expired rows whose URL ended after this are still watched for late bytes.
    pub late_since: Timestamp,
    /// Bytes may still arrive by URLs that ended after this: they can overwrite a verified object,
    /// or store a deleted object again.
    pub writable_since: Timestamp,
    /// Whether the store enforces write-once, so that only URLs without write-once can overwrite an
    /// object.
    pub write_once_holds: bool,
    /// Whether the URL of a part can also write the whole object.
    pub part_urls_write_objects: bool,
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

/// The kinds of open rows: pending, being inspected, expired, verified, and ended with a deleted
/// object.
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
    // Parts become an object only when this service completes the upload, unless the URL of a part
    // can also write the whole object. Write-once does not prevent that.
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
    // Even with write-once, a URL can store the object again after it was deleted. Rows whose
    // object is not deleted yet are left out, because the deletion removes all bytes that arrived.
    let ended = [Status::Rejected, Status::Cancelled, Status::Removed];
    let in_parts = window.part_urls_write_objects.then_some(Strategy::Multipart);
    let rewritable =
        [Strategy::Put, Strategy::Post].into_iter().chain(in_parts).map(Strategy::name);
    let deleted = since(&ended, window.writable_since)
        .filter(Column::ObjectDeletedAt.is_not_null())
        .filter(Column::Strategy.is_in(rewritable));
    [pending, inspecting, late, overwritable, deleted]
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

impl Scan<'_> {
    /// The keys of open rows of a location in a range, in byte order. Open rows may change without
    /// an event: pending rows; rows that expired after `late_since`; verified rows whose own URL
    /// can still overwrite the object; and rows with a deleted object whose URL can still store
    /// another one. Each kind is a query of its own with a small partial index.
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

    /// The locations of a policy that have open rows. `None` if `most` rows or more are open,
    /// because some of them may not have been counted.
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
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::super::due::due_query;
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
