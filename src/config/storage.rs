//! `[storage.<name>]`: a bucket, and how the service and its clients reach it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::access_keys;
use super::error::ConfigError;
use super::server::address;
use super::value::{self, Choice, ConfigDuration};

/// The default bucket of the embedded server.
const EMBEDDED_BUCKET: &str = "uploads";

/// The kind of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Any S3-compatible store.
    S3,
    /// A container of Azure Blob Storage.
    Azure,
    /// The S3 server in this process, which stores files on this machine.
    Embedded,
}

impl Choice for StoreKind {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("s3", Self::S3), ("azure", Self::Azure), ("embedded", Self::Embedded)];
}

/// `[storage.<name>]`. Texts that are empty in the configuration are `None`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `s3`, `azure` or `embedded`.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub kind: StoreKind,
    /// The endpoint that the service itself uses. `None` means Amazon's endpoint of the region, or
    /// Azure's endpoint of the account.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub endpoint: Option<String>,
    /// The endpoint in the URLs for clients; `None` means the same as `endpoint`.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub public_endpoint: Option<String>,
    /// The region in signatures; `None` uses the standard `AWS_*` variables and profiles.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub region: Option<String>,
    /// The bucket, or the container in Azure. Only `embedded` has a default: bucket names are
    /// global, so a default could be the bucket of somebody else.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub bucket: Option<String>,
    /// Whether the bucket's name is in the path of URLs instead of the host. For `None`, see
    /// [`Self::uses_path_style`].
    #[serde(deserialize_with = "value::auto_flag", serialize_with = "value::auto_flag_text")]
    pub path_style: Option<bool>,
    /// `None` uses the standard `AWS_*` variables, profiles and instance roles.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub access_key_id: Option<String>,
    /// Set together with `access_key_id`.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret_access_key: Option<SecretString>,
    /// Set with temporary access keys.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub session_token: Option<SecretString>,
    /// The storage account of `azure`; `None` uses `AZURE_STORAGE_ACCOUNT`.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub account: Option<String>,
    /// One of the account's keys; `None` uses `AZURE_STORAGE_KEY`.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub access_key: Option<SecretString>,
    /// Whether the service tests at start, with a few small objects, what the store enforces.
    #[serde(deserialize_with = "value::flag")]
    pub probe: bool,
    /// The time limit for opening a connection.
    pub connect_timeout: ConfigDuration,
    /// The time limit for a call, including retries, excluding the transfer of bodies.
    pub operation_timeout: ConfigDuration,
    /// The embedded server's folder.
    pub data_dir: PathBuf,
    /// The address of the embedded server; port 0 picks a free one.
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
            account: None,
            access_key: None,
            probe: true,
            connect_timeout: ConfigDuration::from_secs(3),
            operation_timeout: ConfigDuration::from_secs(30),
            data_dir: PathBuf::from("data/s3"),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
        }
    }
}

impl StoreConfig {
    /// The bucket's name. It is an error if none is configured, except for `embedded`.
    pub fn bucket(&self, store: &str) -> Result<&str, ConfigError> {
        match (&self.bucket, self.kind) {
            (Some(bucket), _) => Ok(bucket),
            (None, StoreKind::Embedded) => Ok(EMBEDDED_BUCKET),
            (None, StoreKind::S3 | StoreKind::Azure) => Err(ConfigError::new(
                format!("storage.{store}.bucket"),
                "must be set to the name of the bucket",
            )),
        }
    }

    /// Whether the bucket's name is in the path of URLs. The default is yes if an endpoint is
    /// configured, because stores other than Amazon's rarely have a host for each bucket.
    pub fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some() || self.kind == StoreKind::Embedded)
    }

    /// The endpoint for clients, if one is configured.
    pub fn public_endpoint(&self) -> Option<&str> {
        self.public_endpoint.as_deref().or(self.endpoint.as_deref())
    }

    /// The endpoint in normalised form, for comparisons.
    fn endpoint_url(&self) -> Option<Url> {
        self.endpoint.as_deref().and_then(|text| Url::parse(text).ok())
    }

    /// Whether both stores are the same bucket.
    pub(super) fn same_bucket(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.bucket.is_some() || self.kind == StoreKind::Embedded)
            && self.bucket == other.bucket
            && match self.kind {
                StoreKind::S3 => self.endpoint_url() == other.endpoint_url(),
                // Without an endpoint, the account determines the host.
                StoreKind::Azure => {
                    self.account == other.account && self.endpoint_url() == other.endpoint_url()
                }
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
                        format!("must be a URL such as https://s3.example.com, not \"{url}\""),
                    );
                }
                Some(url) if !has_no_path(url) => {
                    let problem = "must be a URL without a path, because requests to it could not \
                                   be signed";
                    return fail(key, format!("{problem}, not \"{url}\""));
                }
                _ => {}
            }
        }
        if let Some(bucket) = self.bucket.as_deref().filter(|bucket| !is_bucket(bucket)) {
            let problem = "3 to 63 letters, digits, dots, hyphens and underscores";
            return fail("bucket", format!("must be {problem}, not \"{bucket}\""));
        }
        let (id, secret) = (self.access_key_id.as_deref(), self.secret_access_key.as_ref());
        if let Err((key, problem)) = access_keys::check(id, secret, self.session_token.as_ref()) {
            return fail(key, problem);
        }
        self.check_account().or_else(|(key, problem)| fail(key, problem))?;
        if self.kind == StoreKind::Embedded && self.endpoint.is_some() {
            return fail(
                "endpoint",
                "is not for kind = \"embedded\", whose address is the setting bind".to_owned(),
            );
        }
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
        ] {
            if timeout.get().is_zero() {
                return fail(key, "must be a duration above zero".to_owned());
            }
        }
        Ok(())
    }
}

impl StoreConfig {
    /// Checks that keys of Azure are set only for `azure`, and that S3's access keys are not set
    /// for it. Checks the names of an Azure account and container.
    fn check_account(&self) -> Result<(), (&'static str, String)> {
        if self.kind != StoreKind::Azure {
            let set =
                [("account", self.account.is_some()), ("access_key", self.access_key.is_some())];
            return match set.into_iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => Err((key, "is only for kind = \"azure\"".to_owned())),
                None => Ok(()),
            };
        }
        if self.access_key_id.is_some() {
            let instead =
                "is only for kind = \"s3\"; for kind = \"azure\", set account and access_key";
            return Err(("access_key_id", instead.to_owned()));
        }
        let is_lower_case = |text: &str, more: &[u8]| {
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b))
        };
        if let Some(account) = &self.account
            && !((3..=24).contains(&account.len()) && is_lower_case(account, b""))
        {
            let problem = "must be the name of a storage account, 3 to 24 lower-case letters and \
                           digits";
            return Err(("account", format!("{problem}, not \"{account}\"")));
        }
        if let Some(container) = &self.bucket
            && !(is_lower_case(container, b"-")
                && container.split('-').all(|part| !part.is_empty()))
        {
            let problem = "must be the name of a container, 3 to 63 lower-case letters, digits and \
                           single hyphens";
            return Err(("bucket", format!("{problem}, not \"{container}\"")));
        }
        Ok(())
    }
}

fn has_no_path(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.path(), "" | "/"))
}

/// Whether a text is an http or https URL without credentials, query and fragment.
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
