//! Finds out what a store does by doing it: real signed requests through the public
//! endpoint, wrong ones among them, and a look at what came of each.
//!
//! All that it writes is below `{prefix}.probe/`, which no upload's key is, and is deleted
//! at the end. To add a check: a function in the file of its kind that returns a
//! [`Check`] and sets its capability, and a line in `Prober::run`. Each check writes to keys of
//! its own, because several are made at once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::presign::{PutTerms, SignError, Signed};
use super::{Capabilities, Store, StoreError};
use crate::domain::checksum::Algorithm;
use crate::domain::clock::Clock;
use crate::net::{self, HttpClient, NetError, Response};
use crate::telemetry::chain;

mod browser;
mod listing;
mod multipart;
mod puts;
mod response;

/// How long the probe's URLs are good: it is over in seconds.
const EXPIRES_IN: TimeDelta = TimeDelta::minutes(5);
/// How many objects are deleted at a time.
const DELETIONS: usize = 8;
/// S3 takes requests whose clock is off by so much (S3 API reference, `RequestTimeTooSkewed`).
const MAX_SKEW: TimeDelta = TimeDelta::minutes(15);
/// Above this a clock is not set by the network.
const GOOD_SKEW: TimeDelta = TimeDelta::minutes(1);

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// The service works, but knows or refuses less at the door.
    Warn,
    /// Uploads won't work.
    Fail,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A stable name, for example `write_once`.
    pub name: Cow<'static, str>,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen, as a sentence.
    pub saw: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn pass(name: impl Into<Cow<'static, str>>, saw: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Pass, saw: saw.into(), mend: None }
    }

    /// Worth knowing, with what to do about it.
    pub fn warn(name: impl Into<Cow<'static, str>>, saw: impl Into<String>, mend: &str) -> Self {
        let mend = Some(mend.to_owned());
        Self { name: name.into(), outcome: Outcome::Warn, saw: saw.into(), mend }
    }

    /// Broken, with what to do about it.
    pub fn fail(name: impl Into<Cow<'static, str>>, saw: impl Into<String>, mend: &str) -> Self {
        Self { outcome: Outcome::Fail, ..Self::warn(name, saw, mend) }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What the store can do; the conservative set where the probe could not look.
    pub capabilities: Capabilities,
    /// In the order in which they were made. After a failure that would spoil the others
    /// there are none.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether uploads will work.
    pub fn is_usable(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Fail)
    }
}

/// How to probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Before `.probe/` in every key; ends with `/` or is empty.
    pub prefix: String,
    /// Keeps this probe's keys apart from those of another.
    pub run: Uuid,
    /// Web origins whose pages upload directly; none where no browser does.
    pub origins: Vec<String>,
}

/// Probes a store. Takes about 60 requests.
pub async fn probe(
    store: &Store,
    http: &HttpClient,
    clock: &dyn Clock,
    options: &ProbeOptions,
) -> Report {
    let mut prober = Prober::new(store, http, clock, options);
    let ended = prober.run().await;
    prober.clean_up().await;
    let mut report = prober.report();
    if let Err(stop) = ended {
        report.capabilities = Capabilities::conservative();
        report.checks.push(stop.check);
    }
    report
}

/// What browsers may do, by itself: for after a mend.
pub async fn cors(
    store: &Store,
    http: &HttpClient,
    clock: &dyn Clock,
    options: &ProbeOptions,
) -> Check {
    let prober = Prober::new(store, http, clock, options);
    let check = prober.cors().await.unwrap_or_else(|stop| stop.check);
    prober.clean_up().await;
    check
}

/// Ends the probe with its last check.
struct Stop {
    check: Check,
}

impl From<Check> for Box<Stop> {
    fn from(check: Check) -> Self {
        Self::new(Stop { check })
    }
}

/// The store broke down in the middle: what was found so far is not to be relied on.
impl From<StoreError> for Box<Stop> {
    fn from(error: StoreError) -> Self {
        Check::fail("endpoint", chain(&error), "Look at the store's log, then probe again.").into()
    }
}

impl From<NetError> for Box<Stop> {
    fn from(error: NetError) -> Self {
        Check::fail("endpoint", chain(&error), "Look at the store's log, then probe again.").into()
    }
}

impl From<SignError> for Box<Stop> {
    fn from(error: SignError) -> Self {
        Check::fail("credentials", chain(&error), "Configure credentials for the store.").into()
    }
}

type Step<T> = Result<T, Box<Stop>>;

struct Prober<'a> {
    store: &'a Store,
    http: &'a HttpClient,
    clock: &'a dyn Clock,
    base: String,
    origins: &'a [String],
    /// Every key that something may have been written to.
    written: Mutex<BTreeSet<String>>,
    capabilities: Mutex<Capabilities>,
    checks: Vec<Check>,
}

impl<'a> Prober<'a> {
    fn new(
        store: &'a Store,
        http: &'a HttpClient,
        clock: &'a dyn Clock,
        options: &'a ProbeOptions,
    ) -> Self {
        Self {
            store,
            http,
            clock,
            base: format!("{}.probe/{}/", options.prefix, options.run.as_simple()),
            origins: &options.origins,
            written: Mutex::default(),
            capabilities: Mutex::new(Capabilities::conservative()),
            checks: Vec::new(),
        }
    }

    fn report(self) -> Report {
        let capabilities = self.capabilities.into_inner().unwrap_or_else(PoisonError::into_inner);
        Report { capabilities, checks: self.checks }
    }
}

