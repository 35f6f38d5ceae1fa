//! Measures reconciliation. `scripts/bench` runs each of these commands in a separate process, and
//! reads the JSON that `run`, `s3-list` and `s3-audit` print:
//!
//!   fill     DATABASE OBJECTS           writes rows for stored objects, and 1,000 pending ones
//!   run      DATABASE OBJECTS MODE      reconciles them; the listing is computed, not stored
//!   serve    DATABASE OBJECTS           serves the listing with S3's protocol, until killed
//!   s3-fill  OBJECTS                    writes objects to the bucket in `TEST_S3_*`
//!   s3-rows  DATABASE                   writes a row for each object in that bucket
//!   s3-list  OBJECTS                    lists the bucket, as many shards at once as an audit
//!   s3-audit DATABASE OBJECTS           audits the bucket

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use secrecy::SecretString;
use serde_json::json;
use upload_coordinator::app::bucket_identity::BucketTrust;
use upload_coordinator::app::database_clock::ClockOffset;
use upload_coordinator::app::locations::Locations;
use upload_coordinator::app::turns::Turns;
use upload_coordinator::app::{App, DirectSettings};
use upload_coordinator::auth::UploadTokenVerifier;
use upload_coordinator::config::{Config, Sources};
use upload_coordinator::db::{Db, DbSettings};
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::damage::DamageLimit;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::key::Shard;
use upload_coordinator::domain::run::{Mode, RunRequest, Trigger};
use upload_coordinator::domain::{Clock as _, KeyRange, Prefix};
use upload_coordinator::net::http_client;
use upload_coordinator::reconcile::{ReconcileSettings, Reconciler};
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::s3::{S3, S3Credentials, S3Settings};
use upload_coordinator::storage::{ListRequest, ObjectStore as _, PutOptions, Store, StoreError};

#[path = "support/computed.rs"]
mod computed;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/s3_listing.rs"]
mod s3_listing;

use computed::{Computed, SIZE};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The period in which the objects were stored.
const SPAN: TimeDelta = TimeDelta::days(30);

/// The stored objects. The last one was stored at `end`.
fn world(objects: u64, end: DateTime<Utc>) -> Computed {
    Computed::new("tracks/", objects, end - SPAN, SPAN)
}

async fn open(url: &str) -> Outcome<Db> {
    let settings = DbSettings {
        url: SecretString::from(url.to_owned()),
        max_connections: 8,
        busy_timeout: Duration::from_secs(30),
    };
    Ok(Db::connect(&settings).await?)
}

