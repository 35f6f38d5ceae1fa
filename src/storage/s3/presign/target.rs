//! The address of signed requests: the host that is signed, and the path below it.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use crate::storage::signer::KeyError;

/// `SigV4` encodes all characters except the unreserved ones of RFC 3986. In paths it does not
/// encode `/` either (AWS, "Create a signed request", `UriEncode`).
pub(super) const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Why requests can't be signed for an endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// The scheme is neither http nor https.
    #[error("an endpoint must begin with http:// or https://")]
    Scheme,
    /// The endpoint has a path. S3's signature covers the path, so a proxy that removes a prefix
    /// would make every signature wrong.
    #[error(
        "an endpoint is a scheme, a host and a port; it must not have a path, because a path \
        can't be signed"
    )]
    Path,
    /// The endpoint has credentials, a query or a fragment.
    #[error("an endpoint must not have a user, a query or a fragment")]
    Extra,
    /// The bucket name is invalid.
    #[error("a bucket name must have 3 to 63 of the characters A-Z a-z 0-9 . - _")]
    Bucket,
    /// The region name is invalid.
    #[error("a region may contain only A-Z a-z 0-9 - _")]
    Region,
}

/// A bucket at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https://host:port`. In virtual-host style, the host contains the bucket.
    pub(super) origin: String,
    /// The `Host` header, without a default port.
    pub(super) host: String,
    /// `/bucket` in path style, otherwise empty.
    pub(super) base: String,
    pub(super) bucket: String,
    pub(super) region: String,
}

impl Target {
    /// The bucket at `endpoint`, or at AWS's endpoint of the region. The bucket is in the path if
    /// `path_style` is set, if the endpoint is an IP address, or if the bucket's name is not a
    /// valid host label, as in the AWS SDKs.
    pub fn new(
        endpoint: Option<&Url>,
        region: &str,
        bucket: &str,
        path_style: bool,
    ) -> Result<Self, TargetError> {
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !(3..=63).contains(&bucket.len()) || !plain(bucket, b".-_") {
            return Err(TargetError::Bucket);
        }
        if !plain(region, b"-_") {
            return Err(TargetError::Region);
        }
        let (scheme, authority, is_ip) = match endpoint {
            Some(url) => Self::parts(url)?,
            None => ("https", aws_host(region), false),
        };
        // A certificate for `*.s3.region.amazonaws.com` does not cover a name with more dots.
        let label =
            bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let (host, base) = if path_style || is_ip || !label {
            (authority, format!("/{bucket}"))
        } else {
            (format!("{bucket}.{authority}"), String::new())
        };
        Ok(Self {
            origin: format!("{scheme}://{host}"),
            host,
            base,
            bucket: bucket.to_owned(),
            region: region.to_owned(),
        })
    }

    fn parts(url: &Url) -> Result<(&'static str, String, bool), TargetError> {
        let scheme = match url.scheme() {
            "http" => "http",
            "https" => "https",
            _ => return Err(TargetError::Scheme),
        };
        if !matches!(url.path(), "" | "/") {
            return Err(TargetError::Path);
        }
        let extra = url.query().is_some() || url.fragment().is_some();
        if extra || !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Extra);
        }
        let host = url.host().ok_or(TargetError::Scheme)?;
        let is_ip = !matches!(host, Host::Domain(_));
        let mut authority = host.to_string();
        // `port` is `None` if it is the default of the scheme, which HTTP clients omit in `Host`.
        if let Some(port) = url.port() {
            let _ = write!(authority, ":{port}");
        }
        Ok((scheme, authority, is_ip))
    }

    /// The path of an object, encoded.
    pub(super) fn object_path(&self, key: &str) -> Result<String, KeyError> {
        KeyError::check(key)?;
        let mut path = String::with_capacity(self.base.len() + key.len() + 16);
        path.push_str(&self.base);
        path.push('/');
        path.extend(utf8_percent_encode(key, PATH));
        Ok(path)
    }

    /// The URL of the bucket itself. Forms are posted to it.
    pub fn bucket_url(&self) -> String {
        let path = if self.base.is_empty() { "/" } else { &self.base };
        format!("{}{path}", self.origin)
    }

    /// An object's URL without a signature, for preflight requests.
    pub fn object_url(&self, key: &str) -> Result<String, KeyError> {
        Ok(format!("{}{}", self.origin, self.object_path(key)?))
    }
}

fn aws_host(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("s3.{region}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(endpoint: &str, bucket: &str, path_style: bool) -> Result<Target, TargetError> {
        Target::new(Some(&endpoint.parse().unwrap()), "us-east-1", bucket, path_style)
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        for (endpoint, bucket, path_style, url, host) in [
            ("http://s3:9000", "music", true, "http://s3:9000/music/k", "s3:9000"),
            ("http://s3:9000", "music", false, "http://music.s3:9000/k", "music.s3:9000"),
            ("https://s3:443/", "music", false, "https://music.s3/k", "music.s3"),
            ("http://127.0.0.1:80", "music", false, "http://127.0.0.1/music/k", "127.0.0.1"),
            ("http://[::1]:9000", "music", false, "http://[::1]:9000/music/k", "[::1]:9000"),
            ("https://s3", "my.music", false, "https://s3/my.music/k", "s3"),
            ("http://s3", "my.music", false, "http://s3/my.music/k", "s3"),
            ("https://s3", "My_music", false, "https://s3/My_music/k", "s3"),
        ] {
            let target = target(endpoint, bucket, path_style).unwrap();
            assert_eq!(target.object_url("k").unwrap(), url);
            assert_eq!(target.host, host);
        }
        let aws = Target::new(None, "cn-north-1", "music", false).unwrap();
        assert_eq!(aws.bucket_url(), "https://music.s3.cn-north-1.amazonaws.com.cn/");
    }

    #[test]
    fn an_endpoint_that_cannot_be_signed_for_is_refused() {
        for (endpoint, bucket, error) in [
            ("http://s3/minio", "music", TargetError::Path),
            ("http://user@s3", "music", TargetError::Extra),
            ("http://s3/?a", "music", TargetError::Extra),
            ("ftp://s3", "music", TargetError::Scheme),
            ("http://s3", "mu", TargetError::Bucket),
            ("http://s3", "a/b", TargetError::Bucket),
        ] {
            assert_eq!(target(endpoint, bucket, true), Err(error), "{endpoint} {bucket}");
        }
    }

    #[test]
    fn a_key_that_clients_would_change_is_refused() {
        let target = target("http://s3", "music", true).unwrap();
        assert_eq!(target.object_url("a/../b"), Err(KeyError::DotSegment));
        assert_eq!(target.object_url(""), Err(KeyError::Length));
        assert_eq!(target.object_url(&"a".repeat(1025)), Err(KeyError::Length));
        assert_eq!(target.object_url("a b+ü/~").unwrap(), "http://s3/music/a%20b%2B%C3%BC/~");
    }
}
