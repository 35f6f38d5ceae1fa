//! The operations on a bucket's CORS configuration. `src/cors.rs` applies it.

use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput,
    GetBucketCorsOutput, PutBucketCorsInput, PutBucketCorsOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::error::{StoreError, refuse};
use crate::index::CorsRule;
use crate::store::Store;

const MAX_RULES: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

pub(super) async fn put_bucket_cors(
    store: &Store,
    request: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let PutBucketCorsInput { bucket, cors_configuration, .. } = request.input;
    let rules: Vec<CorsRule> = cors_configuration.cors_rules.into_iter().map(stored).collect();
    if rules.is_empty() || rules.len() > MAX_RULES {
        let message = format!("A CORS configuration has 1 to {MAX_RULES} rules.");
        return Err(refuse(S3ErrorCode::MalformedXML, message));
    }
    let methods = rules.iter().flat_map(|rule| &rule.allowed_methods);
    if let Some(method) = methods.into_iter().find(|m| !METHODS.contains(&m.as_str())) {
        let message = format!("Found unsupported HTTP method in CORS config: {method}");
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    set(store, bucket, Some(rules)).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn get_bucket_cors(
    store: &Store,
    request: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let bucket = request.input.bucket;
    store.index().bucket(&bucket).await?;
    let rules = store.cors(&bucket).ok_or(StoreError::NoSuchCors)?;
    let cors_rules = Some(rules.iter().cloned().map(shown).collect());
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules }))
}

pub(super) async fn delete_bucket_cors(
    store: &Store,
    request: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    set(store, request.input.bucket, None).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}

async fn set(
    store: &Store,
    bucket: String,
    rules: Option<Vec<CorsRule>>,
) -> Result<(), StoreError> {
    let worker = store.clone();
    store
        .commit(async move {
            worker.index().set_cors(&bucket, rules.as_deref()).await?;
            worker.remember_cors(&bucket, rules);
            Ok(())
        })
        .await
}

fn stored(rule: CORSRule) -> CorsRule {
    let CORSRule {
        allowed_headers,
        allowed_methods,
        allowed_origins,
        expose_headers,
        id,
        max_age_seconds,
    } = rule;
    CorsRule {
        id,
        allowed_origins,
        allowed_methods,
        allowed_headers: allowed_headers.unwrap_or_default(),
        expose_headers: expose_headers.unwrap_or_default(),
        max_age_seconds,
    }
}

fn shown(rule: CorsRule) -> CORSRule {
    let CorsRule {
        id,
        allowed_origins,
        allowed_methods,
        allowed_headers,
        expose_headers,
        max_age_seconds,
    } = rule;
    CORSRule {
        allowed_headers: Some(allowed_headers),
        allowed_methods,
        allowed_origins,
        expose_headers: Some(expose_headers),
        id,
        max_age_seconds,
    }
}