/// Makes some checks one after the other, up to one that ends the probe.
async fn in_turn(checks: Vec<BoxFuture<'_, Step<Check>>>) -> Vec<Step<Check>> {
    let mut made = Vec::with_capacity(checks.len());
    for check in checks {
        made.push(check.await);
        if made.last().is_some_and(Result::is_err) {
            break;
        }
    }
    made
}

impl Prober<'_> {
    async fn run(&mut self) -> Step<()> {
        self.endpoint().await?;
        self.public_endpoint().await?;
        self.presigned_put().await?;
        // Of every kind one at a time: a far store would else be waited for 60 times.
        let kinds = [
            vec![
                self.signature().boxed(),
                self.signed_length().boxed(),
                self.signed_content_type().boxed(),
                self.write_once().boxed(),
            ],
            Algorithm::ALL.map(|algorithm| self.checksum(algorithm).boxed()).into(),
            vec![self.post_policy().boxed()],
            vec![self.multipart().boxed()],
            vec![self.listing().boxed(), self.start_after().boxed(), self.batch_delete().boxed()],
            vec![self.cors().boxed()],
        ];
        for check in join_all(kinds.map(in_turn)).await.into_iter().flatten() {
            self.note(check?);
        }
        Ok(())
    }

    fn note(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn learn(&self, learn: impl FnOnce(&mut Capabilities)) {
        learn(&mut self.capabilities.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The way that the service itself takes.
    async fn endpoint(&mut self) -> Step<()> {
        match self.store.objects.check_bucket().await {
            Ok(()) => {
                let saw = format!("bucket {} answers", self.store.bucket);
                self.note(Check::pass("bucket", saw));
                Ok(())
            }
            Err(StoreError::NoSuchBucket) => {
                let saw = format!("there is no bucket {}", self.store.bucket);
                Err(Check::fail("bucket", saw, "Create it, or correct storage.<name>.bucket.")
                    .into())
            }
            Err(error @ StoreError::AccessDenied(_)) => {
                // The commonest cause that nobody looks for.
                self.public_endpoint().await?;
                let mend = "Check access_key_id, secret_access_key and region, and that the key \
                            may list, read, write and delete in the bucket.";
                Err(Check::fail("credentials", chain(&error), mend).into())
            }
            Err(error) => {
                let mend = "Check storage.<name>.endpoint and that the store is up.";
                Err(Check::fail("endpoint", chain(&error), mend).into())
            }
        }
    }

    /// The way that clients take, and whose clock is right.
    async fn public_endpoint(&mut self) -> Step<()> {
        let url = self.store.presigner.target().bucket_url();
        let mend = "Check storage.<name>.public_endpoint: clients, and the probe, must reach it.";
        let sent = self.http.request("GET", &url, [], Bytes::new()).await;
        let answer = sent.map_err(|error| Check::fail("public_endpoint", chain(&error), mend))?;
        let saw = format!("{url} answers");
        self.note(Check::pass("public_endpoint", saw));
        let clock = self.compare_clocks(&answer);
        if clock.outcome == Outcome::Fail {
            return Err(clock.into());
        }
        self.note(clock);
        Ok(())
    }

    fn compare_clocks(&self, answer: &Response) -> Check {
        let date = answer.headers.get("date").and_then(|d| DateTime::parse_from_rfc2822(d).ok());
        let Some(date) = date else {
            return Check::warn("clock", "the store tells no time", "Compare the clocks by hand.");
        };
        let offset = date.to_utc() - self.clock.now();
        let saw = format!("the store's clock is {} s from ours", offset.num_seconds());
        let mend = "Set both clocks by NTP: stores refuse signatures that are 15 minutes off.";
        if offset.abs() <= GOOD_SKEW {
            Check::pass("clock", saw)
        } else if offset.abs() < MAX_SKEW {
            Check::warn("clock", saw, mend)
        } else {
            Check::fail("clock", saw, mend)
        }
    }

    fn key(&self, name: &str) -> String {
        let key = format!("{}{name}", self.base);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        key
    }

    async fn sign_put(&self, key: &str, terms: &PutTerms) -> Step<Signed> {
        let signer = &self.store.presigner;
        Ok(signer.put(key, terms, self.clock.now(), EXPIRES_IN).await?)
    }

    async fn send(&self, signed: &Signed, body: &'static [u8]) -> Step<Response> {
        Ok(self.send_bytes(signed, Bytes::from_static(body)).await?)
    }

    async fn send_bytes(&self, signed: &Signed, body: Bytes) -> net::Result<Response> {
        let headers = signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        self.http.request(signed.method, &signed.url, headers, body).await
    }

    async fn put(&self, key: &str, terms: &PutTerms, body: &'static [u8]) -> Step<Response> {
        let signed = self.sign_put(key, terms).await?;
        self.send(&signed, body).await
    }

    async fn etag(&self, key: &str) -> Step<Option<String>> {
        Ok(self.store.objects.head(key).await?.map(|meta| meta.etag))
    }

    /// Best effort: what stays behind is foreign to every policy and hurts nobody.
    async fn clean_up(&self) {
        let keys =
            std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let gone = stream::iter(keys).map(|key| async move {
            let deleted = self.store.objects.delete(&key).await;
            if let Err(error) = &deleted {
                tracing::warn!(%key, error = %chain(error), "a probe's object is left behind");
            }
            deleted
        });
        // A store that is down would take a timeout for each.
        drop(gone.buffer_unordered(DELETIONS).try_collect::<()>().await);
    }
}