fn app(db: Db, store: Store) -> Outcome<Arc<App>> {
    let config = Config::from_sources(&Sources::default())?;
    Ok(Arc::new(App {
        token_verifier: UploadTokenVerifier::new(db.clone(), Arc::new(SystemClock)),
        db,
        stores: BTreeMap::from([("default".to_owned(), store)]),
        policies: config.domain_policies(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        direct: DirectSettings::new(false, 8 << 20),
        turns: Turns::default(),
        locations: Locations::default(),
        buckets: BucketTrust::default(),
        clock_offset: ClockOffset::default(),
        inspectors: BTreeMap::new(),
        media_threads: tokio::sync::Semaphore::new(1),
        damage: DamageLimit::default(),
    }))
}

/// Resident memory in bytes: `VmRSS` is the current value, `VmHWM` is the maximum since
/// [`forget_peak`]. Linux only.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn forget_peak() {
    // If this fails, the peak since the start is used, which is at least as large.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

async fn reconcile(app: Arc<App>, mode: Mode, objects: u64) -> Outcome<()> {
    app.check_buckets().await?;
    let reconciler = Arc::new(Reconciler::new(app, ReconcileSettings::default()));
    let request = RunRequest::of(mode, Trigger::Cli);
    // Several incremental runs follow each other in one process, so that its connections are open
    // and its statements are prepared; PostgreSQL plans each statement again the first five times.
    // The runs are short, so the median of several is more reliable than one.
    let (warm, timed) = if mode == Mode::Incremental { (10, 9) } else { (0, 1) };
    let began = Instant::now();
    let mut first = None;
    for _ in 0..warm {
        reconciler.start(request.clone()).await?.wait().await;
        first.get_or_insert_with(|| began.elapsed().as_secs_f64());
    }
    let idle = memory("VmRSS");
    forget_peak();
    let mut runs = Vec::new();
    for _ in 0..timed {
        let began = Instant::now();
        let run = reconciler.start(request.clone()).await?.wait().await;
        runs.push((began.elapsed(), run));
    }
    runs.sort_by_key(|(took, _)| *took);
    let (took, run) = runs.swap_remove(timed / 2);
    let (seconds, peak) = (took.as_secs_f64(), memory("VmHWM"));
    println!(
        "{}",
        json!({"mode": mode.name(), "objects": objects, "seconds": seconds,
            "first_seconds": first, "status": run.status.name(), "error": run.error,
            "counters": run.counters, "idle_bytes": idle, "peak_bytes": peak})
    );
    Ok(())
}

/// The bucket in `TEST_S3_*`, which `scripts/with-server minio` created.
async fn bucket() -> Outcome<S3> {
    let var = |name: &str| std::env::var(format!("TEST_S3_{name}"));
    let credentials = S3Credentials::Static {
        access_key_id: var("ACCESS_KEY_ID")?,
        secret_access_key: var("SECRET_ACCESS_KEY")?.into(),
        session_token: None,
    };
    let endpoint = Some(var("ENDPOINT")?.parse()?);
    let settings = S3Settings::new(endpoint, var("REGION")?, var("BUCKET")?, credentials);
    Ok(S3::connect(&settings, &http_client()).await?)
}

/// Lists all shards, as many at the same time as an audit does.
async fn list(store: &Store, prefix: &str) -> Outcome<usize> {
    let settings = ReconcileSettings::default();
    let prefix = Prefix::parse(prefix)?;
    let counts = stream::iter(Shard::all().map(|shard| shard.range(&prefix)))
        .map(|range| tokio::spawn(list_shard(store.clone(), range, settings.page_size)))
        .buffer_unordered(settings.shards)
        .try_collect::<Vec<_>>()
        .await?;
    counts.into_iter().sum::<Result<usize, StoreError>>().map_err(Into::into)
}

async fn list_shard(store: Store, range: KeyRange, limit: usize) -> Result<usize, StoreError> {
    let (mut seen, mut token) = (0, None);
    loop {
        let KeyRange { prefix, after, .. } = range.clone();
        let start_after = if token.is_none() { after } else { None };
        let page = store.objects.list(&ListRequest { prefix, start_after, token, limit }).await?;
        let ours = page.objects.iter().filter(|object| range.contains(&object.key)).count();
        seen += ours;
        token = page.next;
        if token.is_none() || ours < page.objects.len() {
            return Ok(seen);
        }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        // `cargo bench` runs this program without arguments.
        [] => println!("reconcile: needs arguments; use `scripts/bench reconcile`"),
        ["fill", url, objects] => {
            open(url).await?.migrate_up().await?;
            let end = SystemClock.now();
            rows::fill(url, &world(objects.parse()?, end), end).await?;
        }
        ["run", url, objects, mode] => {
            let objects = objects.parse()?;
            let end = rows::end(url).await?;
            let mode = mode.parse::<Mode>().map_err(|()| format!("no such mode: {mode}"))?;
            let store = Arc::new(world(objects, end)).store()?;
            reconcile(app(open(url).await?, store)?, mode, objects).await?;
        }
        ["serve", url, objects] => {
            s3_listing::serve(world(objects.parse()?, rows::end(url).await?)).await?;
        }
        ["s3-fill", objects] => {
            let (bucket, world) = (bucket().await?, world(objects.parse()?, SystemClock.now()));
            stream::iter(0..world.len())
                .map(|n| {
                    let (bucket, key) = (&bucket, world.key(n));
                    async move {
                        let body = vec![0_u8; usize::try_from(SIZE).unwrap_or(1)];
                        bucket.put(&key, body.into(), &PutOptions::default()).await.map(drop)
                    }
                })
                .buffer_unordered(32)
                .try_collect::<Vec<()>>()
                .await?;
        }
        ["s3-list", _] => {
            let store = bucket().await?.into_store("default", Capabilities::aws());
            let began = Instant::now();
            let objects = list(&store, "tracks/").await?;
            let seconds = began.elapsed().as_secs_f64();
            println!("{}", json!({"objects": objects, "seconds": seconds}));
        }
        ["s3-rows", url] => {
            let store = bucket().await?.into_store("default", Capabilities::aws());
            open(url).await?.migrate_up().await?;
            rows::fill_listed(url, &store).await?;
        }
        ["s3-audit", url, objects] => {
            let store = bucket().await?.into_store("default", Capabilities::aws());
            reconcile(app(open(url).await?, store)?, Mode::Audit, objects.parse()?).await?;
        }
        _ => return Err(format!("unknown arguments: {arguments:?}").into()),
    }
    Ok(())
}
