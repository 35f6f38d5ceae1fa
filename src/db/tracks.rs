//! Tracks.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use entity::track::{self, Column};
use entity::upload;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait as _, Select,
};
use uuid::Uuid;

use super::engine::pagination::{keyset_by, no_index};
use super::engine::pool::Engine;
use super::idempotency::{Claim, complete};
use super::{Cursor, DbError, Page, Result};
use crate::domain::track::Bound;
use crate::domain::{Owner, Status, Timestamp, Track, TrackId, UploadId};

/// The status of a track without uploads.
pub const EMPTY: &str = "empty";

/// Largest number of rows that are sorted instead of read in the order of an index.
const FEW: u64 = 1000;

/// The value that sorts a track without a release date after all dates of four digits.
const NO_DATE: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(date) => date,
    None => NaiveDate::MAX,
};

/// The fields of a track that a client may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFields {
    /// 1 to 100 characters.
    pub title: String,
    /// 1 to 100 characters.
    pub artist_name: String,
    /// The release date.
    pub release_date: Option<NaiveDate>,
}

/// The order of a list of tracks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum TrackOrder {
    /// The time of creation.
    #[default]
    CreatedAt,
    /// The title, ignoring case.
    Title,
    /// The release date; tracks without one come last.
    ReleaseDate,
}

/// Which tracks to list.
#[derive(Debug, Default, Clone)]
pub struct TrackFilter {
    /// The latest upload's status; `Some(None)` is `empty`.
    pub status: Option<Option<Status>>,
    /// The whole artist name.
    pub artist_name: Option<String>,
    /// A prefix of the title or artist name, ignoring case.
    pub search: Option<String>,
    /// The order.
    pub order: TrackOrder,
    /// Whether the order is descending.
    pub descending: bool,
    /// The end of the previous page.
    pub cursor: Option<Cursor>,
    /// The largest number of rows.
    pub limit: u64,
}

impl TrackFilter {
    /// The name of the order, as in cursors and in the API.
    pub fn order_name(&self) -> String {
        let name = match self.order {
            TrackOrder::CreatedAt => "created_at",
            TrackOrder::Title => "title",
            TrackOrder::ReleaseDate => "release_date",
        };
        format!("{}{name}", if self.descending { "-" } else { "" })
    }

    /// The statement that reads the page and one more row. `narrow` says that few rows match, so
    /// that reading them in the order of the list's index would be slow.
    pub(super) fn query(&self, owner: &Owner, narrow: bool) -> Select<track::Entity> {
        let order = if self.descending { Order::Desc } else { Order::Asc };
        let column = self.column();
        let by = if narrow { no_index(column) } else { column.into_expr() };
        let mut query = track::Entity::find().filter(Column::Owner.eq(owner.as_str()));
        for ranges in [self.of_status(), self.of_artist(), self.of_search()].into_iter().flatten() {
            query = query.filter(ranges.into_iter().fold(Condition::any(), Condition::add));
        }
        if let Some(artist) = &self.artist_name {
            query = query.filter(Column::ArtistName.eq(artist.as_str()));
        }
        if let Some(cursor) = &self.cursor
            && let Some(value) = self.value_of(cursor)
        {
            let (by, id) = (by.clone(), Column::Id.into_expr());
            query = query.filter(keyset_by(by, id, value, cursor.id, self.descending));
        }
        query.order_by(by, order.clone()).order_by(Column::Id, order).limit(self.limit + 1)
    }

    /// The filters whose indexes do not return the rows in this order, each as ranges of an index.
    fn ranges(&self) -> impl Iterator<Item = Vec<Expr>> {
        let ordered = self.order == TrackOrder::CreatedAt;
        let named = [self.of_status(), self.of_artist()].into_iter().filter(move |_| !ordered);
        named.chain([self.of_search()]).flatten()
    }

    fn of_status(&self) -> Option<Vec<Expr>> {
        let status = self.status.as_ref()?;
        Some(vec![Column::Status.eq(status.map_or(EMPTY, Status::name))])
    }

    fn of_artist(&self) -> Option<Vec<Expr>> {
        let artist = self.artist_name.as_ref()?;
        Some(vec![Column::ArtistOrder.eq(artist.to_lowercase())])
    }

    fn of_search(&self) -> Option<Vec<Expr>> {
        let from = self.search.as_ref()?.to_lowercase();
        // The last code point sorts after everything that begins with the text.
        let until = format!("{from}{}", char::MAX);
        let range = |column: Column| column.between(from.clone(), until.clone());
        Some(vec![range(Column::TitleOrder), range(Column::ArtistOrder)])
    }

