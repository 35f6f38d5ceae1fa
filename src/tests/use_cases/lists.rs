//! Lists of owners with many rows: which index each list uses, and what a client that reads pages
//! gets while rows are added and deleted.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend};
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::db::tracks::{TrackFields, TrackFilter, TrackOrder};
use upload_coordinator::db::uploads::UploadFilter;
use upload_coordinator::db::{Cursor, Db};
use upload_coordinator::domain::{Owner, PolicyName, Status, Subject, Timestamp, TrackId};
use uuid::Uuid;

use crate::support::database::TestDatabase;
use crate::support::world::World;

/// Rows of two owners. About one row in a hundred matches each filter.
const ROWS: u32 = 30_000;

/// The track with a few uploads.
const TRACK: Uuid = Uuid::from_u128(7);

/// Inserts the rows, with the SQL of PostgreSQL or SQLite.
async fn fill(connection: &DatabaseConnection) {
    let postgres = connection.get_database_backend() == DbBackend::Postgres;
    let (rows, id, at, day) = if postgres {
        (
            format!("generate_series(1, {ROWS}) AS s(n)"),
            "gen_random_uuid()",
            "timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second'",
            "date '2000-01-01' + n % 9000",
        )
    } else {
        let series = "SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n <";
        (
            format!("(WITH RECURSIVE s(n) AS ({series} {ROWS}) SELECT n FROM s)"),
            "randomblob(16)",
            "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1767225600 + n, 'unixepoch')",
            "date(946684800 + n % 9000 * 86400, 'unixepoch')",
        )
    };
    let owner = "CASE WHEN n % 3 = 0 THEN 'few' ELSE 'many' END";
    // A value that is rare for the owner `many` is the only value of the owner `few`. So an index
    // that does not begin with the owner would read too many rows.
    let rare = |number: u32| format!("n % 100 = {number} OR n % 3 = 0");
    let (covers, pending) = (rare(1), rare(2));
    let title = "CASE WHEN n % 100 = 7 THEN 'Zebra ' ELSE 'Song ' END || n";
    let artist = "CASE WHEN n % 100 = 1 THEN 'Nina Simone' ELSE 'Somebody ' || n % 500 END";
    let track = if postgres { format!("'{TRACK}'::uuid") } else { format!("x'{:032x}'", 7) };
    for sql in [
        format!(
            "INSERT INTO tracks (id, owner, title, artist_name, title_order, artist_order, \
             release_order, status, version, created_at, updated_at) \
             SELECT CASE WHEN n = 1 THEN {track} ELSE {id} END, {owner}, {title}, {artist}, \
             lower({title}), lower({artist}), {day}, \
             CASE WHEN n % 100 = 2 THEN 'missing' ELSE 'uploaded' END, 1, {at}, {at} FROM {rows}"
        ),
        format!(
            "INSERT INTO uploads (id, owner, policy, attach_to, attach_sequence, key, strategy, \
             write_once, metadata, url_expires_at, status, late, version, created_at, updated_at) \
             SELECT {id}, {owner}, CASE WHEN {covers} THEN 'covers' ELSE 'tracks' END, \
             CASE WHEN n % 1000 = 1 THEN 'track:{TRACK}' END, n, 'tracks/' || n, 'put', false, '{{}}', \
             {at}, CASE WHEN {pending} THEN 'pending' ELSE 'expired' END, false, 1, {at}, {at} \
             FROM {rows}"
        ),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
}

/// The databases that may sort the rows that match a filter. No database may sort all rows of an
/// owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Neither,
    /// Only PostgreSQL, because its statistics show that there are few rows.
    Postgres,
    Both,
}

struct Many {
    db: Db,
    owner: Owner,
    postgres: bool,
    _database: TestDatabase,
}

impl Many {
    async fn new() -> Self {
        Self::filled(true).await
    }

    /// A database without statistics.
    async fn without_statistics() -> Self {
        Self::filled(false).await
    }

