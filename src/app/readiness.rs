//! Checks what requests depend on: the database, its migrations, and each bucket.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};

use super::App;
use crate::db::DbError;
use crate::storage::StoreError;
use crate::storage::cause::{Cause, Explained};
use crate::telemetry::chain;

/// The maximum duration of one check. Load balancers wait for a few seconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The result of each check by name: `database`, `migrations` and a `bucket.<store>` for each
/// store of new uploads. The error is a short description; the log has the details.
pub type Checks = BTreeMap<String, Result<(), &'static str>>;

impl App {
    /// Runs all checks at the same time.
    pub async fn check_readiness(&self) -> Checks {
        let mut checks: Vec<BoxFuture<'_, _>> = vec![
            check("database".to_owned(), "does not respond", self.check_database()).boxed(),
            check("migrations".to_owned(), "pending or unknown", self.check_migrations()).boxed(),
        ];
        // A store of old files only must not take the whole service out of use.
        let takes_uploads =
            |name: &String| self.policies.values().any(|policy| policy.store == *name);
        for (name, store) in self.stores.iter().filter(|(name, _)| takes_uploads(name)) {
            let bucket = async move {
                store.objects.check_bucket().await.map_err(boxed)?;
                if store.objects.is_full() {
                    let seen = "a write failed within the last minute".to_owned();
                    let source = Box::new(Explained { cause: Cause::Full, seen });
                    return Err(boxed(StoreError::Full(source)));
                }
                Ok(())
            };
            checks.push(check(format!("bucket.{name}"), "not usable", bucket).boxed());
        }
        join_all(checks).await.into_iter().collect()
    }

    /// Checks each store. The result is recorded in the stores' metrics. A store that refuses the
    /// credentials signs no requests.
    pub async fn check_stores(&self) {
        join_all(self.stores.values().map(|store| store.objects.check_bucket())).await;
    }

    async fn check_database(&self) -> Result<(), Failure> {
        self.db.ping().await.map_err(boxed)?;
        self.db.check_space().await.map_err(boxed)
    }

    async fn check_migrations(&self) -> Result<(), Failure> {
        match self.db.schema().await.map_err(boxed)?.problem() {
            Some(problem) => Err(problem.into()),
            None => Ok(()),
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn boxed(error: impl Error + Send + Sync + 'static) -> Failure {
    Box::new(error)
}

async fn check(
    name: String,
    description: &'static str,
    check: impl Future<Output = Result<(), Failure>>,
) -> (String, Result<(), &'static str>) {
    let result = match tokio::time::timeout(TIMEOUT, check).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(check = name, error = chain(&*error), "not ready");
            Err(sentence(&*error).unwrap_or(description))
        }
        Err(_) => {
            tracing::warn!(check = name, timeout_s = TIMEOUT.as_secs(), "not ready: timeout");
            Err("does not respond in time")
        }
    };
    (name, result)
}

/// The error and its fix, if the error contains them.
fn sentence(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    if matches!(error.downcast_ref(), Some(DbError::Full(_))) {
        return Some("the disk of the database is full: free or add disk space there");
    }
    error.downcast_ref::<StoreError>().and_then(StoreError::cause).map(Cause::sentence)
}
