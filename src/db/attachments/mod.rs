//! Attachments: which uploads are a subject's newest and current ones. [`locked_subjects`] is the
//! only writer; creation and transitions use it in their transactions.

use std::collections::BTreeMap;

use entity::attachment::{self, Column};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::engine::pool::Engine;
use super::{Cursor, Page, Result};
use crate::domain::{Attachment, Owner, Subject};

pub(super) mod locked_subjects;
pub(super) mod open_uploads;
mod retention;
mod row;

use locked_subjects::LockedSubjects;
use open_uploads::has_open_uploads;

/// The name of the order of attachment lists, in their cursors.
pub const ATTACHMENT_ORDER: &str = "attachments:subject";

/// Which attachments to list, in the order of their subjects.
#[derive(Debug, Default, Clone)]
pub struct AttachmentFilter {
    /// Only subjects with this prefix; an empty prefix means all.
    pub prefix: String,
    /// The end of the previous page.
    pub cursor: Option<Cursor>,
    /// The largest number of rows.
    pub limit: u64,
}

/// Attachments.
#[derive(Clone, Copy)]
pub struct Attachments<'a>(pub(in crate::db) &'a Engine);

impl Attachments<'_> {
    /// The attachment of a subject; `None` if the subject has no upload.
    pub async fn find(self, owner: &Owner, subject: &Subject) -> Result<Option<Attachment>> {
        let row = attachment::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::Subject.eq(subject.as_str()))
            .filter(Column::LatestUploadId.is_not_null())
            .one(&self.0.read)
            .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// A page of an owner's attachments.
    pub async fn list(self, owner: &Owner, filter: &AttachmentFilter) -> Result<Page<Attachment>> {
        let mut query = attachment::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::LatestUploadId.is_not_null())
            .order_by_asc(Column::Subject)
            .limit(filter.limit + 1);
        if !filter.prefix.is_empty() {
            // The last code point sorts after everything that begins with the prefix.
            let until = format!("{}{}", filter.prefix, char::MAX);
            query = query.filter(Column::Subject.between(filter.prefix.clone(), until));
        }
        if let Some(cursor) = &filter.cursor {
            query = query.filter(Column::Subject.gt(cursor.value.as_str()));
        }
        let rows = self.0.read_page(query).await?;
        let page = Page::cut(rows, filter.limit, |row| Cursor {
            order: ATTACHMENT_ORDER.to_owned(),
            value: row.subject.clone(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Removes the newest and the current upload from a subject. Its row stays, so that later
    /// uploads continue its sequence numbers. Changes nothing and returns `false` if one of its
    /// uploads is not in a final state.
    pub async fn clear(self, owner: &Owner, subject: &Subject) -> Result<bool> {
        let txn = self.0.begin().await?;
        let to_lock = BTreeMap::from([((owner.as_str(), subject), None)]);
        let mut locked = LockedSubjects::lock(&txn, self.0.is_postgres(), to_lock).await?;
        if has_open_uploads(&txn, owner, subject).await? {
            txn.rollback().await?;
            return Ok(false);
        }
        if let Some(row) = locked.get_mut(owner, subject) {
            row.clear();
        }
        locked.save(&txn).await?;
        txn.commit().await?;
        Ok(true)
    }
}