    async fn filled(analyzed: bool) -> Self {
        let database = TestDatabase::create().await;
        let db = database.migrated().await;
        let connection = sea_orm::Database::connect(&database.url).await.unwrap();
        fill(&connection).await;
        let postgres = connection.get_database_backend() == DbBackend::Postgres;
        if postgres && analyzed {
            connection.execute_unprepared("ANALYZE").await.unwrap();
        }
        connection.close().await.unwrap();
        Self { db, owner: Owner::named("many"), postgres, _database: database }
    }

    /// Checks that a plan uses only these indexes, and sorts only if that is allowed.
    #[track_caller]
    fn check_plan(&self, plan: &[String], indexes: &[&str], sort: Sort, what: &str) {
        let text = plan.join("\n");
        let (whole, sorts) =
            if self.postgres { ("Seq Scan", "Sort") } else { ("SCAN ", "ORDER BY") };
        assert!(!text.contains(whole), "{what}:\n{text}");
        let may = sort == Sort::Both || (sort == Sort::Postgres && self.postgres);
        assert!(may || !text.contains(sorts), "{what}:\n{text}");
        let used: BTreeSet<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|w| w.starts_with("ix_"))
            .collect();
        assert_eq!(used, indexes.iter().copied().collect(), "{what}:\n{text}");
        // Except for the first page without a filter, SQLite searches by more than the owner.
        if !self.postgres {
            let searched = plan.iter().filter(|line| line.contains("SEARCH"));
            for line in searched {
                let ends = line.ends_with("(owner=?)") && !what.ends_with("all");
                assert!(!ends, "{what}:\n{text}");
            }
        }
    }
}

fn cursor(order: &str, value: &str) -> Cursor {
    Cursor { order: order.into(), value: value.into(), id: Uuid::from_u128(u128::MAX / 2) }
}

fn timestamp(hours: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + TimeDelta::hours(hours)
}

#[tokio::test]
async fn every_filter_of_uploads_is_served_by_an_index_of_its_own() {
    let many = Many::new().await;
    let page = || UploadFilter { limit: 100, ..UploadFilter::default() };
    let pending = || UploadFilter { status: Some(Status::Pending), ..page() };
    let track = || UploadFilter { subject: Some(Subject::of_track(TrackId(TRACK))), ..page() };
    let covers = || UploadFilter { policy: Some(PolicyName::new("covers")), ..page() };
    let span = |filter: UploadFilter| UploadFilter {
        created_after: Some(timestamp(2)),
        created_before: Some(timestamp(3)),
        ..filter
    };
    let deep = |filter: UploadFilter| UploadFilter {
        cursor: Some(cursor("-created_at", "2026-01-01T04:00:00+00:00")),
        ..filter
    };
    let (created, status) = ("ix_uploads_created", "ix_uploads_owner_status");
    let (policy, by_track) = ("ix_uploads_owner_policy", "ix_uploads_attach_to");
    for (what, filter, index, sort) in [
        ("all", page(), created, Sort::Neither),
        (
            "after",
            UploadFilter { created_after: Some(timestamp(3)), ..page() },
            created,
            Sort::Neither,
        ),
        (
            "before",
            UploadFilter { created_before: Some(timestamp(3)), ..page() },
            created,
            Sort::Neither,
        ),
        ("between", span(page()), created, Sort::Neither),
        ("a later page", deep(page()), created, Sort::Neither),
        ("status", pending(), status, Sort::Postgres),
        ("status, a later page", deep(pending()), status, Sort::Postgres),
        ("track", track(), by_track, Sort::Postgres),
        ("track, a later page", deep(track()), by_track, Sort::Postgres),
        ("track and times", span(track()), by_track, Sort::Postgres),
        (
            "track and status",
            UploadFilter { subject: track().subject, ..pending() },
            by_track,
            Sort::Postgres,
        ),
        (
            "track and policy",
            UploadFilter { subject: track().subject, ..covers() },
            by_track,
            Sort::Postgres,
        ),
        ("policy", covers(), policy, Sort::Postgres),
        ("policy, a later page", deep(covers()), policy, Sort::Postgres),
    ] {
        let plan = many.db.uploads().explain_list(&many.owner, &filter).await.unwrap();
        many.check_plan(&plan, &[index], sort, what);
        let found = many.db.uploads().list(&many.owner, &filter).await.unwrap();
        assert!(!found.items.is_empty() || what.contains("and"), "{what}");
    }
    // Either of the two indexes is good; the rows are then filtered. PostgreSQL may use the index
    // with status and policy if one owner has most of the rows.
    let both = UploadFilter { policy: covers().policy, ..pending() };
    for (what, filter, either) in [
        ("status and policy", both, &[status, policy, "ix_uploads_stats"][..]),
        ("status and times", span(pending()), &[status, created]),
        ("policy and times", span(covers()), &[policy, created]),
    ] {
        let plan = many.db.uploads().explain_list(&many.owner, &filter).await.unwrap();
        let index = either.iter().find(|name| plan.iter().any(|line| line.contains(**name)));
        many.check_plan(&plan, &[index.unwrap_or(&"an index")], Sort::Postgres, what);
    }
}

