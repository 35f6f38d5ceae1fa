//! `[storage.<name>]`: a bucket and the ways to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::ConfigError;
use super::server::address;
use super::value::{self, Choice, ConfigDuration};

/// The embedded server's bucket where none is named.
const EMBEDDED_BUCKET: &str = "uploads";

/// What kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Any store that speaks S3.
    S3,
    /// The S3 server in this process, over files on this machine.
    Embedded,
}

impl Choice for StoreKind {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("s3", Self::S3), ("embedded", Self::Embedded)];
}

/// `[storage.<name>]`. Texts that are empty in the configuration are `None`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `s3` or `embedded`.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub kind: StoreKind,
    /// The service's own way to the store; none is Amazon's for the region.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub endpoint: Option<String>,
    /// The clients' way, that URLs are signed for; none is the same as `endpoint`.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub public_endpoint: Option<String>,
    /// The region that requests are signed for; none is what the standard `AWS_*`
    /// variables and profiles say.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub region: Option<String>,
    /// The bucket; for `s3` there is no default, because bucket names are global: one
    /// that was guessed could be a stranger's.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub bucket: Option<String>,
    /// Whether the bucket stands in the path rather than in the host; `None` decides by
    /// [`Self::uses_path_style`].
    #[serde(deserialize_with = "value::auto_flag", serialize_with = "value::auto_flag_text")]
    pub path_style: Option<bool>,
    /// None leaves it to the standard `AWS_*` variables, profiles and instance roles.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub access_key_id: Option<String>,
    /// Belongs to `access_key_id`.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret_access_key: Option<SecretString>,
    /// Belongs to temporary access keys.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub session_token: Option<SecretString>,
    /// Whether to find out at start what the store enforces, by a few small objects.
    #[serde(deserialize_with = "value::flag")]
    pub probe: bool,
    /// How long a connection may take to come up.
    pub connect_timeout: ConfigDuration,
    /// How long one call may take, retries included; bodies are not counted.
    pub operation_timeout: ConfigDuration,
    /// The embedded server's folder.
    pub data_dir: PathBuf,
    /// Where the embedded server listens; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub bind: SocketAddr,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::S3,
            endpoint: None,
            public_endpoint: None,
            region: None,
            bucket: None,
            path_style: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            probe: true,
            connect_timeout: ConfigDuration::from_secs(3),
            operation_timeout: ConfigDuration::from_secs(30),
            data_dir: PathBuf::from("data/s3"),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
        }
    }
}

impl StoreConfig {
    /// The bucket's name. For `s3` one has to be configured: the error names the key.
    pub fn bucket(&self, store: &str) -> Result<&str, ConfigError> {
        match (&self.bucket, self.kind) {
            (Some(bucket), _) => Ok(bucket),
            (None, StoreKind::Embedded) => Ok(EMBEDDED_BUCKET),
            (None, StoreKind::S3) => {
                Err(ConfigError::new(format!("storage.{store}.bucket"), "takes the bucket's name"))
            }
        }
    }

    /// Whether the bucket stands in the path. Decided by itself it does wherever an
    /// endpoint is configured: stores other than Amazon's seldom have a host a bucket.
    pub fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some() || self.kind == StoreKind::Embedded)
    }

    /// The clients' way to the store, where one is configured.
    pub fn public_endpoint(&self) -> Option<&str> {
        self.public_endpoint.as_deref().or(self.endpoint.as_deref())
    }

    /// The endpoint however it is spelled.
    fn endpoint_url(&self) -> Option<Url> {
        self.endpoint.as_deref().and_then(|text| Url::parse(text).ok())
    }

    /// Whether objects of the two would lie in one bucket.
    pub(super) fn same_bucket(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.bucket.is_some() || self.kind == StoreKind::Embedded)
            && self.bucket == other.bucket
            && match self.kind {
                StoreKind::S3 => self.endpoint_url() == other.endpoint_url(),
                StoreKind::Embedded => self.data_dir == other.data_dir,
            }
    }

    pub(super) fn check(&self, store: &str) -> Result<(), ConfigError> {
        let fail = |key: &str, problem: String| {
            Err(ConfigError::new(format!("storage.{store}.{key}"), problem))
        };
        for (key, url) in [("endpoint", &self.endpoint), ("public_endpoint", &self.public_endpoint)]
        {
            match url {
                Some(url) if !is_endpoint(url) => {
                    return fail(
                        key,
                        format!("takes a URL such as https://s3.example.com, not \"{url}\""),
                    );
                }
                _ => {}
            }
        }
        if let Some(bucket) = self.bucket.as_deref().filter(|bucket| !is_bucket(bucket)) {
            let takes = "3 to 63 letters, digits, dots, hyphens and underscores";
            return fail("bucket", format!("takes {takes}, not \"{bucket}\""));
        }
        let twin = match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => Some(("secret_access_key", "access_key_id")),
            (None, Some(_)) => Some(("access_key_id", "secret_access_key")),
            _ => None,
        };
        if let Some((missing, there)) = twin {
            return fail(
                missing,
                format!(
                    "is needed beside {there}; leave out both to use the standard AWS_* variables"
                ),
            );
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return fail(
                "session_token",
                "belongs to an access_key_id, which is missing".to_owned(),
            );
        }
        if self.kind == StoreKind::Embedded && self.endpoint.is_some() {
            return fail(
                "endpoint",
                "is for kind = \"s3\"; the embedded server listens on bind".to_owned(),
            );
        }
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
        ] {
            if timeout.get().is_zero() {
                return fail(key, "takes a duration above zero".to_owned());
            }
        }
        Ok(())
    }
}

pub(super) fn is_endpoint(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}
