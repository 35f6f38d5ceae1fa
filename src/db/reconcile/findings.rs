//! The findings of runs: one row for each object and kind, with the first and the last run that saw
//! it.
//!
//! A run that sees an object again updates its row, so that the size of the table depends on the
//! number of objects with a problem, and not on the number of runs. Retention deletes rows that no
//! run has seen for a while.
//!
//! A row names only its first and its last run, and the last audit. So the list of a run's findings
//! contains the rows that name the run. The list of an audit also contains the rows that existed at
//! the end of the audit and that a later run saw again: an audit sees all objects, so it has seen
//! these too.

use std::collections::BTreeMap;

use entity::finding::{self, Column};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, Select,
};

use crate::db::engine::pool::Engine;
use crate::db::{Cursor, DbError, Page, Result};
use crate::domain::limits::MAX_CLOCK_SKEW;
use crate::domain::run::{Finding, FindingKind, Mode, Run, StoredFinding};
use crate::domain::{PolicyName, RunId, UploadId};

/// The order of findings, as named in their cursors.
pub const FINDING_ORDER: &str = "findings:kind,policy,key";

/// Findings in one statement: eleven parameters each. PostgreSQL allows 65,535, `SQLite` 32,766.
const CHUNK: usize = 1000;

/// Records the findings of a run, with one statement for up to [`CHUNK`] findings.
pub(super) async fn record(
    connection: &impl ConnectionTrait,
    run: RunId,
    is_audit: bool,
    findings: &[Finding],
) -> Result<()> {
    // A statement can write a row only once. The rows are sorted to avoid deadlocks.
    let distinct: BTreeMap<_, _> = findings
        .iter()
        .map(|finding| ((finding.kind.name(), finding.policy.as_str(), &finding.key), finding))
        .collect();
    let mut rows = distinct.into_values().map(|finding| to_row(run, is_audit, finding));
    let mut seen_again = OnConflict::columns([Column::Kind, Column::Policy, Column::Key]);
    seen_again.update_columns([Column::UploadId, Column::Size, Column::Detail]);
    seen_again.update_columns([Column::LastRun, Column::LastSeenAt]);
    if is_audit {
        seen_again.update_column(Column::LastAudit);
    }
    loop {
        let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        finding::Entity::insert_many(chunk)
            .on_conflict(seen_again.clone())
            .exec_without_returning(connection)
            .await?;
    }
}

fn to_row(run: RunId, is_audit: bool, finding: &Finding) -> finding::ActiveModel {
    let Finding { kind, policy, key, upload, size, detail, found_at } = finding;
    finding::ActiveModel {
        kind: Set(kind.name().to_owned()),
        policy: Set(policy.as_str().to_owned()),
        key: Set(key.clone()),
        upload_id: Set(upload.map(|id| id.0)),
        size: Set(size.and_then(|size| i64::try_from(size).ok())),
        detail: Set(detail.clone()),
        first_run: Set(run.0),
        first_seen_at: Set(*found_at),
        last_run: Set(run.0),
        last_audit: Set(is_audit.then_some(run.0)),
        last_seen_at: Set(*found_at),
    }
}

/// The rows that are listed as the findings of a run.
fn seen_by(run: &Run) -> Select<finding::Entity> {
    let id = run.id.0;
    let mut seen = Condition::any().add(Column::FirstRun.eq(id)).add(Column::LastRun.eq(id));
    if run.request.mode == Mode::Audit {
        seen = seen.add(Column::LastAudit.eq(id));
        if let Some(end) = run.finished_at {
            let later = Condition::all()
                .add(Column::FirstSeenAt.lte(end))
                .add(Column::LastSeenAt.gt(end))
                .add(Column::LastAudit.is_not_null());
            seen = seen.add(later);
        }
    }
    // All of these rows were last seen during the run or later. This condition lets the database
    // use the index on that time. The clock of another process that wrote them may be behind.
    let since = run.started_at - MAX_CLOCK_SKEW;
    let mut query = finding::Entity::find().filter(seen).filter(Column::LastSeenAt.gte(since));
    if let Some(policy) = &run.request.policy {
        query = query.filter(Column::Policy.eq(policy.as_str()));
    }
    query
}

