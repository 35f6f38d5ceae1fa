//! Sends the service's own requests: signed, with time limits and retries.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::API_VERSION;
use super::endpoint::Endpoint;
use super::errors::{self, CallError};
use super::shared_key::{AccountKey, string_to_sign};
use super::xml::Element;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::net::{HttpClient, Streamed};
use crate::storage::Result;
use crate::storage::s3::Timeouts;
use crate::storage::s3::clock::{ClockOffset, offset_by};

/// The pause before the second attempt. It doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// The largest body of a response that is read as a whole. A listing of 1,000 blobs with the
/// longest names has less than 8 MiB, and so has a list of 50,000 blocks.
const MAX_BODY: usize = 16 << 20;

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// The account.
    Service,
    /// The container.
    Container,
    /// A blob.
    Blob(&'a str),
}

/// A request of the service.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub method: &'static str,
    pub about: About<'a>,
    /// Names in lower case.
    pub query: Vec<(&'static str, String)>,
    /// Names in lower case.
    pub headers: Vec<(Cow<'static, str>, String)>,
    pub body: Bytes,
    /// Whether the time limits for transfers of bytes apply.
    pub transfers: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'static str, about: About<'a>) -> Self {
        Self {
            method,
            about,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            transfers: false,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value)));
        self
    }

    /// With a body, and the time limits of a transfer.
    pub(super) fn body(self, body: Bytes) -> Self {
        Self { body, transfers: true, ..self }
    }
}

/// The client of one container.
pub(super) struct Client {
    http: HttpClient,
    endpoint: Endpoint,
    key: AccountKey,
    timeouts: Timeouts,
    max_attempts: u32,
    clock_offset: ClockOffset,
    /// Whether a response had a version id, which means that the account has versioning.
    keeps_versions: AtomicBool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(
        endpoint: Endpoint,
        key: AccountKey,
        timeouts: Timeouts,
        max_attempts: u32,
    ) -> Self {
        Self {
            // The longest time limit; `send` has a shorter one for each attempt.
            http: HttpClient::pooled(timeouts.connect, timeouts.transfer_operation),
            endpoint,
            key,
            timeouts,
            max_attempts,
            clock_offset: ClockOffset::default(),
            keeps_versions: AtomicBool::new(false),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn clock_offset(&self) -> &ClockOffset {
        &self.clock_offset
    }

    pub(super) fn keeps_versions(&self) -> bool {
        self.keeps_versions.load(Ordering::Relaxed)
    }

    /// The limit of a pause between two pieces of a body.
    pub(super) fn stalled(&self) -> Duration {
        self.timeouts.stalled
    }

    /// Sends a request, and repeats it after failures that may be temporary. Returns a response
    /// with a status 2xx.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Streamed, CallError> {
        let Timeouts { attempt, operation, transfer_attempt, transfer_operation, .. } =
            self.timeouts;
        let (each, all) = if call.transfers {
            (transfer_attempt, transfer_operation)
        } else {
            (attempt, operation)
        };
        let end = Instant::now() + all;
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            let limit = each.min(end.saturating_duration_since(Instant::now()));
            let sent = match timeout(limit, self.attempt(call)).await {
                Ok(sent) => sent,
                Err(_) => Err(errors::timed_out(limit)),
            };
            let error = match sent {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // Random, so that clients that failed at the same time do not retry at the same time.
            let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            let may_help = error.may_be_temporary() && attempts < self.max_attempts;
            if !may_help || Instant::now() + wait >= end {
                return Err(error);
            }
            sleep(wait).await;
            pause = (pause * 2).min(MAX_PAUSE);
            attempts += 1;
        }
    }

    /// Sends a request and reads the XML of the response.
    pub(super) async fn xml(&self, call: &Call<'_>) -> Result<Element, CallError> {
        let response = self.send(call).await?;
        let response = timeout(self.timeouts.operation, response.read(MAX_BODY)).await;
        let response = response.map_err(|_| errors::timed_out(self.timeouts.operation))?;
        Ok(Element::parse(&response.map_err(errors::not_sent)?.body)?)
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Streamed, CallError> {
        let path = match call.about {
            About::Service => self.endpoint.service_path(),
            About::Container => self.endpoint.container_path(),
            About::Blob(key) => self.endpoint.blob_path(key),
        };
        let query = call.query.iter().map(|(name, value)| (*name, value.as_str()));
        let url = self.endpoint.url(&path, query);
        let headers = self.signed_headers(call, &path);
        let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sent = self.http.stream(call.method, &url, lines, call.body.clone()).await;
        let response = sent.map_err(errors::not_sent)?;
        let offset = response.headers.get("date").and_then(|date| offset_by(date));
        if let Some(offset) = offset {
            self.clock_offset.set(offset);
        }
        if response.headers.contains_key("x-ms-version-id") {
            self.keeps_versions.store(true, Ordering::Relaxed);
        }
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        Err(errors::refused(response, offset).await)
    }

    /// The headers of a request, with its signature. The signature covers the current time, so each
    /// attempt is signed again.
    fn signed_headers(&self, call: &Call<'_>, path: &str) -> BTreeMap<String, String> {
        let now = SystemClock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut headers: BTreeMap<String, String> =
            call.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        headers.insert("x-ms-date".to_owned(), now);
        headers.insert("x-ms-version".to_owned(), API_VERSION.to_owned());
        if call.method == "PUT" {
            headers.insert("content-length".to_owned(), call.body.len().to_string());
        }
        let account = self.endpoint.account();
        let text = string_to_sign(call.method, account, path, &call.query, &headers);
        let signature = self.key.sign(&text);
        headers.insert("authorization".to_owned(), format!("SharedKey {account}:{signature}"));
        headers
    }
}
