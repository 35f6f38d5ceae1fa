//! Conversion between a row of `uploads` and the domain's upload.

use entity::upload;
use sea_orm::ActiveValue::Set;
use uuid::Uuid;

use super::verified_before;
use crate::db::{DbError, Result};
use crate::domain::checksum::Checksum;
use crate::domain::inspection::{Annotations, InspectorName};
use crate::domain::subject::Slot;
use crate::domain::upload::{
    Declared, Deletion, Inspecting, ObjectFacts, RemoveReason, State, Verified,
};
use crate::domain::{
    LocationNumber, ObjectKey, Owner, PolicyName, Status, Subject, Upload, UploadId, UploadTokenId,
};

/// The whole row of an upload.
pub(in crate::db) fn to_row(upload: &Upload) -> upload::ActiveModel {
    let Upload {
        id,
        owner,
        token,
        policy,
        location: _,
        slot: _,
        key: _,
        declared: Declared { filename, content_type, size, checksum, max_size },
        strategy,
        write_once,
        metadata,
        url_expires_at: _,
        multipart_id: _,
        part_size,
        state: _,
        detail: _,
        annotations: _,
        deletion: _,
        version,
        created_at,
        updated_at: _,
    } = upload;
    upload::ActiveModel {
        id: Set(id.0),
        owner: Set(owner.as_str().to_owned()),
        policy: Set(policy.as_str().to_owned()),
        upload_token_id: Set(token.map(|token| token.0)),
        max_size: Set(max_size.map(to_signed)),
        filename: Set(filename.clone()),
        declared_content_type: Set(content_type.clone()),
        declared_size: Set(size.map(to_signed)),
        declared_checksum_algorithm: Set(checksum
            .as_ref()
            .map(|c| c.algorithm().name().to_owned())),
        declared_checksum: Set(checksum.as_ref().map(Checksum::value)),
        strategy: Set(strategy.name().to_owned()),
        write_once: Set(*write_once),
        part_size: Set(part_size.map(to_signed)),
        metadata: Set(serde_json::json!(metadata)),
        version: Set(*version),
        created_at: Set(*created_at),
        ..to_change(upload)
    }
}

/// The columns that a transition may change. The caller sets the version.
pub(super) fn to_change(upload: &Upload) -> upload::ActiveModel {
    let reason = upload.state.reason().map(str::to_owned);
    let (mut confirmed_by, mut late, mut uploaded_at) = (None, false, None);
    if let Some(arrived) = upload.state.arrived() {
        confirmed_by = Some(arrived.confirmed_by.name().to_owned());
        late = arrived.late;
        uploaded_at = Some(arrived.at);
    }
    let waiting_for = match &upload.state {
        State::Inspecting(inspecting) => Some(join(&inspecting.waiting_for)),
        _ => None,
    };
    let annotations =
        (!upload.annotations.is_empty()).then(|| serde_json::json!(upload.annotations).to_string());
    let before = match &upload.state {
        State::Rejected { verified, .. } => verified.as_ref().map(verified_before::to_text),
        _ => None,
    };
    let facts = upload.state.facts();
    let checksum = facts.and_then(|facts| facts.checksum.as_ref());
    upload::ActiveModel {
        location: Set(upload.location.0),
        key: Set(upload.key.as_str().to_owned()),
        attach_to: Set(upload.subject().map(|subject| subject.as_str().to_owned())),
        attach_sequence: Set(upload.slot.as_ref().map(|slot| slot.sequence)),
        url_expires_at: Set(upload.url_expires_at),
        multipart_id: Set(upload.multipart_id.clone()),
        status: Set(upload.status().name().to_owned()),
        reason: Set(reason),
        confirmed_by: Set(confirmed_by),
        late: Set(late),
        etag: Set(facts.map(|facts| facts.etag.clone())),
        version_id: Set(facts.and_then(|facts| facts.version_id.clone())),
        size: Set(facts.map(|facts| to_signed(facts.size))),
        content_type: Set(facts.and_then(|facts| facts.content_type.clone())),
        checksum_algorithm: Set(checksum.map(|c| c.algorithm().name().to_owned())),
        checksum: Set(checksum.map(Checksum::value)),
        verified_before: Set(before),
        uploaded_at: Set(uploaded_at),
        object_delete_after: Set(upload.deletion.after),
        object_deleted_at: Set(upload.deletion.done),
        detail: Set(upload.detail.clone()),
        annotations: Set(annotations),
        waiting_for: Set(waiting_for),
        updated_at: Set(upload.updated_at),
        ..Default::default()
    }
}

/// The names of inspectors in one text. No name has a comma.
fn join(names: &[InspectorName]) -> String {
    let names: Vec<&str> = names.iter().map(InspectorName::as_str).collect();
    names.join(",")
}

fn to_signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Converts the columns of a row; each error names its column.
struct Reader(Uuid);

impl Reader {
    fn bad(&self, column: &'static str) -> DbError {
        DbError::Corrupt { table: "uploads", column, id: self.0.to_string() }
    }