#[tokio::test]
async fn a_page_without_a_filter_is_not_sorted_even_if_the_database_has_no_statistics() {
    let many = Many::without_statistics().await;
    let page = UploadFilter { limit: 100, ..UploadFilter::default() };
    let plan = many.db.uploads().explain_list(&many.owner, &page).await.unwrap();
    many.check_plan(&plan, &["ix_uploads_created"], Sort::Neither, "all");
    let page = TrackFilter { limit: 100, ..TrackFilter::default() };
    let plan = many.db.tracks().explain_list(&many.owner, &page).await.unwrap();
    many.check_plan(&plan, &["ix_tracks_created"], Sort::Neither, "all");
}

#[tokio::test]
async fn every_filter_and_order_of_tracks_is_served_by_an_index_of_its_own() {
    let many = Many::new().await;
    for (order, descending) in [
        (TrackOrder::CreatedAt, false),
        (TrackOrder::CreatedAt, true),
        (TrackOrder::Title, false),
        (TrackOrder::Title, true),
        (TrackOrder::ReleaseDate, false),
        (TrackOrder::ReleaseDate, true),
    ] {
        let page = || TrackFilter { order, descending, limit: 100, ..TrackFilter::default() };
        let (own, value) = match order {
            TrackOrder::CreatedAt => ("ix_tracks_created", "2026-01-01T04:00:00+00:00"),
            TrackOrder::Title if descending => ("ix_tracks_title", "zebra 5"),
            TrackOrder::Title => ("ix_tracks_title", "song 2"),
            TrackOrder::ReleaseDate => ("ix_tracks_release", "2010-01-01"),
        };
        let deep = |filter: TrackFilter| TrackFilter {
            cursor: Some(cursor(&filter.order_name(), value)),
            ..filter
        };
        let status = || TrackFilter { status: Some(Some(Status::Missing)), ..page() };
        let artist = || TrackFilter { artist_name: Some("Nina Simone".into()), ..page() };
        let search = || TrackFilter { search: Some("ZEB".into()), ..page() };
        let few = if order == TrackOrder::CreatedAt { Sort::Postgres } else { Sort::Both };
        let ours = ["ix_tracks_title", "ix_tracks_artist"];
        for (what, filter, indexes, sort) in [
            ("all", page(), &[own][..], Sort::Neither),
            ("a later page", deep(page()), &[own], Sort::Neither),
            ("status", status(), &["ix_tracks_status"], few),
            ("status, a later page", deep(status()), &["ix_tracks_status"], few),
            ("artist", artist(), &["ix_tracks_artist"], few),
            ("artist, a later page", deep(artist()), &["ix_tracks_artist"], few),
            ("search", search(), &ours, Sort::Both),
            ("search, a later page", deep(search()), &ours, Sort::Both),
        ] {
            let what = format!("{} {what}", filter.order_name());
            let plan = many.db.tracks().explain_list(&many.owner, &filter).await.unwrap();
            many.check_plan(&plan, indexes, sort, &what);
            let found = many.db.tracks().list(&many.owner, &filter).await.unwrap();
            assert!(!found.items.is_empty(), "{what}");
        }
        // Most rows match, so the index of the order finds a page at once.
        let common = TrackFilter { search: Some("so".into()), ..page() };
        let plan = many.db.tracks().explain_list(&many.owner, &common).await.unwrap();
        many.check_plan(&plan, &[own], Sort::Neither, "a common search of all");
    }
}

