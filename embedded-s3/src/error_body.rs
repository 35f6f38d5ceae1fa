//! Completes the bodies of errors: `s3s` omits the message of some errors, and does not know the id
//! of the request or the bucket's region.

use std::fmt::Write as _;

use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, Collected};
use s3s::{Body, HttpResponse};

/// The bucket's region, for the error about a request that was signed for another region.
pub(crate) const REGION: &str = "x-amz-bucket-region";

/// Adds the missing elements of an error. Other responses do not change.
pub(crate) async fn complete(response: HttpResponse, request_id: &str) -> HttpResponse {
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let region = parts.headers.get(REGION).and_then(|region| region.to_str().ok());
    let completed = std::str::from_utf8(&bytes).ok().and_then(|xml| add(xml, region, request_id));
    let body = match completed {
        Some(xml) => Body::from(xml),
        None => Body::from(bytes),
    };
    parts.headers.remove(CONTENT_LENGTH);
    HttpResponse::from_parts(parts, body)
}

fn add(xml: &str, region: Option<&str>, request_id: &str) -> Option<String> {
    let (before, remaining) = xml.split_once("<Code>")?;
    let (code, after) = remaining.split_once("</Code>")?;
    let mut out = format!("{before}<Code>{code}</Code>");
    if !after.contains("<Message>") {
        let _ = write!(out, "<Message>{}</Message>", message(code));
    }
    if let Some(region) = region {
        let _ = write!(out, "<Region>{region}</Region>");
    }
    if !after.contains("<RequestId>") {
        let _ = write!(out, "<RequestId>{request_id}</RequestId>");
    }
    out.push_str(after);
    Some(out)
}

/// S3's message for the codes that `s3s` uses without one.
fn message(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header."
        }
        "InternalError" => "We encountered an internal error. Please try again.",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidRange" => "The requested range is not satisfiable.",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long.",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published \
             schema."
        }
        "MaxMessageLengthExceeded" => "Your request was too big.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "MissingRequestBodyError" => "Request body is empty.",
        "NotImplemented" => "The request implies functionality that is not implemented.",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check \
             your key and signing method."
        }
        _ => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_values_are_kept_and_missing_ones_are_added() {
        let bare = "<Error><Code>InvalidURI</Code></Error>";
        assert_eq!(
            add(bare, Some("eu-west-1"), "ID").unwrap(),
            "<Error><Code>InvalidURI</Code><Message>Couldn't parse the specified URI.</Message>\
             <Region>eu-west-1</Region><RequestId>ID</RequestId></Error>"
        );
        let whole = "<Error><Code>X</Code><Message>m</Message><RequestId>1</RequestId></Error>";
        assert_eq!(add(whole, None, "ID").unwrap(), whole);
        assert_eq!(add("", None, "ID"), None);
    }
}
