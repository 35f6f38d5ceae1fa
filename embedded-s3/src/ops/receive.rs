//! Receives a body: writes it to a file, counts and hashes the bytes, and compares the results with
//! the declared values.

use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders};

use crate::checksum::{Algorithm, Kind, Sum, bad_digest, parse_md5};
use crate::error::{refuse, refuse_as};
use crate::spool::{Finished, Spool, Verified};
use crate::store::Store;

/// The largest body of a PUT, a part or a copy, in bytes.
pub(super) const MAX_BODY: u64 = 5 * 1024 * 1024 * 1024;

/// The declared values of a body.
pub(super) struct DeclaredBody {
    pub length: Option<u64>,
    pub md5: Option<String>,
    pub sum: Option<(Algorithm, String)>,
    /// The algorithm of a checksum that follows the body.
    pub trailer: Option<Algorithm>,
    /// The algorithm to use if the request declares none.
    pub default: Algorithm,
}

impl DeclaredBody {
    /// Reads the headers that `s3s` does not parse. Refuses a request that names an algorithm
    /// without a value.
    pub(super) fn new(
        headers: &HeaderMap,
        length: Option<i64>,
        md5: Option<&str>,
        sum: Option<(Algorithm, String)>,
        default: Algorithm,
    ) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let trailers = text("x-amz-trailer").unwrap_or_default();
        let trailer = Algorithm::ALL.into_iter().find(|algorithm| {
            trailers.split(',').any(|name| name.trim().eq_ignore_ascii_case(algorithm.header()))
        });
        if let Some((algorithm, value)) = &sum {
            algorithm.check_value(value)?;
        }
        if let Some(name) = text("x-amz-sdk-checksum-algorithm") {
            let named = Algorithm::parse(name)?;
            match sum.as_ref().map(|(algorithm, _)| *algorithm).or(trailer) {
                None => {
                    return Err(refuse(
                        S3ErrorCode::InvalidRequest,
                        "x-amz-sdk-checksum-algorithm specified, but no corresponding \
                         x-amz-checksum-* or x-amz-trailer headers were found.",
                    ));
                }
                Some(given) if given != named => {
                    return Err(refuse(
                        S3ErrorCode::InvalidRequest,
                        "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                    ));
                }
                Some(_) => {}
            }
        }
        let length = match length.map(u64::try_from) {
            None => None,
            Some(Ok(length)) if length <= MAX_BODY => Some(length),
            Some(Ok(_)) => return Err(too_large()),
            Some(Err(_)) => {
                let message = "Content-Length must not be negative.";
                return Err(refuse(S3ErrorCode::InvalidArgument, message));
            }
        };
        let md5 = md5.map(parse_md5).transpose()?;
        Ok(Self { length, md5, sum, trailer, default })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.sum.as_ref().map(|(algorithm, _)| *algorithm).or(self.trailer).unwrap_or(self.default)
    }

    /// Whether the client declared a checksum.
    pub(super) fn names_sum(&self) -> bool {
        self.sum.is_some() || self.trailer.is_some()
    }
}

/// The length of a body, which must be declared. A client that streams an aws-chunked body sends no
/// `Content-Length`, but the length of the content in the chunks.
pub(super) fn body_length(headers: &HeaderMap, content_length: Option<i64>) -> S3Result<i64> {
    let decoded = headers.get("x-amz-decoded-content-length").and_then(|value| value.to_str().ok());
    content_length.or_else(|| decoded?.parse().ok()).ok_or_else(|| {
        let message = "You must provide the Content-Length HTTP header.";
        refuse(S3ErrorCode::MissingContentLength, message)
    })
}

/// A received body that matches the declared values.
pub(super) struct Received {
    pub file: Verified,
    pub md5: String,
    pub sum: Sum,
}

pub(super) async fn receive(
    store: &Store,
    body: Option<StreamingBlob>,
    declared: DeclaredBody,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Received> {
    let algorithm = declared.algorithm();
    let mut spool = Spool::create(store.blobs(), algorithm.hasher()).await?;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            spool.push(chunk.map_err(|error| body_error(&error))?).await?;
            if spool.len() > declared.length.unwrap_or(MAX_BODY) {
                return Err(if declared.length.is_some() { incomplete() } else { too_large() });
            }
        }
    }
    if declared.length.is_some_and(|length| length != spool.len()) {
        return Err(incomplete());
    }
    let mut expected = declared.sum;
    if let Some(trailer) = declared.trailer {
        let value = trailers
            .and_then(|trailers| {
                trailers.read(|map| {
                    map.get(trailer.header()).and_then(|v| v.to_str().ok()).map(str::to_owned)
                })
            })
            .flatten()
            .ok_or_else(|| {
                let message = "The trailer that x-amz-trailer announces is missing.";
                refuse_as("MalformedTrailerError", StatusCode::BAD_REQUEST, message)
            })?;
        trailer.check_value(&value)?;
        expected = Some((trailer, value));
    }
    let (file, finished) = spool.finish().await?;
    verify(&finished, declared.md5.as_deref(), expected.as_ref())?;
    let sum = Sum { algorithm, kind: Kind::FullObject, value: finished.sum(algorithm) };
    Ok(Received { file, md5: finished.md5, sum })
}

fn verify(found: &Finished, md5: Option<&str>, sum: Option<&(Algorithm, String)>) -> S3Result<()> {
    if md5.is_some_and(|md5| md5 != found.md5) {
        return Err(bad_digest("Content-MD5"));
    }
    if let Some((algorithm, value)) = sum
        && *value != found.sum(*algorithm)
    {
        return Err(bad_digest(algorithm.name()));
    }
    Ok(())
}

fn too_large() -> S3Error {
    let message = "Your proposed upload exceeds the maximum allowed size.";
    refuse(S3ErrorCode::EntityTooLarge, message)
}

fn incomplete() -> S3Error {
    refuse(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

/// The S3 error for an error of the body's stream. The error types of `s3s` are private, so the
/// error's text is compared.
fn body_error(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let message =
            "The provided 'x-amz-content-sha256' header does not match what was computed.";
        return refuse_as("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, message);
    }
    if text.contains("SignatureMismatch") {
        let message = "The signature of a chunk does not match.";
        return refuse(S3ErrorCode::SignatureDoesNotMatch, message);
    }
    if text.contains("FormatError") || text.contains("TooLarge") || text.contains("TooMany") {
        let message = "The aws-chunked body is malformed.";
        return refuse(S3ErrorCode::InvalidRequest, message);
    }
    incomplete()
}