/// The findings of reconciliation runs.
#[derive(Clone, Copy)]
pub struct Findings<'a>(pub(in crate::db) &'a Engine);

impl Findings<'_> {
    /// Records the findings of a run.
    pub async fn record(self, run: &Run, findings: &[Finding]) -> Result<()> {
        record(&self.0.write, run.id, run.request.mode == Mode::Audit, findings).await
    }

    /// The details of a policy's abandoned multipart uploads that this run was the last to see.
    pub async fn list_multiparts(self, id: RunId, policy: &PolicyName) -> Result<Vec<String>> {
        let details: Vec<Option<String>> = finding::Entity::find()
            .select_only()
            .column(Column::Detail)
            .filter(Column::Kind.eq(FindingKind::AbandonedMultipart.name()))
            .filter(Column::Policy.eq(policy.as_str()))
            .filter(Column::LastRun.eq(id.0))
            .into_tuple()
            .all(&self.0.read)
            .await?;
        Ok(details.into_iter().flatten().collect())
    }

    /// A page of the findings of a run, in the order of kind, policy and key.
    pub async fn list(
        self,
        run: &Run,
        kind: Option<FindingKind>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<StoredFinding>> {
        let mut query = seen_by(run);
        if let Some(kind) = kind {
            query = query.filter(Column::Kind.eq(kind.name()));
        }
        if let Some(after) = cursor.and_then(|cursor| Position::parse(&cursor.value)) {
            let columns = [Column::Kind, Column::Policy, Column::Key].map(Expr::col);
            let values = [after.kind, after.policy, after.key].map(Expr::val);
            query = query.filter(Expr::tuple(columns).gt(Expr::tuple(values)));
        }
        let rows = query
            .order_by(Column::Kind, Order::Asc)
            .order_by(Column::Policy, Order::Asc)
            .order_by(Column::Key, Order::Asc)
            .limit(limit + 1)
            .all(&self.0.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: FINDING_ORDER.to_owned(),
            value: Position::text(row),
            id: run.id.0,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }
}

/// Whether a cursor's value is a position in the order of findings.
pub fn is_position(value: &str) -> bool {
    Position::parse(value).is_some()
}

/// A position in the order of findings.
struct Position {
    kind: String,
    policy: String,
    key: String,
}

impl Position {
    /// The text of a row's position. The keys of foreign objects may contain any character.
    fn text(row: &finding::Model) -> String {
        let [policy, key] =
            [&row.policy, &row.key].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC));
        format!("{} {policy} {key}", row.kind)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(' ').map(|part| percent_decode_str(part).decode_utf8().ok());
        let mut next = || Some(parts.next()??.into_owned());
        Some(Self { kind: next()?, policy: next()?, key: next()? })
    }
}

impl TryFrom<finding::Model> for StoredFinding {
    type Error = DbError;

    fn try_from(row: finding::Model) -> Result<Self> {
        let finding::Model {
            kind,
            policy,
            key,
            upload_id,
            size,
            detail,
            first_run,
            first_seen_at,
            last_run,
            last_audit: _,
            last_seen_at,
        } = row;
        let kind = kind.parse().map_err(|()| DbError::Corrupt {
            table: "findings",
            column: "kind",
            id: key.clone(),
        })?;
        let finding = Finding {
            kind,
            policy: PolicyName::new(policy),
            key,
            upload: upload_id.map(UploadId),
            size: size.and_then(|size| u64::try_from(size).ok()),
            detail,
            found_at: last_seen_at,
        };
        let (first_run, last_run) = (RunId(first_run), RunId(last_run));
        Ok(Self { finding, first_run, first_seen_at, last_run })
    }
}
