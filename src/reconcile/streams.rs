//! The two inputs of the join: the listing of a bucket and the rows of the table, page by page. No
//! connection or snapshot is held between pages.

use std::collections::VecDeque;

use futures_util::Stream;
use futures_util::stream::try_unfold;

use super::merge::Keyed;
use super::report::Report;
use super::throttle::Throttle;
use crate::app::AppError;
use crate::db::Db;
use crate::db::reconcile::scan::PolicyLocation;
use crate::domain::KeyRange;
use crate::domain::reconcile::{Listed, UploadSummary};
use crate::storage::{ListRequest, Store, StoreError};

impl Keyed for Listed {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Keyed for UploadSummary {
    fn key(&self) -> &str {
        &self.key
    }
}

/// The objects of a range, in the store's order. The first request asks for `first_page` keys, each
/// later request for `page_size`.
pub fn listing<'a>(
    store: &'a Store,
    range: &'a KeyRange,
    (first_page, page_size): (usize, usize),
    report: &'a Report,
    throttle: &'a Throttle,
) -> impl Stream<Item = Result<Listed, AppError>> + 'a {
    struct State {
        page: VecDeque<Listed>,
        request: Option<ListRequest>,
    }
    let request = ListRequest {
        prefix: range.prefix.clone(),
        start_after: range.after.clone().filter(|_| store.capabilities.may_start_after()),
        token: None,
        limit: first_page,
    };
    let state = State { page: VecDeque::new(), request: Some(request) };
    try_unfold(state, move |mut state| async move {
        loop {
            if let Some(object) = state.page.pop_front() {
                if range.until.as_ref().is_some_and(|until| &object.key > until) {
                    return Ok(None);
                }
                // If the store can't start a listing after a key, the listing also has the keys
                // before the range.
                if range.after.as_ref().is_some_and(|after| &object.key <= after) {
                    continue;
                }
                return Ok(Some((object, state)));
            }
            let Some(request) = state.request.take() else { return Ok(None) };
            throttle.acquire().await;
            let page = store.objects.list(&request).await?;
            report.count(|counters| counters.list_requests += 1);
            // The same token after an empty page would repeat the request forever. If a page has
            // objects, the join finds out that they are listed twice.
            if page.objects.is_empty() && page.next.is_some() && page.next == request.token {
                let what = "the store's listing of objects does not advance".to_owned();
                return Err(StoreError::Protocol(what).into());
            }
            state.page = page.objects.into();
            // `start-after` only sets the beginning of a listing; the store's token continues it.
            state.request = page.next.map(|token| ListRequest {
                token: Some(token),
                start_after: None,
                limit: page_size,
                ..request
            });
        }
    })
}

/// The rows of a range, in byte order of their keys. If all rows were already read, `read` contains
/// them.
pub fn rows<'a>(
    db: &'a Db,
    at: PolicyLocation<'a>,
    range: &'a KeyRange,
    page_size: usize,
    read: Option<Vec<UploadSummary>>,
) -> impl Stream<Item = Result<UploadSummary, AppError>> + 'a {
    struct State {
        page: VecDeque<UploadSummary>,
        next: Option<KeyRange>,
    }
    let next = read.is_none().then(|| range.clone());
    let state = State { page: read.unwrap_or_default().into(), next };
    try_unfold(state, move |mut state| async move {
        loop {
            if let Some(row) = state.page.pop_front() {
                return Ok(Some((row, state)));
            }
            let Some(range) = state.next.take() else { return Ok(None) };
            let page = db.scan().list_summaries(at, &range, page_size as u64).await?;
            if page.len() == page_size {
                state.next = page.last().map(|row| range.resumed_after(&row.key));
            }
            state.page = page.into();
        }
    })
}
