//! At its start, the service waits for the database and the stores, because they may be starting at
//! the same time.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::app::AppError;
use crate::db::DbError;
use crate::domain::backoff::Backoff;
use crate::storage::StoreError;

/// Pauses between two attempts.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };

/// How long a start waits in total for services that do not respond yet.
pub struct Patience {
    limit: Duration,
    deadline: Instant,
}

impl Patience {
    /// Waits for at most `limit` from now on.
    pub fn of(limit: Duration) -> Self {
        Self { limit, deadline: Instant::now() + limit }
    }

    /// Does not wait.
    pub fn none() -> Self {
        Self::of(Duration::ZERO)
    }

    /// Repeats an attempt until it succeeds, fails with a permanent error, or takes too long.
    /// `what` is the name of the service for messages.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn until_available<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !is_temporary(&error) || self.limit.is_zero() {
                return Err(error);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let limit = self.limit.as_secs_f64();
                return Err(error).with_context(|| {
                    format!("{what}: not available within server.start_timeout ({limit} s)")
                });
            }
            let pause = BACKOFF.pause(failures).min(left);
            tracing::warn!(
                waiting_for = what,
                error = format!("{error:#}"),
                left_s = left.as_secs(),
                "not available yet; the service waits for it before it starts"
            );
            tokio::time::sleep(pause).await;
            failures += 1;
        }
    }
}

/// Whether a later attempt may succeed although the operator changes nothing.
fn is_temporary(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let app = cause.downcast_ref::<AppError>();
        let db = match app {
            Some(AppError::Db(error)) => Some(error),
            _ => cause.downcast_ref::<DbError>(),
        };
        let store = match app {
            Some(AppError::Store(error)) => Some(error),
            _ => cause.downcast_ref::<StoreError>(),
        };
        db.is_some_and(DbError::is_temporary) || store.is_some_and(StoreError::is_temporary)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempts(
        limit: Duration,
        error: impl Fn(u32) -> Option<anyhow::Error>,
    ) -> (u32, Result<(), String>) {
        let mut count = 0;
        let patience = Patience::of(limit);
        let ended = patience
            .until_available("the store", async || {
                count += 1;
                error(count).map_or(Ok(()), Err)
            })
            .await;
        (count, ended.map_err(|error| format!("{error:#}")))
    }

    fn down() -> anyhow::Error {
        anyhow::Error::from(StoreError::Unavailable("refused".into())).context("storage.default")
    }

    #[tokio::test]
    async fn only_temporary_errors_are_waited_for() {
        let limit = Duration::from_millis(600);
        let (count, ended) = attempts(limit, |n| (n < 3).then(down)).await;
        assert_eq!((count, ended), (3, Ok(())));
        let app = |_| Some(AppError::Store(StoreError::Unavailable("down".into())).into());
        assert!(attempts(limit, app).await.0 > 1);
        let (count, ended) = attempts(limit, |_| Some(StoreError::NoSuchBucket.into())).await;
        assert_eq!((count, ended.unwrap_err().as_str()), (1, "the bucket does not exist"));
        let (count, ended) = attempts(limit, |_| Some(down())).await;
        let ended = ended.unwrap_err();
        assert!(
            ended.starts_with("the store: not available within server.start_timeout (0.6 s): ")
        );
        assert!((2..5).contains(&count), "{count} attempts");
        assert_eq!(attempts(Duration::ZERO, |_| Some(down())).await.0, 1);
    }
}
