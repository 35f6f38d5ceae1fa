//! Lists of an owner's uploads.

use entity::upload::{self, Column};
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::db::Cursor;
use crate::db::engine::pagination::{keyset, no_index};
use crate::domain::{Owner, PolicyName, Status, Subject, Timestamp, UploadTokenId};

/// Filters of a list of uploads. The list is sorted by creation time, newest first.
#[derive(Debug, Default, Clone)]
pub struct UploadFilter {
    /// The status.
    pub status: Option<Status>,
    /// The subject that the uploads are attached to.
    pub subject: Option<Subject>,
    /// The upload token that created the uploads.
    pub token: Option<UploadTokenId>,
    /// The policy.
    pub policy: Option<PolicyName>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// Created at or after this time.
    pub created_after: Option<Timestamp>,
    /// The end of the previous page.
    pub cursor: Option<Cursor>,
    /// The largest number of rows.
    pub limit: u64,
}

/// The name of the order of upload lists, in their cursors.
pub const UPLOAD_ORDER: &str = "uploads:-created_at";

impl UploadFilter {
    /// The statement that reads the page, and one row more.
    pub(super) fn query(&self, owner: &Owner) -> Select<upload::Entity> {
        // A subject or a token has few uploads, so its index is the best one, whatever the other
        // filters are.
        let is_narrow = self.subject.is_some() || self.token.is_some();
        let eq = |column: Column, text: &str| {
            if is_narrow { no_index(column).eq(text) } else { column.eq(text) }
        };
        let mut query = upload::Entity::find();
        query = match self.token {
            None => query.filter(Column::Owner.eq(owner.as_str())),
            Some(token) => query
                .filter(Column::UploadTokenId.eq(token.0))
                .filter(no_index(Column::Owner).eq(owner.as_str())),
        };
        if let Some(status) = self.status {
            query = query.filter(eq(Column::Status, status.name()));
        }
        if let Some(subject) = &self.subject {
            query = query.filter(Column::AttachTo.eq(subject.as_str()));
        }
        if let Some(policy) = &self.policy {
            query = query.filter(eq(Column::Policy, policy.as_str()));
        }
        if let Some(before) = self.created_before {
            query = query.filter(Column::CreatedAt.lt(before));
        }
        if let Some(after) = self.created_after {
            query = query.filter(Column::CreatedAt.gte(after));
        }
        if let Some(cursor) = &self.cursor
            && let Ok(at) = cursor.value.parse::<Timestamp>()
        {
            query = query.filter(keyset(Column::CreatedAt, Column::Id, at.into(), cursor.id, true));
        }
        query
            .order_by(Column::CreatedAt, Order::Desc)
            .order_by(Column::Id, Order::Desc)
            .limit(self.limit + 1)
    }
}
