//! Caches the signing key of the day and its credentials, so that their provider is called rarely.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use chrono::{NaiveDate, TimeDelta};
use tokio::sync::Mutex;

use super::SignError;
use super::sigv4::DayKey;
use crate::domain::clock::Timestamp;

/// The time before the end of the credentials at which new ones are requested: instance metadata
/// has new credentials about five minutes before that (EC2 user guide, "Retrieve security
/// credentials").
const REFRESH_AHEAD: TimeDelta = TimeDelta::minutes(5);
/// The interval of requests to a provider that has no new credentials yet, or that fails.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(30);
/// The time after which credentials without an expiry are requested again, because they may be
/// rotated too (for example in a file). This is the default of the AWS SDKs.
const UNTIMED_LIFE: TimeDelta = TimeDelta::minutes(15);

/// A key, and the time until which its signatures can be used.
pub(super) struct Current {
    pub(super) key: DayKey,
    day: NaiveDate,
    credentials: Credentials,
    /// When new credentials are requested from the provider.
    refresh_at: Timestamp,
    /// When the credentials expire.
    pub(super) ends_at: Option<Timestamp>,
}

impl Current {
    fn fits(&self, now: Timestamp) -> bool {
        self.day == now.date_naive() && now < self.refresh_at && self.lives(now)
    }

    fn lives(&self, now: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }
}

/// Returns the signing key of the day. Readers hold a lock only to copy a pointer. The first caller
/// that finds an old key renews it, and the others wait.
pub(super) struct Keys {
    provider: SharedCredentialsProvider,
    region: String,
    current: RwLock<Option<Arc<Current>>>,
    renewal: Mutex<()>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(provider: SharedCredentialsProvider, region: String) -> Self {
        Self { provider, region, current: RwLock::default(), renewal: Mutex::default() }
    }

    pub(super) async fn at(&self, now: Timestamp) -> Result<Arc<Current>, SignError> {
        if let Some(current) = self.known().filter(|current| current.fits(now)) {
            return Ok(current);
        }
        let _one_at_a_time = self.renewal.lock().await;
        let known = self.known();
        if let Some(current) = known.clone().filter(|current| current.fits(now)) {
            return Ok(current);
        }
        let fresh = match known {
            // Only the day has changed.
            Some(old) if now < old.refresh_at && old.lives(now) => {
                self.current(old.credentials.clone(), now, old.refresh_at)
            }
            known => match (self.provider.provide_credentials().await, known) {
                (Ok(credentials), _) => {
                    let refresh_at = match credentials.expiry().map(Timestamp::from) {
                        Some(end) => (end - REFRESH_AHEAD).max(now + RETRY_AFTER),
                        None => now + UNTIMED_LIFE,
                    };
                    self.current(credentials, now, refresh_at)
                }
                // The old credentials are still valid: signing continues while the provider fails.
                (Err(error), Some(old)) if old.lives(now) => {
                    tracing::warn!(error = %error, "there are no new credentials for signing; \
                        the current ones are used until they expire");
                    self.current(old.credentials.clone(), now, now + RETRY_AFTER)
                }
                (Err(error), _) => return Err(SignError::Credentials(error.into())),
            },
        };
        if !fresh.lives(now) {
            return Err(SignError::CredentialsExpired);
        }
        let fresh = Arc::new(fresh);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        Ok(fresh)
    }

    fn known(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn current(&self, credentials: Credentials, now: Timestamp, refresh_at: Timestamp) -> Current {
        let day = now.date_naive();
        let key = DayKey::derive(
            credentials.access_key_id(),
            credentials.secret_access_key(),
            credentials.session_token(),
            &self.region,
            day,
        );
        let ends_at = credentials.expiry().map(Timestamp::from);
        Current { key, day, credentials, refresh_at, ends_at }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{ProvideCredentials, future};

    use super::*;

    /// Returns credentials that expire one hour after the previous ones, and fails after `limit`
    /// calls.
    #[derive(Debug)]
    struct Hourly {
        refresh: AtomicI64,
        limit: i64,
    }

    impl ProvideCredentials for Hourly {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.refresh.fetch_add(1, Ordering::SeqCst) + 1;
            future::ProvideCredentials::ready(if n > self.limit {
                Err(CredentialsError::not_loaded("none left"))
            } else {
                let end = start() + TimeDelta::hours(n);
                Ok(Credentials::new(format!("A{n}"), "s", None, Some(end.into()), "test"))
            })
        }
    }

    fn start() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn keys(limit: i64) -> (Arc<Hourly>, Keys) {
        let provider = Arc::new(Hourly { refresh: AtomicI64::new(0), limit });
        let shared: Arc<dyn ProvideCredentials> = provider.clone();
        let shared = SharedCredentialsProvider::from(shared);
        (provider, Keys::new(shared, "us-east-1".into()))
    }

    #[tokio::test]
    async fn credentials_are_kept_until_shortly_before_they_end() {
        let (provider, keys) = keys(9);
        for (minute, user, refresh) in [(0, "A1", 1), (54, "A1", 1), (55, "A2", 2), (56, "A2", 2)] {
            let current = keys.at(start() + TimeDelta::minutes(minute)).await.unwrap();
            assert!(current.key.credential.starts_with(user), "minute {minute}");
            assert_eq!(provider.refresh.load(Ordering::SeqCst), refresh, "minute {minute}");
        }
    }

    #[tokio::test]
    async fn signing_continues_until_the_credentials_expire_if_the_provider_fails() {
        let (provider, keys) = keys(1);
        let at = |minute| start() + TimeDelta::minutes(minute);
        keys.at(at(0)).await.unwrap();
        keys.at(at(56)).await.unwrap();
        keys.at(at(56)).await.unwrap();
        assert_eq!(provider.refresh.load(Ordering::SeqCst), 2, "not requested again at once");
        assert!(matches!(keys.at(at(60)).await, Err(SignError::Credentials(_))));
    }

    #[tokio::test]
    async fn a_new_key_at_midnight_needs_no_request_to_the_provider() {
        let (provider, keys) = keys(99);
        let shift = TimeDelta::hours(14) - TimeDelta::minutes(10);
        provider.refresh.store(14, Ordering::SeqCst);
        let before = keys.at(start() + shift).await.unwrap();
        let after = keys.at(start() + shift + TimeDelta::minutes(10)).await.unwrap();
        assert_eq!(before.key.credential, "A15/20261123/us-east-1/s3/aws4_request");
        assert_eq!(after.key.credential, "A15/20261124/us-east-1/s3/aws4_request");
        assert_eq!(provider.refresh.load(Ordering::SeqCst), 15);
    }

    #[tokio::test]
    async fn expired_credentials_sign_nothing() {
        let (_, keys) = keys(1);
        let late = start() + TimeDelta::hours(2);
        assert!(matches!(keys.at(late).await, Err(SignError::CredentialsExpired)));
    }
}
