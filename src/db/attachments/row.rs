//! Conversion from a row of `attachments` to the domain's attachment.

use entity::attachment;
use uuid::Uuid;

use crate::db::{DbError, Result};
use crate::domain::attachment::{Current, EMPTY};
use crate::domain::{Attachment, Owner, Subject, UploadId};

/// The current upload of a row.
pub(super) fn current_of(row: &attachment::Model) -> Result<Option<Current>> {
    match (row.current_upload_id, row.current_sequence) {
        (None, None) => Ok(None),
        (Some(upload), Some(sequence)) => Ok(Some(Current { upload: UploadId(upload), sequence })),
        _ => Err(corrupt("current_sequence", row.id)),
    }
}

fn corrupt(column: &'static str, id: Uuid) -> DbError {
    DbError::Corrupt { table: "attachments", column, id: id.to_string() }
}

impl TryFrom<attachment::Model> for Attachment {
    type Error = DbError;

    fn try_from(row: attachment::Model) -> Result<Self> {
        let current = current_of(&row)?;
        let attachment::Model {
            id,
            owner,
            subject,
            status,
            next_sequence: _,
            latest_upload_id,
            current_upload_id: _,
            current_sequence: _,
            version: _,
            created_at: _,
            updated_at,
        } = row;
        let status = match status.as_str() {
            EMPTY => None,
            name => Some(name.parse().map_err(|()| corrupt("status", id))?),
        };
        Ok(Self {
            owner: Owner::named(owner),
            subject: Subject::stored(subject),
            latest_upload: latest_upload_id.map(UploadId),
            current,
            status,
            updated_at,
        })
    }
}