#[tokio::test]
async fn a_search_finds_the_same_tracks_in_one_page_and_in_many() {
    let many = Many::new().await;
    let all = TrackFilter { search: Some("z".into()), limit: 1000, ..TrackFilter::default() };
    let zebras = many.db.tracks().list(&many.owner, &all).await.unwrap();
    assert!(zebras.next.is_none() && zebras.items.len() == 200, "{}", zebras.items.len());
    let in_order = zebras.items.is_sorted_by_key(|track| track.created_at);
    assert!(in_order && zebras.items.iter().all(|track| track.title.starts_with("Zebra ")));
    let mut paged = Vec::new();
    let mut next = None;
    loop {
        let filter = TrackFilter { limit: 7, cursor: next, ..all.clone() };
        let page = many.db.tracks().list(&many.owner, &filter).await.unwrap();
        paged.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(paged, zebras.items);
}

#[tokio::test]
async fn a_reader_of_pages_sees_every_row_once_while_rows_are_added() {
    for order in [TrackOrder::CreatedAt, TrackOrder::Title, TrackOrder::ReleaseDate] {
        for descending in [false, true] {
            reads_every_row_once(order, descending).await;
        }
    }
}

async fn reads_every_row_once(order: TrackOrder, descending: bool) {
    let world = World::new().await;
    let add = async |title: String| {
        let fields = TrackFields { title, artist_name: "a".into(), release_date: None };
        world.app.create_track(&world.owner, fields).await.unwrap().id
    };
    let mut known = BTreeSet::new();
    for n in 0..20 {
        // Several rows have the same timestamp.
        world.pass(TimeDelta::milliseconds(n % 3));
        known.insert(add(format!("m{n:02}")).await);
    }
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let page = TrackFilter { order, descending, limit: 3, ..TrackFilter::default() };
        let filter = TrackFilter { cursor: next, ..page };
        let page = world.app.db.tracks().list(&world.owner, &filter).await.unwrap();
        seen.extend(page.items.into_iter().map(|track| track.id));
        next = page.next;
        if next.is_none() {
            break;
        }
        // Adds rows before and after the reader's position. They are fewer than it reads, so it
        // reaches the end.
        world.pass(TimeDelta::milliseconds(1));
        add(format!("a{}", seen.len())).await;
        add(format!("z{}", seen.len())).await;
    }
    let once: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "{order:?} {descending}: a row came twice");
    assert!(once.is_superset(&known), "{order:?} {descending}: a row was skipped");
}

#[tokio::test]
async fn a_reader_of_uploads_sees_every_row_once_while_rows_are_added_and_changed() {
    let world = World::new().await;
    let mut known = BTreeSet::new();
    for n in 0..12 {
        // Several rows have the same timestamp.
        world.pass(TimeDelta::seconds(n % 3));
        known.insert(world.upload().await.id);
    }
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let filter = UploadFilter { limit: 2, cursor: next, ..UploadFilter::default() };
        let page = world.app.db.uploads().list(&world.owner, &filter).await.unwrap();
        for upload in &page.items {
            world.app.delete_upload(&world.owner, upload.id).await.unwrap();
        }
        seen.extend(page.items.into_iter().map(|upload| upload.id));
        next = page.next;
        if next.is_none() {
            break;
        }
        world.create(NewUpload::default()).await;
    }
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(seen.len(), known.len());
}
