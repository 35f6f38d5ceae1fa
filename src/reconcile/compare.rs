//! The comparison of a range of the listing with the same range of rows: most pairs call for
//! nothing, and cost no more than a look at a few columns.

use std::collections::HashMap;
use std::time::Instant;

use futures_util::TryStreamExt as _;

use super::merge::{Keyed as _, Pair, merge};
use super::plan::Listing;
use super::report::is_worth_reporting;
use super::streams;
use super::worker::{BATCH, WorkError, Worker};
use crate::app::AppError;
use crate::domain::Timestamp;
use crate::domain::reconcile::{
    Action, Listed, UploadSummary, decide_both, decide_object, decide_row,
};
use crate::domain::run::{Finding, FindingKind};

/// How many findings wait to be written, at most by a batch more.
const MAX_WAITING: usize = 500;

/// What there is to do with a row.
pub(super) enum Work {
    /// HEAD and judge.
    Look,
    /// Note bytes at a final row.
    MarkDue(Listed),
    /// Say what it is.
    Report,
}

impl Worker<'_> {
    /// Joins a range of the listing with the same range of rows.
    pub(super) async fn compare(&self, listing: Listing) -> Result<(), WorkError> {
        let (app, page) = (self.app, self.settings.page_size);
        let pages = (listing.first_page(page), page);
        let Listing { range, asked_at, rows } = listing;
        let rows = streams::rows(&app.db, &self.policy.name, &range, page, rows);
        let objects = streams::listing(self.store, &range, pages, self.report, self.throttle);
        let mut pairs = std::pin::pin!(merge(rows, objects));
        let (mut work, mut looks) = (Vec::new(), 0);
        let mut last: Option<String> = None;
        let mut saved_at = Instant::now();
        while let Some(pair) = pairs.try_next().await? {
            let key = match &pair {
                Pair::Left(row) | Pair::Both(row, _) => row.key(),
                Pair::Right(object) => object.key(),
            };
            match &mut last {
                Some(last) => key.clone_into(last),
                None => last = Some(key.to_owned()),
            }
            if let Some(task) = self.sort(pair, asked_at) {
                looks += usize::from(!matches!(task.1, Work::Report));
                work.push(task);
            }
            if looks >= BATCH
                || work.len() + self.report.tally().waiting() >= MAX_WAITING
                || saved_at.elapsed() >= self.settings.save_every
            {
                self.read_and_act(std::mem::take(&mut work), last.clone()).await?;
                (looks, saved_at) = (0, Instant::now());
            }
        }
        if work.is_empty() {
            // Written with the shard's end, or with the next stage.
            return Ok(());
        }
        self.read_and_act(work, last).await
    }

    /// Reports objects without a row, and hands on the keys of rows that need more than a
    /// look at a few of their columns.
    fn sort(
        &self,
        pair: Pair<UploadSummary, Listed>,
        asked_at: Timestamp,
    ) -> Option<(String, Work)> {
        let now = self.app.now();
        let mut tally = self.report.tally();
        let (action, row, object) = match pair {
            Pair::Left(row) => (decide_row(&row, asked_at, now, self.policy), Some(row), None),
            Pair::Right(object) => {
                (decide_object(&object, asked_at, self.policy), None, Some(object))
            }
            Pair::Both(row, object) => (decide_both(&row, &object, now), Some(row), Some(object)),
        };
        tally.count(|counters| counters.listed += u64::from(object.is_some()));
        match (action, row, object) {
            (Action::Verify | Action::ProveAbsent, Some(row), _) => {
                return Some((row.key, Work::Look));
            }
            (Action::MarkDue, Some(row), Some(object)) => {
                return Some((row.key, Work::MarkDue(object)));
            }
            (Action::Orphan(_), _, Some(object)) => {
                tally.count(|counters| counters.orphans += 1);
                tally.find([self.finding(FindingKind::Orphan, object, now)]);
            }
            (Action::Foreign, _, Some(object)) => {
                tally.count(|counters| counters.foreign += 1);
                tally.find([self.finding(FindingKind::Foreign, object, now)]);
            }
            // Deletions that are due are done from the table, in the end.
            (_, Some(row), _) if is_worth_reporting(&row) => return Some((row.key, Work::Report)),
            _ => {}
        }
        None
    }

    fn finding(&self, kind: FindingKind, object: Listed, now: Timestamp) -> Finding {
        Finding {
            kind,
            policy: self.policy.name.clone(),
            upload: self.policy.prefix.parse_key(&object.key),
            key: object.key,
            size: Some(object.size),
            detail: None,
            found_at: now,
        }
    }

    /// Reads rows that there is something to do with. One that is gone was ended and pruned.
    pub(super) async fn read_and_act(
        &self,
        work: Vec<(String, Work)>,
        key: Option<String>,
    ) -> Result<(), WorkError> {
        let mut rows = HashMap::new();
        if !work.is_empty() {
            let keys = work.iter().map(|(key, _)| key.clone()).collect();
            let read = self.app.db.scan().find_by_keys(&self.policy.name, keys).await;
            for row in read.map_err(AppError::from)? {
                rows.insert(row.key.as_str().to_owned(), row);
            }
        }
        let work = work.into_iter().filter_map(|(key, work)| Some((rows.remove(&key)?, work)));
        self.act(work.collect(), key).await
    }
}
