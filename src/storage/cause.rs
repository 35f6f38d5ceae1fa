//! Why a store cannot be used, as one sentence with the fix.
//!
//! `readyz` shows these sentences and is public, so they contain the names of settings and never
//! values.

use std::fmt;

use super::{Source, StoreError};

/// A cause that an operator can fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The store does not know the access key.
    UnknownKey,
    /// The secret does not belong to the access key.
    WrongSecret,
    /// The key does not belong to the storage account.
    WrongAccountKey,
    /// The credentials have expired.
    ExpiredCredentials,
    /// No credentials are configured.
    NoCredentials,
    /// The key lacks a permission.
    AccessDenied,
    /// The clocks differ by more than the store accepts.
    ClockSkew,
    /// The bucket is in another region.
    WrongRegion,
    /// The bucket does not exist.
    NoSuchBucket,
    /// The host name has no address.
    Dns,
    /// The host name of the storage account has no address.
    NoSuchAccount,
    /// Nothing listens at the endpoint.
    ConnectionRefused,
    /// Nothing responds at the endpoint.
    Timeout,
    /// The certificate is not trusted, or the endpoint does not speak TLS.
    Tls,
    /// The endpoint is not an S3 server.
    NotAStore,
    /// The disk of the store is full.
    Full,
    /// The store limits the rate of requests.
    Throttled,
    /// The store had an internal error.
    ServerError,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 18] = [
        Self::UnknownKey,
        Self::WrongSecret,
        Self::WrongAccountKey,
        Self::ExpiredCredentials,
        Self::NoCredentials,
        Self::AccessDenied,
        Self::ClockSkew,
        Self::WrongRegion,
        Self::NoSuchBucket,
        Self::Dns,
        Self::NoSuchAccount,
        Self::ConnectionRefused,
        Self::Timeout,
        Self::Tls,
        Self::NotAStore,
        Self::Full,
        Self::Throttled,
        Self::ServerError,
    ];

    /// The error and the fix. The keys are those of the store's section of the configuration.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::UnknownKey => {
                "the store does not know the access key: set access_key_id to a key of this store"
            }
            Self::WrongSecret => {
                "the secret does not belong to the access key: correct secret_access_key"
            }
            Self::WrongAccountKey => {
                "the store refuses the account's key: correct account and access_key"
            }
            Self::ExpiredCredentials => {
                "the credentials have expired: renew access_key_id, secret_access_key and \
                 session_token, or the role that they come from"
            }
            Self::NoCredentials => {
                "no credentials were found: set access_key_id and secret_access_key, or the \
                 standard AWS_* variables, profile or role"
            }
            Self::AccessDenied => {
                "the access key lacks a permission: allow it to list, read, write and delete in \
                 the bucket"
            }
            Self::ClockSkew => {
                "this machine's clock and the store's differ by more than 15 minutes: synchronise both \
                 with NTP"
            }
            Self::WrongRegion => "the bucket is in another region: correct region",
            Self::NoSuchBucket => "the bucket does not exist: create it, or correct bucket",
            Self::Dns => {
                "the host name of the store has no address: correct endpoint, region or bucket, or \
                 check the DNS"
            }
            Self::NoSuchAccount => {
                "the host name of the storage account has no address: correct account or \
                 endpoint, or check the DNS"
            }
            Self::ConnectionRefused => {
                "nothing listens at the address of the store: correct endpoint, or start the store"
            }
            Self::Timeout => {
                "the store does not respond in time: check the network and firewalls between this \
                 machine and the endpoint"
            }
            Self::Tls => {
                "no trusted TLS connection to the store: check whether endpoint must begin with http \
                 or https, and that its certificate is valid for this host"
            }
            Self::NotAStore => {
                "the endpoint responds, but not as an S3 store: correct endpoint (the port of a \
                 console or a proxy is a common mistake)"
            }
            Self::Full => "the store is full: free or add disk space there",
            Self::Throttled => {
                "the store limits the rate of requests: reduce the load, or raise the store's limit"
            }
            Self::ServerError => "the store had an internal error: read the log of the store",
        }
    }

    /// What is wrong.
    pub fn saw(self) -> &'static str {
        self.sentence().split_once(": ").map_or("", |(saw, _)| saw)
    }

    /// What to do about it.
    pub fn mend(self) -> &'static str {
        self.sentence().split_once(": ").map_or("", |(_, mend)| mend)
    }

    /// Whether a later attempt may succeed although the operator changes nothing.
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::NoSuchAccount
                | Self::ConnectionRefused
                | Self::Timeout
                | Self::Full
                | Self::Throttled
                | Self::ServerError
        )
    }
}

/// The source of a [`StoreError`] with a known cause. It replaces the error of the client library,
/// whose text has few details and may contain a signed request.
#[derive(Debug)]
pub struct Explained {
    /// The cause.
    pub cause: Cause,
    /// What the response showed, for the log: a status, an error code.
    pub seen: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause.sentence(), self.seen)
    }
}

impl std::error::Error for Explained {}

impl StoreError {
    /// The cause, if it is known.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::NoSuchBucket => Some(Cause::NoSuchBucket),
            _ => self.explained().map(|explained| explained.cause),
        }
    }

    /// The cause and what the response showed, if they are known.
    pub fn explained(&self) -> Option<&Explained> {
        let source: &Source = match self {
            Self::AccessDenied(source)
            | Self::Unavailable(source)
            | Self::Full(source)
            | Self::Refused { source, .. } => source,
            Self::NoSuchBucket
            | Self::PreconditionFailed
            | Self::NoSuchMultipart
            | Self::Protocol(_)
            | Self::Body(_) => return None,
        };
        source.downcast_ref()
    }

    /// Whether the same call may succeed later although the operator changes nothing.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) => self.cause().is_none_or(Cause::is_temporary),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_one_sentence_with_what_to_do() {
        for cause in Cause::ALL {
            let sentence = cause.sentence();
            let (saw, mend) = sentence.split_once(": ").unwrap();
            assert!(!saw.is_empty() && !mend.is_empty() && !sentence.ends_with('.'), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("  "), "{sentence}");
        }
    }
}
