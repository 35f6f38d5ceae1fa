//! Checks whether each bucket belongs to the database. Writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::bucket_identity::{BucketTrust, CheckOptions};
use crate::app::database_clock::ClockOffset;
use crate::app::locations::Locations;
use crate::app::turns::Turns;
use crate::app::{App, DirectSettings};
use crate::auth::UploadTokenVerifier;
use crate::cli::adapters;
use crate::config::Config;
use crate::db::Db;
use crate::domain::clock::SystemClock;
use crate::domain::damage::DamageLimit;
use crate::domain::ids::SystemIds;
use crate::domain::marker::{BucketIdentity, Mismatch};
use crate::storage::Store;
use crate::storage::probe::Check;
use crate::telemetry::chain;

/// A check for each policy of the store. Returns no checks if the database can't be used, because
/// other checks report that.
pub(super) async fn checks(config: &Config, store: &Store) -> Vec<Check> {
    let url = config.database.url.expose();
    // If the file does not exist, opening the database would create it.
    if super::database::sqlite_file(url).is_some_and(|file| !file.exists()) {
        return Vec::new();
    }
    let Ok(db) = adapters::database(config).await else { return Vec::new() };
    if !db.schema().await.is_ok_and(|schema| schema.problem().is_none()) {
        return Vec::new();
    }
    let found = of_store(config, store, db.clone()).await;
    if let Err(error) = db.close().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the database did not close");
    }
    found
}

async fn of_store(config: &Config, store: &Store, db: Db) -> Vec<Check> {
    let app = App {
        token_verifier: UploadTokenVerifier::new(db.clone(), Arc::new(SystemClock)),
        db,
        stores: BTreeMap::from([(store.name.clone(), store.clone())]),
        policies: config.domain_policies(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        inspectors: BTreeMap::new(),
        direct: DirectSettings::new(false, 0),
        turns: Turns::default(),
        damage: DamageLimit::default(),
        locations: Locations::default(),
        buckets: BucketTrust::default(),
        clock_offset: ClockOffset::default(),
        media_threads: tokio::sync::Semaphore::new(1),
    };
    let mut found = Vec::new();
    for policy in app.policies.values().filter(|policy| policy.store == store.name) {
        let name = format!("marker_{}", policy.name);
        let options = CheckOptions { dry_run: true, ..CheckOptions::default() };
        let checked = async {
            let location = app.configured_location(policy).await?;
            app.check_location(&location, options).await
        };
        found.push(match checked.await {
            Ok(BucketIdentity::Match) => Check::pass(name, BucketIdentity::Match.to_string()),
            Ok(unsettled @ BucketIdentity::Unsettled(_)) => {
                let mend = "Wait, unless the original of this database is still in use.";
                Check::warn(name, unsettled.to_string(), mend)
            }
            Ok(BucketIdentity::Mismatch(mismatch)) => {
                let (saw, mend) = explain(mismatch);
                Check::fail(name, saw, mend)
            }
            Err(error) => {
                let mend = "Allow the access key to read and write below the policy's prefix.";
                Check::fail(name, chain(&error), mend)
            }
        });
    }
    found
}

fn explain(mismatch: Mismatch) -> (String, &'static str) {
    match mismatch {
        Mismatch::Missing => (
            "the marker is not in the bucket".to_owned(),
            "Correct the bucket or the prefix. If it is the right one and its marker was lost: \
             `upload-coordinator reconcile --adopt-bucket`.",
        ),
        Mismatch::Foreign(other) => {
            let other = other.map_or("unknown".to_owned(), |id| id.to_string());
            (
                format!("the marker is of instance {other}"),
                "Correct the bucket, the prefix or the database: each environment needs a prefix \
                 of its own.",
            )
        }
        Mismatch::Contested => (
            "another database with the same id writes the marker".to_owned(),
            "One database is a copy of the other. Stop the copy or run `upload-coordinator \
             instance reissue` on it, then run `upload-coordinator instance reclaim` on the \
             original.",
        ),
    }
}
