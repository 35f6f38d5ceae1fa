//! The bucket's CORS rules. Browsers send a preflight request to the store before they upload.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{CorsConfiguration, CorsRule as SdkRule};
use serde::{Deserialize, Serialize};

use super::S3;
use super::errors::store_error;
use crate::storage::{Result, StoreError};

/// One rule, in the JSON format of S3's tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CorsRule {
    /// For example `https://app.example.com`, or `*`.
    pub allowed_origins: Vec<String>,
    /// For example `PUT`.
    pub allowed_methods: Vec<String>,
    /// The headers that a request may have, or `*`.
    pub allowed_headers: Vec<String>,
    /// The headers of a response that a script may read.
    pub expose_headers: Vec<String>,
    /// How long browsers cache the response to a preflight request, in seconds.
    pub max_age_seconds: i32,
}

impl CorsRule {
    /// The rule for uploads from these origins. The ETag must be readable, because a multipart
    /// upload is completed with it. Clients that send S3's own requests abort a multipart upload by
    /// DELETE.
    pub fn for_uploads(origins: &[String]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            allowed_origins: origins.to_vec(),
            allowed_methods: owned(&["GET", "HEAD", "PUT", "POST", "DELETE"]),
            allowed_headers: owned(&["*"]),
            expose_headers: owned(&["ETag"]),
            max_age_seconds: 3600,
        }
    }
}

impl S3 {
    /// The bucket's rules; empty if it has no configuration.
    pub async fn get_cors(&self) -> Result<Vec<CorsRule>> {
        let response = match self.client.get_bucket_cors().bucket(&self.bucket).send().await {
            Ok(response) => response,
            Err(error) if error.code() == Some("NoSuchCORSConfiguration") => return Ok(Vec::new()),
            Err(error) => return Err(store_error(error)),
        };
        let rule = |rule: &SdkRule| CorsRule {
            allowed_origins: rule.allowed_origins().to_vec(),
            allowed_methods: rule.allowed_methods().to_vec(),
            allowed_headers: rule.allowed_headers().to_vec(),
            expose_headers: rule.expose_headers().to_vec(),
            max_age_seconds: rule.max_age_seconds().unwrap_or_default(),
        };
        Ok(response.cors_rules().iter().map(rule).collect())
    }

    /// Replaces the bucket's rules.
    pub async fn put_cors(&self, rules: &[CorsRule]) -> Result<()> {
        let mut configuration = CorsConfiguration::builder();
        for rule in rules {
            let CorsRule {
                allowed_origins,
                allowed_methods,
                allowed_headers,
                expose_headers,
                max_age_seconds,
            } = rule.clone();
            let rule = SdkRule::builder()
                .set_allowed_origins(Some(allowed_origins))
                .set_allowed_methods(Some(allowed_methods))
                .set_allowed_headers(Some(allowed_headers))
                .set_expose_headers(Some(expose_headers))
                .max_age_seconds(max_age_seconds)
                .build()
                .map_err(invalid)?;
            configuration = configuration.cors_rules(rule);
        }
        let configuration = configuration.build().map_err(invalid)?;
        self.client
            .put_bucket_cors()
            .bucket(&self.bucket)
            .cors_configuration(configuration)
            .send()
            .await
            .map_err(store_error)?;
        Ok(())
    }
}

fn invalid(error: aws_sdk_s3::error::BuildError) -> StoreError {
    StoreError::Refused { code: "InvalidRequest".into(), source: Box::new(error) }
}
