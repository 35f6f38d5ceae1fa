//! `GET /api/tracks`

use actix_web::web::Data;
use utoipa::IntoParams;

use crate::db::tracks::{TrackFilter, TrackOrder};
use crate::domain::Status;
use crate::domain::attachment::EMPTY;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{PageView, TrackStatusName, TrackView, named_values};

/// The orders by name.
const ORDERS: [(&str, TrackOrder); 3] = [
    ("created_at", TrackOrder::CreatedAt),
    ("title", TrackOrder::Title),
    ("release_date", TrackOrder::ReleaseDate),
];

named_values! {
    /// The order of a list of tracks.
    TrackOrdering as "TrackOrdering":
        ORDERS.into_iter().flat_map(|(name, _)| [name.to_owned(), format!("-{name}")]);
}

/// The filters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
struct Filters {
    /// Tracks whose newest upload has this status, or `empty`.
    #[param(inline, example = "uploaded")]
    status: Option<TrackStatusName>,
    /// Tracks with exactly this artist name.
    artist_name: Option<String>,
    /// Tracks whose title or artist name starts with this text, ignoring case.
    search: Option<String>,
    /// The order. A name with `-` means descending. The default is `-created_at`.
    #[param(inline, example = "-created_at")]
    ordering: Option<TrackOrdering>,
}

/// List tracks
#[utoipa::path(get, path = "/api/tracks", operation_id = "list_tracks", tag = "tracks",
    params(Filters, PagingParams),
    responses((status = 200, description = "A page of tracks", body = PageView<TrackView>),
        BadQuery))]
pub async fn handle(
    caller: Caller,
    query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<TrackView>>, ApiError> {
    let cursor_key = query.cursor_key();
    let page = state.app.list_tracks(&caller.owner, &filter(query)?).await?;
    Ok(Json(PageView::of(page, |track| TrackView::of(track, &state.app), &cursor_key)))
}

fn filter(mut query: Query) -> Result<TrackFilter, ApiError> {
    let (order, descending) =
        query.value("ordering", ordering).unwrap_or((TrackOrder::CreatedAt, true));
    let mut filter = TrackFilter {
        status: query.value("status", status),
        artist_name: query.text("artist_name"),
        search: query.text("search").filter(|search| !search.is_empty()),
        order,
        descending,
        cursor: None,
        limit: 0,
    };
    let paging = query.paging(&filter.order_name(), |value| match order {
        TrackOrder::CreatedAt => text::timestamp(value).is_ok(),
        TrackOrder::Title => true,
        TrackOrder::ReleaseDate => text::date(value).is_ok(),
    });
    query.finish()?;
    (filter.cursor, filter.limit) = (paging.cursor, paging.limit);
    Ok(filter)
}

fn status(name: &str) -> Result<Option<Status>, String> {
    if name == EMPTY {
        return Ok(None);
    }
    let names = [EMPTY].into_iter().chain(Status::ALL.into_iter().map(Status::name));
    text::one_of(names)(name).map(Some)
}

fn ordering(name: &str) -> Result<(TrackOrder, bool), String> {
    let (bare, descending) = name.strip_prefix('-').map_or((name, false), |bare| (bare, true));
    let order = ORDERS.into_iter().find(|(name, _)| *name == bare);
    let order = order.map(|(_, order)| (order, descending));
    order.ok_or_else(|| {
        "Must be created_at, title or release_date, with - for descending order".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_order_is_newest_first() {
        let filter = filter(Query::parse("")).unwrap();
        assert_eq!((filter.order_name().as_str(), filter.limit), ("-created_at", 100));
    }

    #[test]
    fn status_empty_selects_tracks_without_uploads() {
        let status = |text: &str| filter(Query::parse(text)).map(|filter| filter.status).ok();
        assert_eq!(status("status=empty"), Some(Some(None)));
        assert_eq!(status("status=pending"), Some(Some(Some(Status::Pending))));
        assert_eq!(status("status=gone"), None);
    }
}
