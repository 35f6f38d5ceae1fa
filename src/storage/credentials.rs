//! Whether the store still accepts this service's credentials. URLs that are signed with refused
//! credentials do not work, so none are signed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;

use super::StoreError;
use super::signer::{Operation, SignError, SignedRequest, Signer};
use crate::domain::clock::Timestamp;

/// The number of consecutive refused checks after which no URL is signed. A store that restarts, or
/// a replica with old data, may refuse one or two requests.
pub const MAX_REFUSALS: u32 = 3;

/// The number of consecutive checks of the bucket that were refused because of the credentials.
#[derive(Debug, Default)]
pub struct Refusals(AtomicU32);

impl Refusals {
    /// Records the result of a check of the bucket, and returns the number. Errors that say nothing
    /// about the credentials, for example no response, do not change it.
    pub fn record(&self, checked: &Result<(), StoreError>) -> u32 {
        match checked {
            Err(StoreError::AccessDenied(_)) => {
                let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    Some(count.saturating_add(1))
                });
                before.unwrap_or_else(|count| count).saturating_add(1)
            }
            Ok(()) | Err(StoreError::NoSuchBucket) => {
                self.0.store(0, Ordering::Relaxed);
                0
            }
            Err(_) => self.0.load(Ordering::Relaxed),
        }
    }

    fn require_few(&self) -> Result<(), SignError> {
        if self.0.load(Ordering::Relaxed) < MAX_REFUSALS {
            Ok(())
        } else {
            Err(SignError::CredentialsRefused)
        }
    }
}

/// Signs only while the store accepts the credentials.
pub struct GuardedSigner {
    /// The signer that is used if few checks were refused.
    pub inner: Arc<dyn Signer>,
    /// Whether the store accepts the credentials.
    pub refusals: Arc<Refusals>,
}

impl fmt::Debug for GuardedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Signer for GuardedSigner {
    fn bucket_url(&self) -> String {
        self.inner.bucket_url()
    }

    async fn sign(
        &self,
        key: &str,
        operation: Operation<'_>,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError> {
        self.refusals.require_few()?;
        self.inner.sign(key, operation, now, expires_in).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{Clock as _, SystemClock};
    use crate::storage::memory::MemoryStore;
    use crate::storage::signer::PutRequest;

    #[test]
    fn only_refusals_in_a_row_count() {
        let refusals = Refusals::default();
        let denied = || Err(StoreError::AccessDenied("no".into()));
        let down = || Err(StoreError::Unavailable("down".into()));
        for (checked, count) in [
            (denied(), 1),
            (down(), 1),
            (denied(), 2),
            (Ok(()), 0),
            (denied(), 1),
            (denied(), 2),
            (down(), 2),
        ] {
            assert_eq!(refusals.record(&checked), count);
            refusals.require_few().unwrap();
        }
        assert_eq!(refusals.record(&denied()), 3);
        assert!(matches!(refusals.require_few(), Err(SignError::CredentialsRefused)));
        refusals.record(&Err(StoreError::NoSuchBucket));
        refusals.require_few().unwrap();
    }

    #[tokio::test]
    async fn refused_credentials_sign_nothing() {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock))).store("default", None);
        let refusals = Arc::new(Refusals::default());
        let inner = store.unwrap().signer;
        let signer = GuardedSigner { inner, refusals: Arc::clone(&refusals) };
        let (now, ttl) = (SystemClock.now(), TimeDelta::minutes(1));
        let put = PutRequest::default();
        let sign = async || signer.sign("k", Operation::Put(&put), now, ttl).await;
        sign().await.unwrap();
        for _ in 0..MAX_REFUSALS {
            refusals.record(&Err(StoreError::AccessDenied("no".into())));
        }
        let refused = sign().await;
        assert!(matches!(refused, Err(SignError::CredentialsRefused)), "{refused:?}");
    }
}
