//! Request bodies for upload tokens.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::auth::upload_tokens::NewUploadToken;
use crate::domain::PolicyName;
use crate::domain::policy::FieldErrors;
use crate::domain::subject::SubjectError;
use crate::http::extract::text::{REQUIRED, record_error};

/// A new upload token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUploadToken, example = json!({"policy": "tracks", "expires_in": 900,
    "max_uploads": 1, "max_size": 10_485_760, "metadata": {"form": "42"}}))]
pub struct UploadTokenBody {
    /// The policy of the uploads.
    #[schema(required, value_type = String, example = "tracks")]
    policy: Option<String>,
    /// The lifetime in seconds. The default is one hour. Uploads that were created before the token
    /// expires can continue until their deadline.
    #[schema(minimum = 1, maximum = 2_592_000)]
    expires_in: Option<i64>,
    /// How many uploads the token can create. Cancelled uploads are counted too.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_uploads: Option<u64>,
    /// The largest file in bytes. The policy's `max_size` also applies.
    #[schema(minimum = 1)]
    max_size: Option<u64>,
    /// The subject that each upload is attached to. Without it, the uploads of the token are not
    /// attached, and the client cannot attach them.
    #[schema(
        example = "album:42:cover",
        min_length = 1,
        max_length = 200,
        pattern = "^[A-Za-z0-9._~:@-]+$"
    )]
    attach_to: Option<String>,
    /// Metadata that is added to each upload. It replaces values of the client with the same names.
    metadata: Option<BTreeMap<String, String>>,
    /// Origins whose web pages may use the token as a path prefix, in addition to
    /// `server.cors_origins`.
    #[schema(example = json!(["https://app.example.com"]), max_items = 20)]
    cors_origins: Option<Vec<String>>,
}

impl UploadTokenBody {
    /// Validates the body. Returns the policy and the other properties.
    pub fn parse(self) -> Result<(PolicyName, NewUploadToken), FieldErrors> {
        let Self { policy, expires_in, max_uploads, max_size, attach_to, metadata, cors_origins } =
            self;
        let mut errors = FieldErrors::default();
        let policy = record_error(policy.ok_or_else(|| REQUIRED.to_owned()), "policy", &mut errors);
        let attach_to = attach_to.and_then(|text| {
            let subject = text.parse().map_err(|error: SubjectError| error.to_string());
            record_error(subject, "attach_to", &mut errors)
        });
        errors.into_result()?;
        let new = NewUploadToken {
            expires_in,
            max_uploads,
            max_size,
            attach_to,
            metadata: metadata.unwrap_or_default(),
            cors_origins: cors_origins.unwrap_or_default(),
        };
        Ok((PolicyName::new(policy.unwrap_or_default()), new))
    }
}
