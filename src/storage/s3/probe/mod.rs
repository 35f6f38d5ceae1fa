//! Probes what an S3-compatible store enforces. It sends real signed requests, including invalid
//! ones, through the public endpoint, and compares the results with the documentation of S3.
//!
//! All objects are written below `{prefix}.probe/`, where no upload has its key, and are deleted at
//! the end. To add a check, add a function to the file of its topic that returns a [`Check`] and
//! sets its capability, and a line to `Prober::run`. Checks run concurrently, so each writes to its
//! own keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::domain::PolicyName;
use crate::domain::checksum::Algorithm;
use crate::domain::clock::Clock;
use crate::domain::limits::MAX_CLOCK_SKEW;
use crate::domain::object_settings::ObjectSettings;
use crate::net::{self, HttpClient, NetError, Response};
use crate::storage::cause::{Cause, Explained};
use crate::storage::probe::{BrowserClient, Check, Outcome, ProbeOptions, Report};
use crate::storage::signer::{PutRequest, SignError, SignedRequest};
use crate::storage::{Capabilities, Store, StoreError};
use crate::telemetry::chain;

mod browser;
mod listing;
mod multipart;
mod objects;
mod puts;
mod response;

/// The lifetime of the probe's URLs. A probe takes seconds.
const EXPIRES_IN: TimeDelta = TimeDelta::minutes(5);
/// The number of objects that are deleted concurrently.
const DELETIONS: usize = 8;
/// A larger difference means that one of the clocks is not synchronised.
const GOOD_SKEW: TimeDelta = TimeDelta::minutes(1);

/// Probes a store. Takes about 80 requests.
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

/// Probes a store that has another protocol than S3. Most capabilities are taken from the
/// documentation. The probe finds those that depend on the account and the container.
pub(in crate::storage) async fn probe_documented(
    store: &Store,
    http: &HttpClient,
    clock: &dyn Clock,
    options: &ProbeOptions,
    documented: Capabilities,
) -> Report {
    let mut prober = Prober::new(store, http, clock, options);
    prober.learn(|can| *can = documented);
    let ended = prober.run_documented().await;
    prober.clean_up().await;
    let mut report = prober.report();
    if let Err(stop) = ended {
        report.checks.push(stop.check);
    }
    report
}

/// Runs only the CORS check, to repeat it after the rules have changed.
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

/// Runs only the check of a client's requests from browsers.
pub async fn client_cors(
    store: &Store,
    http: &HttpClient,
    clock: &dyn Clock,
    options: &ProbeOptions,
    client: &BrowserClient<'_>,
) -> Check {
    let prober = Prober::new(store, http, clock, options);
    let check = prober.client_cors(client).await.unwrap_or_else(|stop| stop.check);
    prober.clean_up().await;
    check
}

/// A failed check that ends the probe.
struct Stop {
    check: Check,
}

impl From<Check> for Box<Stop> {
    fn from(check: Check) -> Self {
        Self::new(Stop { check })
    }
}

/// The store failed during the probe, so the results are not reliable.
impl From<StoreError> for Box<Stop> {
    fn from(error: StoreError) -> Self {
        let check = failure(&error, "endpoint", "Look at the store's log, then probe again.");
        check.into()
    }
}

/// Converts a failed call to a check. If the cause is known, the check contains its fix; otherwise
/// it contains `mend`.
fn failure(error: &StoreError, name: &'static str, mend: &str) -> Check {
    let Some(Explained { cause, seen }) = error.explained() else {
        return Check::fail(name, chain(error), mend);
    };
    let name = match cause {
        Cause::ClockSkew => "clock",
        Cause::WrongRegion => "region",
        _ => name,
    };
    Check::fail(name, format!("{} ({seen})", cause.saw()), &capitalized(cause.mend()))
}

/// Starts a text with a capital letter.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
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
    /// The settings of policies' objects.
    objects: &'a BTreeMap<PolicyName, ObjectSettings>,
    /// Every key that may have been written.
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
            objects: &options.objects,
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

