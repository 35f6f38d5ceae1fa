//! Lists of an owner's tracks.

use chrono::NaiveDate;
use entity::track::{self, Column};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait as _, Select,
};
use uuid::Uuid;

use super::Tracks;
use crate::db::engine::pagination::{keyset_by, no_index};
use crate::db::{Cursor, Page, Result};
use crate::domain::attachment::EMPTY;
use crate::domain::{Owner, Status, Timestamp, Track};

/// The largest number of rows that are sorted instead of read in the order of an index.
const FEW: u64 = 1000;

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

    /// The statement that reads the page and one more row. If few rows match (`narrow`), it does
    /// not read them in the order of the list's index: that would read many rows that do not match.
    fn query(&self, owner: &Owner, narrow: bool) -> Select<track::Entity> {
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

    /// The filters whose indexes do not return the rows in the order of the list. Each filter is a
    /// list of index ranges.
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

impl Tracks<'_> {
    /// A page of an owner's tracks.
    pub async fn list(self, owner: &Owner, filter: &TrackFilter) -> Result<Page<Track>> {
        let narrow = self.is_narrow(owner, filter).await?;
        let rows = self.0.read_page(filter.query(owner, narrow)).await?;
        let page = Page::cut(rows, filter.limit, |row| filter.cursor_at(row));
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
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
    async fn is_narrow(self, owner: &Owner, filter: &TrackFilter) -> Result<bool> {
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