    fn column(&self) -> Column {
        match self.order {
            TrackOrder::CreatedAt => Column::CreatedAt,
            TrackOrder::Title => Column::TitleOrder,
            TrackOrder::ReleaseDate => Column::ReleaseOrder,
        }
    }

    fn cursor_at(&self, row: &track::Model) -> Cursor {
        let value = match self.order {
            TrackOrder::CreatedAt => row.created_at.to_rfc3339(),
            TrackOrder::Title => row.title_order.clone(),
            TrackOrder::ReleaseDate => row.release_order.to_string(),
        };
        Cursor { order: self.order_name(), value, id: row.id }
    }

    fn value_of(&self, cursor: &Cursor) -> Option<sea_orm::Value> {
        Some(match self.order {
            TrackOrder::CreatedAt => cursor.value.parse::<Timestamp>().ok()?.into(),
            TrackOrder::Title => cursor.value.clone().into(),
            TrackOrder::ReleaseDate => cursor.value.parse::<NaiveDate>().ok()?.into(),
        })
    }
}

/// Tracks.
#[derive(Clone, Copy)]
pub struct Tracks<'a>(pub(in crate::db) &'a Engine);

impl Tracks<'_> {
    /// Inserts a track, and completes an idempotency key in the same transaction.
    pub async fn create(
        self,
        id: TrackId,
        owner: &Owner,
        fields: TrackFields,
        now: Timestamp,
        claim: Option<&Claim>,
    ) -> Result<Track> {
        let row = track::ActiveModel {
            id: Set(id.0),
            owner: Set(owner.as_str().to_owned()),
            status: Set(EMPTY.to_owned()),
            next_sequence: Set(1),
            latest_upload_id: Set(None),
            bound_upload_id: Set(None),
            bound_sequence: Set(None),
            version: Set(1),
            created_at: Set(now),
            updated_at: Set(now),
            ..set_fields(fields)
        };
        let Some(claim) = claim else {
            return insert(&self.0.write, row).await?.try_into();
        };
        let txn = self.0.begin().await?;
        if !complete(&txn, claim).await? {
            txn.rollback().await?;
            return Err(DbError::Busy);
        }
        let row = insert(&txn, row).await?;
        txn.commit().await?;
        row.try_into()
    }

    /// A track of this owner.
    pub async fn find(self, owner: &Owner, id: TrackId) -> Result<Option<Track>> {
        let row = find(owner, id).one(&self.0.read).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Writes the fields that a client may set; `None` if the version has changed.
    pub async fn update(
        self,
        track: &Track,
        fields: TrackFields,
        now: Timestamp,
    ) -> Result<Option<Track>> {
        let change = track::ActiveModel {
            version: Set(track.version + 1),
            updated_at: Set(now),
            ..set_fields(fields)
        };
        let rows = track::Entity::update_many()
            .set(change)
            .filter(Column::Id.eq(track.id.0))
            .filter(Column::Owner.eq(track.owner.as_str()))
            .filter(Column::Version.eq(track.version))
            .exec_with_returning(&self.0.write)
            .await?;
        rows.into_iter().next().map(TryInto::try_into).transpose()
    }

    /// A page of an owner's tracks.
    pub async fn list(self, owner: &Owner, filter: &TrackFilter) -> Result<Page<Track>> {
        let narrow = self.is_narrow(owner, filter).await?;
        let rows = self.0.read_page(filter.query(owner, narrow)).await?;
        let page = Page::cut(rows, filter.limit, |row| filter.cursor_at(row));
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Deletes a track's row; its uploads stay until their objects are deleted. Returns `false` if
    /// one of its uploads is not in a final state, or if the owner has no such track.
    pub async fn delete(self, owner: &Owner, id: TrackId) -> Result<bool> {
        let txn = self.0.begin().await?;
        if lock(&txn, self.0.is_postgres(), owner, id).await?.is_none() {
            txn.rollback().await?;
            return Ok(false);
        }
        let ended = Status::ALL.into_iter().filter(|status| status.is_final()).map(Status::name);
        let open = upload::Entity::find()
            .filter(upload::Column::TrackId.eq(id.0))
            .filter(upload::Column::Status.is_not_in(ended))
            .limit(1);
        if open.one(&txn).await?.is_some() {
            txn.rollback().await?;
            return Ok(false);
        }
        track::Entity::delete_many().filter(track::Column::Id.eq(id.0)).exec(&txn).await?;
        txn.commit().await?;
        Ok(true)
    }

    /// The query plan of a list, line by line.
    #[doc(hidden)]
    pub async fn explain_list(self, owner: &Owner, filter: &TrackFilter) -> Result<Vec<String>> {
        let narrow = self.is_narrow(owner, filter).await?;
        let backend = self.0.read.get_database_backend();
        self.0.explain(filter.query(owner, narrow).build(backend)).await
    }

    /// Whether one of the filters matches so few rows that using its index and sorting them is
    /// faster. PostgreSQL's planner knows their number; for `SQLite` they are counted, up to
    /// [`FEW`].
    pub(super) async fn is_narrow(self, owner: &Owner, filter: &TrackFilter) -> Result<bool> {
        if self.0.is_postgres() {
            return Ok(false);
        }
        for ranges in filter.ranges() {
            let mut few = true;
            for range in ranges {
                let query = track::Entity::find()
                    .select_only()
                    .column(Column::Id)
                    .filter(Column::Owner.eq(owner.as_str()))
                    .filter(range)
                    .offset(FEW)
                    .limit(1);
                few &= query.into_tuple::<Uuid>().one(&self.0.read).await?.is_none();
            }
            if few {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn find(owner: &Owner, id: TrackId) -> Select<track::Entity> {
    track::Entity::find_by_id(id.0).filter(Column::Owner.eq(owner.as_str()))
}

/// Reads a track inside a write transaction, and on PostgreSQL locks its row. A transaction that
/// changes a track and its uploads locks the track first, so that no two wait for each other.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    postgres: bool,
    owner: &Owner,
    id: TrackId,
) -> Result<Option<track::Model>> {
    let query = find(owner, id);
    let query = if postgres { query.lock_exclusive() } else { query };
    Ok(query.one(connection).await?)
}

/// As [`lock`], for several tracks of any owner, in the order of their ids.
pub(super) async fn lock_all(
    connection: &impl ConnectionTrait,
    postgres: bool,
    ids: BTreeSet<Uuid>,
) -> Result<Vec<track::Model>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query = track::Entity::find().filter(Column::Id.is_in(ids)).order_by_asc(Column::Id);
    let query = if postgres { query.lock_exclusive() } else { query };
    Ok(query.all(connection).await?)
}

fn set_fields(fields: TrackFields) -> track::ActiveModel {
    let TrackFields { title, artist_name, release_date } = fields;
    track::ActiveModel {
        title_order: Set(title.to_lowercase()),
        artist_order: Set(artist_name.to_lowercase()),
        release_order: Set(release_date.unwrap_or(NO_DATE)),
        title: Set(title),
        artist_name: Set(artist_name),
        release_date: Set(release_date),
        ..Default::default()
    }
}

pub(super) fn bound_of(row: &track::Model) -> Result<Option<Bound>> {
    match (row.bound_upload_id, row.bound_sequence) {
        (None, None) => Ok(None),
        (Some(upload), Some(sequence)) => Ok(Some(Bound { upload: UploadId(upload), sequence })),
        _ => Err(corrupt("bound_sequence", row.id)),
    }
}

/// Inserts a row and returns it. All rows of the statement are read, not only the first: on `SQLite`
/// a statement outside of a transaction commits after its last row, and whoever reads one row misses
/// the error of the commit (a full disk).
async fn insert(
    connection: &impl ConnectionTrait,
    row: track::ActiveModel,
) -> Result<track::Model> {
    let rows = track::Entity::insert_many([row]).exec_with_returning(connection).await?;
    Ok(rows.into_iter().next().ok_or(DbErr::RecordNotInserted)?)
}

fn corrupt(column: &'static str, id: Uuid) -> DbError {
    DbError::Corrupt { table: "tracks", column, id: id.to_string() }
}

impl TryFrom<track::Model> for Track {
    type Error = DbError;

    fn try_from(row: track::Model) -> Result<Self> {
        let bound = bound_of(&row)?;
        let track::Model {
            id,
            owner,
            title,
            artist_name,
            release_date,
            title_order: _,
            artist_order: _,
            release_order: _,
            status,
            next_sequence: _,
            latest_upload_id,
            bound_upload_id: _,
            bound_sequence: _,
            version,
            created_at,
            updated_at,
        } = row;
        let status = match status.as_str() {
            EMPTY => None,
            name => Some(name.parse().map_err(|()| corrupt("status", id))?),
        };
        Ok(Self {
            id: TrackId(id),
            owner: Owner::named(owner),
            title,
            artist_name,
            release_date,
            latest_upload: latest_upload_id.map(UploadId),
            bound,
            status,
            version,
            created_at,
            updated_at,
        })
    }
}