/// Runs checks one after the other until a check ends the probe.
async fn sequentially(checks: Vec<BoxFuture<'_, Step<Check>>>) -> Vec<Step<Check>> {
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
        // The groups run concurrently, because 80 sequential requests to a distant store take a
        // long time.
        let groups = [
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
            vec![self.sse().boxed()],
            self.objects
                .iter()
                .map(|(policy, object)| self.object(policy, object).boxed())
                .collect(),
        ];
        for check in join_all(groups.map(sequentially)).await.into_iter().flatten() {
            self.record(check?);
        }
        Ok(())
    }

    /// Runs the checks whose requests every kind of store supports.
    async fn run_documented(&mut self) -> Step<()> {
        self.endpoint().await?;
        self.public_endpoint().await?;
        self.presigned_put().await?;
        let objects = self.objects.iter();
        let groups = [
            vec![self.signature().boxed(), self.write_once().boxed()],
            vec![self.listing().boxed()],
            vec![self.cors().boxed()],
            objects.map(|(policy, object)| self.object(policy, object).boxed()).collect(),
        ];
        for check in join_all(groups.map(sequentially)).await.into_iter().flatten() {
            self.record(check?);
        }
        Ok(())
    }

    fn record(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn learn(&self, learn: impl FnOnce(&mut Capabilities)) {
        learn(&mut self.capabilities.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Checks the internal endpoint.
    async fn endpoint(&mut self) -> Step<()> {
        match self.store.objects.check_bucket().await {
            Ok(()) => {
                let saw = format!("bucket {} responds", self.store.bucket);
                self.record(Check::pass("bucket", saw));
                Ok(())
            }
            Err(StoreError::NoSuchBucket) => {
                let saw = format!("there is no bucket {}", self.store.bucket);
                Err(Check::fail("bucket", saw, "Create it, or correct storage.<name>.bucket.")
                    .into())
            }
            Err(error @ StoreError::AccessDenied(_)) => {
                // A clock difference is a common cause that is easy to overlook.
                self.public_endpoint().await?;
                let mend = "Check access_key_id, secret_access_key and region, and that the key \
                            may list, read, write and delete in the bucket.";
                Err(failure(&error, "credentials", mend).into())
            }
            Err(error) => {
                let mend = "Check storage.<name>.endpoint and that the store is up.";
                Err(failure(&error, "endpoint", mend).into())
            }
        }
    }

    /// Checks the public endpoint and the clock difference.
    async fn public_endpoint(&mut self) -> Step<()> {
        let url = self.store.signer.bucket_url();
        let mend = "Check storage.<name>.public_endpoint: clients, and the probe, must reach it.";
        let sent = self.http.request("GET", &url, [], Bytes::new()).await;
        let response = sent.map_err(|error| Check::fail("public_endpoint", chain(&error), mend))?;
        let saw = format!("{url} responds");
        self.record(Check::pass("public_endpoint", saw));
        let clock = self.compare_clocks(&response);
        if clock.outcome == Outcome::Fail {
            return Err(clock.into());
        }
        self.record(clock);
        Ok(())
    }

    fn compare_clocks(&self, response: &Response) -> Check {
        let date = response.headers.get("date");
        let Some(date) = date.and_then(|d| DateTime::parse_from_rfc2822(d).ok()) else {
            return Check::warn(
                "clock",
                "the store sends no Date header",
                "Compare the clocks by hand.",
            );
        };
        let offset = date.to_utc() - self.clock.now();
        let saw = format!("the store's clock differs by {} s", offset.num_seconds());
        let mend = "Synchronise both clocks with NTP: stores refuse a difference of 15 minutes.";
        if offset.abs() <= GOOD_SKEW {
            Check::pass("clock", saw)
        } else if offset.abs() < MAX_CLOCK_SKEW {
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

    async fn sign_put(&self, key: &str, request: &PutRequest) -> Step<SignedRequest> {
        let signer = &self.store.signer;
        Ok(signer.put(key, request, self.clock.now(), EXPIRES_IN).await?)
    }

    async fn send(&self, signed: &SignedRequest, body: &'static [u8]) -> Step<Response> {
        Ok(self.send_bytes(signed, Bytes::from_static(body)).await?)
    }

    async fn send_bytes(&self, signed: &SignedRequest, body: Bytes) -> net::Result<Response> {
        let headers = signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        self.http.request(signed.method, &signed.url, headers, body).await
    }

    async fn put(&self, key: &str, request: &PutRequest, body: &'static [u8]) -> Step<Response> {
        let signed = self.sign_put(key, request).await?;
        self.send(&signed, body).await
    }

    async fn etag(&self, key: &str) -> Step<Option<String>> {
        Ok(self.store.objects.head(key).await?.map(|meta| meta.etag))
    }

    /// Errors are ignored: remaining objects belong to no policy and do no harm.
    async fn clean_up(&self) {
        let keys =
            std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let gone = stream::iter(keys).map(|key| async move {
            let deleted = self.store.objects.delete(&key).await;
            if let Err(error) = &deleted {
                tracing::warn!(%key, error = %chain(error), "an object of the probe was not deleted");
            }
            deleted
        });
        // Stops at the first error. Otherwise each further deletion could wait for a timeout.
        drop(gone.buffer_unordered(DELETIONS).try_collect::<()>().await);
    }
}
