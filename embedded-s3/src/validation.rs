//! Requests that S3 refuses before it checks the signature, and that `s3s` does not refuse.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use s3s::{S3Error, S3ErrorCode, S3Result};
use url::form_urlencoded;

use crate::error::refuse;
use crate::error_body::REGION;

/// S3's limit of the lifetime of a presigned request: seven days.
const MAX_EXPIRES: u32 = 604_800;

/// Where the signature of a request is.
#[derive(Debug)]
enum Signed {
    /// In the query.
    Query { signed_headers: String, credential: String, expires: Option<String> },
    /// In the `Authorization` header.
    Header { signed_headers: String, credential: String },
    /// In a form, or the request has no signature. `s3s` handles these.
    Elsewhere,
}

pub(crate) fn check(parts: &Parts, region: &str) -> S3Result<()> {
    let (signed_headers, credential, code) = match read(parts)? {
        Signed::Elsewhere => return Ok(()),
        Signed::Header { signed_headers, credential } => {
            (signed_headers, credential, S3ErrorCode::AuthorizationHeaderMalformed)
        }
        Signed::Query { signed_headers, credential, expires } => {
            check_expires(expires.as_deref())?;
            (signed_headers, credential, S3ErrorCode::AuthorizationQueryParametersError)
        }
    };
    check_scope(&credential, region, code)?;
    check_headers(&parts.headers, &signed_headers)
}

/// Refuses a write with a condition.
pub(crate) fn refuse_conditions(parts: &Parts) -> S3Result<()> {
    let is_write = matches!(parts.method, Method::PUT | Method::POST);
    let has = |name: HeaderName| is_write && parts.headers.contains_key(name);
    if has(IF_NONE_MATCH) || has(IF_MATCH) {
        let message = "A header you provided implies functionality that is not implemented.";
        return Err(refuse(S3ErrorCode::NotImplemented, message));
    }
    Ok(())
}

fn read(parts: &Parts) -> S3Result<Signed> {
    let query = parts.uri.query().unwrap_or_default();
    let parameter = |expected: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == expected)
            .map(|(_, value)| value.into_owned())
    };
    let authorization =
        parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_query = parameter("X-Amz-Signature").is_some();
    if in_query && authorization.is_some() {
        return Err(refuse(
            S3ErrorCode::InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the \
             Authorization header should be specified",
        ));
    }
    if parameter("Signature").is_some() || authorization.is_some_and(|a| a.starts_with("AWS ")) {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use \
             AWS4-HMAC-SHA256.",
        ));
    }
    if in_query {
        return Ok(Signed::Query {
            signed_headers: parameter("X-Amz-SignedHeaders").unwrap_or_default(),
            credential: parameter("X-Amz-Credential").unwrap_or_default(),
            expires: parameter("X-Amz-Expires"),
        });
    }
    let Some(authorization) = authorization else { return Ok(Signed::Elsewhere) };
    let field = |name: &str| {
        authorization
            .split([',', ' '])
            .find_map(|part| part.trim().strip_prefix(name))
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Signed::Header { signed_headers: field("SignedHeaders="), credential: field("Credential=") })
}

fn check_expires(expires: Option<&str>) -> S3Result<()> {
    let problem = match expires.map(str::parse::<i64>) {
        None => "X-Amz-Expires is missing".to_owned(),
        Some(Err(_)) => "X-Amz-Expires should be a number".to_owned(),
        Some(Ok(n)) if n < 0 => "X-Amz-Expires must be non-negative".to_owned(),
        Some(Ok(n)) if n > i64::from(MAX_EXPIRES) => {
            format!("X-Amz-Expires must be less than a week (in seconds); that is {MAX_EXPIRES}")
        }
        Some(Ok(_)) => return Ok(()),
    };
    Err(refuse(S3ErrorCode::AuthorizationQueryParametersError, problem))
}

fn check_scope(credential: &str, region: &str, code: S3ErrorCode) -> S3Result<()> {
    let mut scope = credential.rsplit('/');
    let (terminal, service, actual) = (scope.next(), scope.next(), scope.next());
    if terminal != Some("aws4_request") || service != Some("s3") {
        return Err(refuse(code, "The credential's scope should end in \"s3/aws4_request\"."));
    }
    if actual != Some(region) {
        let actual = actual.unwrap_or_default();
        let message = format!("The region '{actual}' is wrong; expecting '{region}'");
        let mut error = refuse(code, message);
        // Clients repeat the request with this region.
        if let Ok(region) = HeaderValue::from_str(region) {
            error.set_headers(HeaderMap::from_iter([(HeaderName::from_static(REGION), region)]));
        }
        return Err(error);
    }
    Ok(())
}

fn check_headers(headers: &HeaderMap, signed: &str) -> S3Result<()> {
    let is_signed = |name: &str| signed.split(';').any(|s| s == name);
    let unsigned: Vec<&str> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| name.starts_with("x-amz-") && !is_signed(name))
        .collect();
    if !unsigned.is_empty() || !is_signed("host") {
        return Err(unsigned_error(&unsigned));
    }
    Ok(())
}

fn unsigned_error(names: &[&str]) -> S3Error {
    let what = if names.is_empty() { "host".to_owned() } else { names.join(", ") };
    refuse(
        S3ErrorCode::AccessDenied,
        format!("There were headers present in the request which were not signed: {what}"),
    )
}
