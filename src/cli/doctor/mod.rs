//! `doctor`: checks everything that the service needs, and what each store enforces.
//!
//! To add a check of a store, extend the probe of its kind, for example `storage::s3::probe`. To
//! add a check of the database, add a function to `database.rs`.

use std::path::Path;
use std::process::ExitCode;

use aws_sdk_s3::config::SharedHttpClient;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::adapters::queue;
use super::adapters::stores::OpenedStore;
use crate::config::{Config, StoreConfig};
use crate::net::http_client;
use crate::storage::Capabilities;
use crate::storage::probe::{Check, Outcome};
use crate::telemetry::chain;

mod clients;
mod database;
mod inspectors;
mod marker;
mod show;
mod webhooks;

/// The arguments of `doctor`.
#[derive(Debug, Default, Args)]
pub struct DoctorArgs {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Repair settings of the bucket.
    #[arg(long, value_enum, value_name = "WHAT")]
    fix: Vec<Fix>,
    /// A web origin whose pages upload, such as `https://app.example.com`; repeatable. If a store
    /// does not allow it, the check fails. Without this option, CORS problems are only warnings.
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// A client whose requests from browsers to the bucket are checked; repeatable.
    #[arg(long, value_enum, value_name = "NAME")]
    client: Vec<clients::Client>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fix {
    /// Put a CORS rule for uploads on the bucket, before its other rules.
    Cors,
}

/// The results of all checks.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// True if no check failed.
    ok: bool,
    passed: usize,
    warnings: usize,
    failed: usize,
    database: Database,
    stores: Vec<StoreFindings>,
    /// The queue of bucket events, if one is configured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Check>,
    /// The endpoints of webhooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webhooks: Vec<Check>,
    /// The inspectors that policies name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inspectors: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Database {
    /// The password is masked.
    url: String,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct StoreFindings {
    name: String,
    bucket: Option<String>,
    /// The bucket's URL for clients.
    public_url: Option<String>,
    checks: Vec<Check>,
    /// `None` if the store could not be probed.
    capabilities: Option<Capabilities>,
}

/// Runs all checks. The exit code is 1 if one failed.
pub async fn run(file: Option<&Path>, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    config.require_stores()?;
    let found = examine(&config, args).await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", show::text(&found));
    }
    Ok(if found.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(config: &Config, args: &DoctorArgs) -> Diagnosis {
    let database =
        Database { url: config.database.url.masked(), checks: database::checks(config).await };
    let http = http_client();
    let mut stores = Vec::new();
    for (name, store) in config.stores_in_use() {
        stores.push(examine_store(name, store, config, args, &http).await);
    }
    let events = Vec::from_iter(queue::check(config, &http).await);
    let webhooks = webhooks::checks(config).await;
    let inspectors = inspectors::checks(config).await;
    let of_stores = || stores.iter().flat_map(|store| &store.checks);
    let checks =
        || of_stores().chain(&database.checks).chain(&events).chain(&webhooks).chain(&inspectors);
    let count = |outcome| checks().filter(|check| check.outcome == outcome).count();
    let failed = count(Outcome::Fail);
    Diagnosis {
        ok: failed == 0,
        passed: count(Outcome::Pass),
        warnings: count(Outcome::Warn),
        failed,
        database,
        stores,
        events,
        webhooks,
        inspectors,
    }
}

async fn examine_store(
    name: &str,
    store: &StoreConfig,
    config: &Config,
    args: &DoctorArgs,
    http: &SharedHttpClient,
) -> StoreFindings {
    let opened = match OpenedStore::open(name, store, http).await {
        Ok(opened) => opened,
        Err(error) => {
            let mend = format!("Correct [storage.{name}].");
            return StoreFindings {
                name: name.to_owned(),
                bucket: store.bucket(name).ok().map(str::to_owned),
                public_url: None,
                checks: vec![Check::fail("configuration", format!("{error:#}"), &mend)],
                capabilities: None,
            };
        }
    };
    let report = opened.probe(config, &args.origin).await;
    let usable = report.is_usable();
    let capabilities = usable.then_some(report.capabilities);
    let mut checks = report.checks;
    if usable {
        checks.extend(marker::checks(config, opened.store()).await);
    }
    if args.fix.contains(&Fix::Cors)
        && let Some(check) = checks.iter_mut().find(|check| check.name == "cors")
        && check.outcome != Outcome::Pass
    {
        *check = match opened.backend().allow_origins(&args.origin).await {
            Ok(()) => {
                let after = opened.probe_cors(config, &args.origin).await;
                Check { saw: format!("put a rule on the bucket; {}", after.saw), ..after }
            }
            Err(error) => {
                let mend = opened.backend().cors_advice();
                let saw = format!("{}; the store refused the rule: {}", check.saw, chain(&error));
                Check { saw, mend: Some(mend.to_owned()), ..check.clone() }
            }
        };
    }
    if usable {
        for client in &args.client {
            let client = client.requests();
            checks.push(opened.probe_client(config, &args.origin, &client).await);
        }
    }
    let found = StoreFindings {
        name: name.to_owned(),
        bucket: Some(opened.store().bucket.clone()),
        public_url: Some(opened.store().signer.bucket_url()),
        checks,
        capabilities,
    };
    opened.close().await;
    found
}
