//! Findings of runs. A finding's number combines its shard's number and its place in the shard, so
//! that several processes can write the findings of one run in a stable order.

use entity::reconcile_finding as finding;
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::engine::pool::Engine;
use crate::db::{Cursor, DbError, Page, Result};
use crate::domain::run::{Finding, FindingKind};
use crate::domain::{PolicyName, RunId, UploadId};

/// The order of findings, as named in their cursors.
pub const FINDING_ORDER: &str = "findings:number";

/// Bits of a finding's number that hold its place in the shard: enough for 10^12 findings.
const PLACE_BITS: u32 = 40;

/// Findings in one statement: nine parameters each. PostgreSQL allows 65,535, `SQLite` 32,766.
const CHUNK: usize = 1000;

/// The number of a shard's finding.
pub(super) fn number(shard: i32, place: u64) -> i64 {
    (i64::from(shard) << PLACE_BITS) | i64::try_from(place).unwrap_or(i64::MAX)
}

/// Inserts a shard's findings; `place` is that of the first one.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    id: RunId,
    shard: i32,
    place: u64,
    findings: &[Finding],
) -> Result<()> {
    for (chunk, place) in findings.chunks(CHUNK).zip((place..).step_by(CHUNK)) {
        let rows = chunk.iter().zip(place..).map(|(finding, place)| finding::ActiveModel {
            run_id: Set(id.0),
            number: Set(number(shard, place)),
            kind: Set(finding.kind.name().to_owned()),
            policy: Set(finding.policy.as_str().to_owned()),
            key: Set(finding.key.clone()),
            upload_id: Set(finding.upload.map(|id| id.0)),
            size: Set(finding.size.and_then(|size| i64::try_from(size).ok())),
            detail: Set(finding.detail.clone()),
            found_at: Set(finding.found_at),
        });
        finding::Entity::insert_many(rows).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// What reconciliation runs found.
#[derive(Clone, Copy)]
pub struct Findings<'a>(pub(in crate::db) &'a Engine);

impl Findings<'_> {
    /// Inserts findings of a shard, from `place` on.
    pub async fn create(
        self,
        id: RunId,
        shard: i32,
        place: u64,
        findings: &[Finding],
    ) -> Result<()> {
        insert(&self.0.write, id, shard, place, findings).await
    }

    /// The details of the abandoned multipart uploads that a shard found.
    pub async fn list_multiparts(self, id: RunId, shard: i32) -> Result<Vec<String>> {
        let details: Vec<Option<String>> = finding::Entity::find()
            .select_only()
            .column(finding::Column::Detail)
            .filter(finding::Column::RunId.eq(id.0))
            .filter(finding::Column::Kind.eq(FindingKind::AbandonedMultipart.name()))
            .filter(finding::Column::Number.gte(number(shard, 0)))
            .filter(finding::Column::Number.lt(number(shard + 1, 0)))
            .into_tuple()
            .all(&self.0.read)
            .await?;
        Ok(details.into_iter().flatten().collect())
    }

    /// A page of a run's findings, by shard and in the order they were made.
    pub async fn list(
        self,
        id: RunId,
        kind: Option<FindingKind>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Finding>> {
        let mut query = finding::Entity::find().filter(finding::Column::RunId.eq(id.0));
        if let Some(kind) = kind {
            query = query.filter(finding::Column::Kind.eq(kind.name()));
        }
        if let Some(after) = cursor.and_then(|cursor| cursor.value.parse::<i64>().ok()) {
            query = query.filter(finding::Column::Number.gt(after));
        }
        let rows = query
            .order_by(finding::Column::Number, Order::Asc)
            .limit(limit + 1)
            .all(&self.0.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: FINDING_ORDER.to_owned(),
            value: row.number.to_string(),
            id: row.run_id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }
}

impl TryFrom<finding::Model> for Finding {
    type Error = DbError;

    fn try_from(row: finding::Model) -> Result<Self> {
        let finding::Model { run_id, number, kind, policy, key, upload_id, size, detail, found_at } =
            row;
        let kind = kind.parse().map_err(|()| DbError::Corrupt {
            table: "reconcile_findings",
            column: "kind",
            id: format!("{run_id}/{number}"),
        })?;
        Ok(Self {
            kind,
            policy: PolicyName::new(policy),
            key,
            upload: upload_id.map(UploadId),
            size: size.and_then(|size| u64::try_from(size).ok()),
            detail,
            found_at,
        })
    }
}