    fn need<T>(&self, column: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.bad(column))
    }

    fn parse<T: std::str::FromStr>(&self, column: &'static str, text: &str) -> Result<T> {
        text.parse().map_err(|_| self.bad(column))
    }

    fn size(&self, column: &'static str, value: i64) -> Result<u64> {
        u64::try_from(value).map_err(|_| self.bad(column))
    }

    fn optional_size(&self, column: &'static str, value: Option<i64>) -> Result<Option<u64>> {
        value.map(|value| self.size(column, value)).transpose()
    }

    fn checksum(
        &self,
        column: &'static str,
        algorithm: Option<String>,
        value: Option<String>,
    ) -> Result<Option<Checksum>> {
        match (algorithm, value) {
            (None, None) => Ok(None),
            (Some(algorithm), Some(value)) => {
                let algorithm = self.parse(column, &algorithm)?;
                Checksum::parse(algorithm, &value).map(Some).map_err(|_| self.bad(column))
            }
            _ => Err(self.bad(column)),
        }
    }
}

/// The columns of a row that describe the object.
struct Seen {
    etag: Option<String>,
    version_id: Option<String>,
    size: Option<i64>,
    content_type: Option<String>,
    checksum: Option<Checksum>,
}

impl Seen {
    fn facts(self, reader: &Reader) -> Result<ObjectFacts> {
        Ok(ObjectFacts {
            etag: reader.need("etag", self.etag)?,
            version_id: self.version_id,
            size: reader.size("size", reader.need("size", self.size)?)?,
            content_type: self.content_type,
            checksum: self.checksum,
        })
    }
}

fn to_slot((subject, sequence): (String, i64)) -> Slot {
    Slot { subject: Subject::stored(subject), sequence }
}

impl TryFrom<upload::Model> for Upload {
    type Error = DbError;

    #[expect(clippy::too_many_lines, reason = "one line for each column")]
    fn try_from(row: upload::Model) -> Result<Self> {
        let upload::Model {
            id,
            owner,
            policy,
            location,
            upload_token_id,
            max_size,
            attach_to,
            attach_sequence,
            key,
            filename,
            declared_content_type,
            declared_size,
            declared_checksum_algorithm,
            declared_checksum,
            strategy,
            write_once,
            metadata,
            url_expires_at,
            multipart_id,
            part_size,
            status,
            reason,
            confirmed_by,
            late,
            etag,
            version_id,
            size,
            content_type,
            checksum_algorithm,
            checksum,
            verified_before,
            uploaded_at,
            object_delete_after,
            object_deleted_at,
            detail,
            annotations,
            waiting_for,
            version,
            created_at,
            updated_at,
        } = row;
        let reader = Reader(id);
        let checksum = reader.checksum("checksum", checksum_algorithm, checksum)?;
        let declared_sum = (declared_checksum_algorithm, declared_checksum);
        let declared_sum = reader.checksum("declared_checksum", declared_sum.0, declared_sum.1)?;
        let has_object = etag.is_some();
        let seen = Seen { etag, version_id, size, content_type, checksum };
        let verified = |seen: Seen| -> Result<Verified> {
            let confirmed_by = reader.need("confirmed_by", confirmed_by)?;
            Ok(Verified {
                facts: seen.facts(&reader)?,
                confirmed_by: reader.parse("confirmed_by", &confirmed_by)?,
                late,
                at: reader.need("uploaded_at", uploaded_at)?,
            })
        };
        let state = match reader.parse::<Status>("status", &status)? {
            Status::Pending => State::Pending,
            Status::Expired => State::Expired,
            Status::Inspecting => {
                let names = reader.need("waiting_for", waiting_for)?;
                let waiting_for = names.split(',').map(InspectorName::new).collect();
                State::Inspecting(Inspecting { arrived: verified(seen)?, waiting_for })
            }
            Status::Cancelled => State::Cancelled,
            Status::Uploaded => State::Uploaded(verified(seen)?),
            Status::Missing => State::Missing(verified(seen)?),
            Status::Rejected => {
                let reason = reader.need("reason", reason)?;
                let reason = reader.parse("reason", &reason)?;
                let before = verified_before.map(|text| verified_before::parse(&text));
                let before = before.map(|before| before.ok_or(reader.bad("verified_before")));
                let verified = before.transpose()?;
                State::Rejected { reason, facts: seen.facts(&reader)?, verified }
            }
            Status::Removed => {
                let reason = reader.need("reason", reason)?;
                let reason: RemoveReason = reader.parse("reason", &reason)?;
                let verified = if has_object { Some(verified(seen)?) } else { None };
                State::Removed { reason, verified }
            }
        };
        Ok(Self {
            id: UploadId(id),
            owner: Owner::named(owner),
            token: upload_token_id.map(UploadTokenId),
            policy: PolicyName::new(policy),
            location: LocationNumber(location),
            slot: attach_to.zip(attach_sequence).map(to_slot),
            key: ObjectKey::stored(key),
            declared: Declared {
                filename,
                content_type: declared_content_type,
                size: reader.optional_size("declared_size", declared_size)?,
                checksum: declared_sum,
                max_size: reader.optional_size("max_size", max_size)?,
            },
            strategy: reader.parse("strategy", &strategy)?,
            write_once,
            metadata: serde_json::from_value(metadata).map_err(|_| reader.bad("metadata"))?,
            url_expires_at,
            multipart_id,
            part_size: reader.optional_size("part_size", part_size)?,
            state,
            detail,
            annotations: match annotations {
                Some(text) => serde_json::from_str(&text).map_err(|_| reader.bad("annotations"))?,
                None => Annotations::new(),
            },
            deletion: Deletion { after: object_delete_after, done: object_deleted_at },
            version,
            created_at,
            updated_at,
        })
    }
}
