//! Tracks.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use entity::track::{self, Column};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::idempotency::{Claim, complete};
use super::{Cursor, Db, DbError, Page, Result, packed};
use crate::domain::track::Bound;
use crate::domain::{Owner, Status, Timestamp, Track, TrackId, UploadId};

/// The status of a track without uploads.
pub const EMPTY: &str = "empty";

/// What a track without a release date is ordered by: behind all that four digits can say.
const NO_DATE: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(date) => date,
    None => NaiveDate::MAX,
};

/// What a client may say of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFields {
    /// 1 to 100 characters.
    pub title: String,
    /// 1 to 100 characters.
    pub artist_name: String,
    /// The day of release.
    pub release_date: Option<NaiveDate>,
}

/// By what a list of tracks is ordered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum TrackOrder {
    /// When it was created.
    #[default]
    CreatedAt,
    /// The title, whatever its case.
    Title,
    /// The release date; tracks without one come last.
    ReleaseDate,
}

/// Which tracks to list.
#[derive(Debug, Default, Clone)]
pub struct TrackFilter {
    /// The newest upload's status; `Some(None)` is `empty`.
    pub status: Option<Option<Status>>,
    /// The whole artist name.
    pub artist_name: Option<String>,
    /// The beginning of title or artist name, whatever its case.
    pub search: Option<String>,
    /// The order.
    pub order: TrackOrder,
    /// The other way round.
    pub descending: bool,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// How many at most.
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

impl Db {
    /// Adds a track, and completes an idempotency key with it.
    pub async fn create_track(
        &self,
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
            return track::Entity::insert(row).exec_with_returning(&self.write).await?.try_into();
        };
        let txn = self.begin().await?;
        if !complete(&txn, claim).await? {
            txn.rollback().await?;
            return Err(DbError::Busy);
        }
        let row = track::Entity::insert(row).exec_with_returning(&txn).await?;
        txn.commit().await?;
        row.try_into()
    }

    /// One track of this owner.
    pub async fn track(&self, owner: &Owner, id: TrackId) -> Result<Option<Track>> {
        let row = packed::one(&self.read, find(owner, id)).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Writes what the client may change; `None` where the version is no longer that.
    pub async fn update_track(
        &self,
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
            .exec_with_returning(&self.write)
            .await?;
        rows.into_iter().next().map(TryInto::try_into).transpose()
    }

    /// A page of an owner's tracks.
    pub async fn list_tracks(&self, owner: &Owner, filter: &TrackFilter) -> Result<Page<Track>> {
        let order = if filter.descending { Order::Desc } else { Order::Asc };
        let column = filter.column();
        let mut query = track::Entity::find().filter(Column::Owner.eq(owner.as_str()));
        if let Some(status) = &filter.status {
            query = query.filter(Column::Status.eq(status.map_or(EMPTY, Status::name)));
        }
        if let Some(artist) = &filter.artist_name {
            query = query
                .filter(Column::ArtistOrder.eq(artist.to_lowercase()))
                .filter(Column::ArtistName.eq(artist.as_str()));
        }
        if let Some(search) = &filter.search {
            let from = search.to_lowercase();
            // The last code point sorts behind everything that begins with the text.
            let until = format!("{from}{}", char::MAX);
            query = query.filter(
                Condition::any()
                    .add(Column::TitleOrder.between(from.clone(), until.clone()))
                    .add(Column::ArtistOrder.between(from, until)),
            );
        }
        if let Some(cursor) = &filter.cursor
            && let Some(value) = filter.value_of(cursor)
        {
            query = query.filter(keyset(column, Column::Id, value, cursor.id, filter.descending));
        }
        let query = query.order_by(column, order.clone()).order_by(Column::Id, order);
        let rows = packed::all(&self.read, query, Some(filter.limit + 1)).await?;
        let page = Page::cut(rows, filter.limit, |row| filter.cursor_at(row));
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }
}

/// Rows behind a cursor: `(column, id) > (value, id)`, spelt out for both databases.
pub(super) fn keyset<C: ColumnTrait>(
    column: C,
    id_column: C,
    value: sea_orm::Value,
    id: Uuid,
    descending: bool,
) -> Condition {
    let (further, tie) = if descending {
        (column.lt(value.clone()), id_column.lt(id))
    } else {
        (column.gt(value.clone()), id_column.gt(id))
    };
    Condition::any().add(further).add(Condition::all().add(column.eq(value)).add(tie))
}

fn find(owner: &Owner, id: TrackId) -> sea_orm::Select<track::Entity> {
    track::Entity::find_by_id(id.0).filter(Column::Owner.eq(owner.as_str()))
}

/// Reads a track inside a write, and on `PostgreSQL` locks its row: whoever changes a
/// track and its uploads takes the track first, so two never wait for each other.
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

/// As [`lock`], for several tracks, whoever owns them, in the order of their ids.
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
