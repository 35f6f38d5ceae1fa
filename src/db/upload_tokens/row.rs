//! Conversion between a row of `upload_tokens` and the domain's token.

use entity::upload_token::Model;

use crate::db::{DbError, Result};
use crate::domain::bearer_token::SecretHash;
use crate::domain::{Owner, PolicyName, Subject, UploadToken, UploadTokenId};

/// The whole row of a token.
pub(super) fn to_row(token: &UploadToken) -> Model {
    let UploadToken {
        id,
        hash,
        owner,
        policy,
        max_uploads,
        uploads,
        max_size,
        attach_to,
        metadata,
        cors_origins,
        created_at,
        expires_at,
        ends_at,
        revoked_at,
    } = token;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Model {
        id: id.0,
        hash: hash.to_hex(),
        owner: owner.as_str().to_owned(),
        policy: policy.as_str().to_owned(),
        max_uploads: max_uploads.map(signed),
        uploads: signed(*uploads),
        max_size: max_size.map(signed),
        attach_to: attach_to.as_ref().map(|subject| subject.as_str().to_owned()),
        metadata: serde_json::json!(metadata),
        cors_origins: serde_json::json!(cors_origins),
        created_at: *created_at,
        expires_at: *expires_at,
        ends_at: *ends_at,
        revoked_at: *revoked_at,
    }
}

impl TryFrom<Model> for UploadToken {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model {
            id,
            hash,
            owner,
            policy,
            max_uploads,
            uploads,
            max_size,
            attach_to,
            metadata,
            cors_origins,
            created_at,
            expires_at,
            ends_at,
            revoked_at,
        } = row;
        let corrupt =
            |column| DbError::Corrupt { table: "upload_tokens", column, id: id.to_string() };
        let unsigned = |column, n: i64| u64::try_from(n).map_err(|_| corrupt(column));
        Ok(Self {
            id: UploadTokenId(id),
            hash: SecretHash::from_hex(&hash).ok_or_else(|| corrupt("hash"))?,
            owner: Owner::named(owner),
            policy: PolicyName::new(policy),
            max_uploads: max_uploads.map(|n| unsigned("max_uploads", n)).transpose()?,
            uploads: unsigned("uploads", uploads)?,
            max_size: max_size.map(|n| unsigned("max_size", n)).transpose()?,
            attach_to: attach_to.map(Subject::stored),
            metadata: serde_json::from_value(metadata).map_err(|_| corrupt("metadata"))?,
            cors_origins: serde_json::from_value(cors_origins)
                .map_err(|_| corrupt("cors_origins"))?,
            created_at,
            expires_at,
            ends_at,
            revoked_at,
        })
    }
}
