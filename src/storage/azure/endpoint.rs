//! The address of a container: its URL, and the names in it that signatures contain.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// RFC 3986's unreserved characters are not encoded.
pub(super) const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Why a container's address is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a scheme, a host and a port.
    #[error("must be a scheme (http or https), a host and a port, without a path")]
    Url,
    /// The account's name is invalid.
    #[error("a storage account's name has 3 to 24 lowercase letters and digits")]
    Account,
    /// The container's name is invalid.
    #[error("a container's name has 3 to 63 lowercase letters, digits and single hyphens")]
    Container,
}

/// A container at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://host:port`.
    origin: String,
    /// `/account` if the account is in the path instead of the host, otherwise empty.
    base: String,
    account: String,
    container: String,
}

impl Endpoint {
    /// The container at `endpoint`, or at the account's endpoint in Azure's public cloud.
    /// `path_style`: whether the account is in the path, as with Azurite. `None`: it is, unless
    /// the first label of the host is the account.
    pub(super) fn new(
        endpoint: Option<&Url>,
        account: &str,
        container: &str,
        path_style: Option<bool>,
    ) -> Result<Self, EndpointError> {
        let small = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !(3..=24).contains(&account.len()) || !small(account) {
            return Err(EndpointError::Account);
        }
        // "Naming and referencing containers, blobs, and metadata"
        if !(3..=63).contains(&container.len()) || !container.split('-').all(small) {
            return Err(EndpointError::Container);
        }
        let Some(url) = endpoint else {
            return Ok(Self {
                origin: format!("https://{account}.blob.core.windows.net"),
                base: String::new(),
                account: account.to_owned(),
                container: container.to_owned(),
            });
        };
        let host = url.host().ok_or(EndpointError::Url)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !plain {
            return Err(EndpointError::Url);
        }
        let in_host = match &host {
            Host::Domain(name) => name.split('.').next() == Some(account),
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        let mut origin = format!("{}://{host}", url.scheme());
        if let Some(port) = url.port() {
            let _ = write!(origin, ":{port}");
        }
        let base =
            if path_style.unwrap_or(!in_host) { format!("/{account}") } else { String::new() };
        Ok(Self { origin, base, account: account.to_owned(), container: container.to_owned() })
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// Whether clients reach it over TLS only.
    pub(super) fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// The path of the account, encoded.
    pub(super) fn service_path(&self) -> String {
        format!("{}/", self.base)
    }

    /// The path of the container, encoded.
    pub(super) fn container_path(&self) -> String {
        format!("{}/{}", self.base, self.container)
    }

    /// The path of a blob, encoded.
    pub(super) fn blob_path(&self, key: &str) -> String {
        format!("{}/{}", self.container_path(), utf8_percent_encode(key, PATH))
    }

    /// The URL of a path and a query.
    pub(super) fn url<'a>(
        &self,
        path: &str,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> String {
        let mut url = format!("{}{path}", self.origin);
        for (nth, (name, value)) in query.into_iter().enumerate() {
            let value = utf8_percent_encode(value, QUERY);
            let _ = write!(url, "{}{name}={value}", if nth == 0 { '?' } else { '&' });
        }
        url
    }
}
