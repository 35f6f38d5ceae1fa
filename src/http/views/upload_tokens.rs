//! Upload tokens.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::upload_tokens::IssuedToken;
use crate::domain::UploadToken;

/// An upload token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UploadToken)]
pub struct UploadTokenView {
    /// The id, which is also part of the token.
    pub id: Uuid,
    /// The policy of its uploads.
    #[schema(example = "tracks")]
    pub policy: String,
    /// When it expires. From then on it creates no uploads. Uploads that it already created can
    /// continue until their deadline.
    pub expires_at: DateTime<Utc>,
    /// How many uploads it can create. Null means no limit.
    #[schema(required)]
    pub max_uploads: Option<u64>,
    /// How many uploads it has created, including cancelled ones.
    pub uploads: u64,
    /// The largest file in bytes. Null means the policy's limit.
    #[schema(required)]
    pub max_size: Option<u64>,
    /// The subject that its uploads are attached to.
    #[schema(required, example = "album:42:cover")]
    pub attach_to: Option<String>,
    /// Metadata that is added to each of its uploads.
    pub metadata: BTreeMap<String, String>,
    /// Origins whose web pages may use it as a path prefix, in addition to the configured origins.
    pub cors_origins: Vec<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was revoked.
    #[schema(required)]
    pub revoked_at: Option<DateTime<Utc>>,
}

impl From<UploadToken> for UploadTokenView {
    fn from(token: UploadToken) -> Self {
        let UploadToken {
            id,
            hash: _,
            owner: _,
            policy,
            max_uploads,
            uploads,
            max_size,
            attach_to,
            metadata,
            cors_origins,
            created_at,
            expires_at,
            ends_at: _,
            revoked_at,
        } = token;
        Self {
            id: id.0,
            policy: policy.as_str().to_owned(),
            expires_at,
            max_uploads,
            uploads,
            max_size,
            attach_to: attach_to.map(|subject| subject.to_string()),
            metadata,
            cors_origins,
            created_at,
            revoked_at,
        }
    }
}

/// A new upload token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IssuedUploadToken)]
pub struct IssuedTokenView {
    /// The token. It is not shown again.
    #[schema(example = "upt_0190a6f27b3c7def8123456789abcdef_...")]
    pub token: String,
    /// Its properties.
    #[serde(flatten)]
    pub properties: UploadTokenView,
}

impl From<IssuedToken> for IssuedTokenView {
    fn from(issued: IssuedToken) -> Self {
        let IssuedToken { token, text } = issued;
        Self { token: text.expose_secret().to_owned(), properties: token.into() }
    }
}
