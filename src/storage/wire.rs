//! HTTP as a client of the store sees it: what [`super::probe`] sends signed requests with.
//!
//! It is the AWS SDK's own connector, because that is in the binary anyway, TLS included.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;

use super::presign::Signed;
use super::{Result, Source, StoreError};

/// Many servers close idle connections after 20 to 75 s; closing first saves the requests
/// that would meet a connection being closed.
const IDLE: Duration = Duration::from_secs(15);

/// No answer to a probe is longer than an error page.
const MAX_ANSWER: usize = 64 * 1024;

const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// The HTTP client of all stores: rustls with the system's roots, connections kept and
/// shared.
pub fn http_client() -> SharedHttpClient {
    Builder::new().pool_idle_timeout(IDLE).tls_provider(TLS).build_https()
}

/// Sends requests that are signed already, or not at all.
#[derive(Debug)]
pub struct Wire(Connector);

/// A store's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Cut at 64 KiB.
    pub body: Bytes,
}

impl Answer {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// 4xx: the store said no, as against being in trouble.
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// The text between the first `<tag>` and its end: enough for the few flat answers read
    /// here.
    pub fn xml(&self, tag: &str) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        rest.split_once("</").map(|(text, _)| text.to_owned())
    }

    /// Status and S3's error code, for people.
    pub fn summary(&self) -> String {
        match self.xml("Code") {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new(Duration::from_secs(20))
    }
}

impl Wire {
    /// `timeout` is for one request, up to the answer's headers; connecting takes 3 s at most.
    pub fn new(timeout: Duration) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(timeout)
            .build();
        let connector = Connector::builder().connector_settings(settings);
        Self(connector.tls_provider(TLS).build())
    }

    /// Over a connector of its own kind.
    pub(super) fn over(connector: Connector) -> Self {
        Self(connector)
    }

    /// Sends a signed request with its headers and a body of its own.
    pub async fn send(&self, signed: &Signed, body: Bytes) -> Result<Answer> {
        let headers = signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        self.request(signed.method, &signed.url, headers, body).await
    }

    /// Sends any request. Host and content-length are set from the URL and the body.
    pub async fn request<'a>(
        &self,
        method: &str,
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(SdkBody::from(body)).map_err(invalid)?;
        let request = HttpRequest::try_from(request).map_err(invalid)?;
        let answer = self.0.call(request).await.map_err(unavailable)?;
        let headers = answer.headers().iter();
        let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        let status = answer.status().as_u16();
        let mut stream = ByteStream::new(answer.into_body());
        let mut body = Vec::new();
        while body.len() < MAX_ANSWER {
            let Some(chunk) = stream.try_next().await.map_err(unavailable)? else { break };
            body.extend_from_slice(&chunk);
        }
        body.truncate(MAX_ANSWER);
        Ok(Answer { status, headers, body: body.into() })
    }
}

fn unavailable(error: impl Into<Source>) -> StoreError {
    StoreError::Unavailable(error.into())
}

fn invalid(error: impl Into<Source>) -> StoreError {
    StoreError::Refused { code: "InvalidRequest".into(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    const ERROR: &str = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>\
        <UploadId>a&amp;b</UploadId></Error>";

    fn answer(body: Vec<u8>) -> Answer {
        Answer { status: 403, headers: BTreeMap::new(), body: body.into() }
    }

    #[test]
    fn the_code_of_an_error_is_read() {
        assert_eq!(answer(ERROR.into()).summary(), "403 AccessDenied");
        assert_eq!(answer(vec![0xff]).summary(), "403");
    }

    proptest! {
        #[test]
        fn a_spoiled_answer_has_the_text_of_a_tag_or_none(
            body in prop_oneof![mutated(Just(ERROR)), prop::collection::vec(any::<u8>(), 0..60)],
        ) {
            let answer = answer(body.clone());
            if let Some(text) = answer.xml("Code") {
                let body = String::from_utf8(body).expect("text");
                let element = format!("<Code>{text}</");
                prop_assert!(body.contains(&element));
                prop_assert!(!text.contains("</"));
            }
        }
    }
}
