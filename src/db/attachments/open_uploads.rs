//! Uploads of a subject that are not in a final state.

use entity::upload;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};

use crate::db::Result;
use crate::domain::{Owner, Status, Subject};

/// Whether one of a subject's uploads is not in a final state.
pub(in crate::db) async fn has_open_uploads(
    txn: &DatabaseTransaction,
    owner: &Owner,
    subject: &Subject,
) -> Result<bool> {
    let ended = Status::ALL.into_iter().filter(|status| status.is_final()).map(Status::name);
    let open = upload::Entity::find()
        .filter(upload::Column::Owner.eq(owner.as_str()))
        .filter(upload::Column::AttachTo.eq(subject.as_str()))
        .filter(upload::Column::Status.is_not_in(ended))
        .limit(1);
    Ok(open.one(txn).await?.is_some())
}
