//! Checks for browsers: form uploads and CORS.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;

use super::response::S3Response as _;
use super::{Check, EXPIRES_IN, Prober, Step};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::object_settings::ObjectSettings;
use crate::net::Response;
use crate::storage::probe::BrowserClient;
use crate::storage::s3::CorsRule;
use crate::storage::signer::{PostRequest, PutRequest, SignedRequest};

const BOUNDARY: &str = "upload-coordinator-probe";
/// The origin to check if none is configured. The domain is reserved (RFC 6761).
const SOME_ORIGIN: &str = "https://app.invalid";
impl Prober<'_> {
    pub(super) async fn post_policy(&self) -> Step<Check> {
        let key = self.key("form");
        let request = PostRequest {
            content_type: Some("audio/mpeg".into()),
            size: Some((1, 5)),
            metadata: [("artist".to_owned(), "probe".to_owned())].into(),
            object: ObjectSettings::default(),
            with_location: false,
        };
        let now = self.clock.now();
        let signed = self.store.signer.post(&key, &request, now, EXPIRES_IN).await?;
        let good = self.post(&signed, "12345").await?;
        let size = self.store.objects.head(&key).await?.map(|meta| meta.size);
        let arrived = good.is_success() && size == Some(5);
        let before = self.etag(&key).await?;
        let long = self.post(&signed, "123456").await?;
        let held = long.is_refusal() && self.etag(&key).await? == before;
        self.learn(|can| can.post_policy = arrived && held);
        let mend = "Let clients use PUT: the strategy `post` does not work with this store.";
        Ok(if !arrived {
            let saw = format!("a form upload returns {}", good.summary());
            Check::warn("post_policy", saw, mend)
        } else if !held {
            let saw = format!("a form with a file that is too large returns {}", long.summary());
            Check::warn("post_policy", saw, mend)
        } else {
            Check::pass(
                "post_policy",
                "form uploads work, and files that are too large are refused",
            )
        })
    }

    pub(super) async fn post(&self, signed: &SignedRequest, file: &str) -> Step<Response> {
        let mut form = String::new();
        for (name, value) in signed.fields.iter().flatten() {
            let _ = write!(
                form,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        let _ = write!(
            form,
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"probe\"\r\n\
             Content-Type: audio/mpeg\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n"
        );
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let headers = [("content-type", kind.as_str())];
        Ok(self.http.request("POST", &signed.url, headers, Bytes::from(form)).await?)
    }

    /// Checks the preflight, and whether a script may read the ETag of the response.
    pub(super) async fn cors(&self) -> Step<Check> {
        let request = PutRequest {
            content_type: Some("audio/mpeg".into()),
            checksum: Some(Checksum::of(Algorithm::Sha256, b"")),
            write_once: true,
            metadata: [("artist".to_owned(), "probe".to_owned())].into(),
            ..PutRequest::default()
        };
        let signed = self.sign_put(&self.key("cors"), &request).await?;
        let headers: Vec<&str> = signed.headers.keys().map(String::as_str).collect();
        let requests = [("PUT", &headers[..])];
        let uploads = BrowserClient { check: "cors", requests: &requests, exposed: &["etag"] };
        self.client_cors(&uploads).await
    }

    /// Checks whether preflights allow a client's requests, and whether the client may read the
    /// headers that it needs.
    pub(super) async fn client_cors(&self, client: &BrowserClient<'_>) -> Step<Check> {
        if client.requests.is_empty() {
            let saw = "its files go through this service: the bucket needs no CORS rule";
            return Ok(Check::pass(client.check, saw));
        }
        let default = [SOME_ORIGIN.to_owned()];
        let origins = if self.origins.is_empty() { &default[..] } else { self.origins };
        let mut missing = Vec::new();
        for origin in origins {
            if let Some(what) = self.refused_to(origin, client).await? {
                missing.push(format!("{origin}: {what}"));
            }
        }
        if missing.is_empty() {
            let saw = format!("browsers may upload from {}", origins.join(", "));
            return Ok(Check::pass(client.check, saw));
        }
        let allowed = if self.origins.is_empty() { &["*".to_owned()][..] } else { self.origins };
        let rules = json!({ "CORSRules": [CorsRule::for_uploads(allowed)] });
        let mend = format!("Run `doctor --fix cors`, or put these rules on the bucket:\n{rules}");
        let saw = missing.join("; ");
        // Without a configured origin, possibly no browser uploads to this store.
        Ok(if self.origins.is_empty() {
            Check::warn(client.check, saw, &mend)
        } else {
            Check::fail(client.check, saw, &mend)
        })
    }

    /// The reason why CORS refuses pages of an origin; `None` if they may upload.
    async fn refused_to(&self, origin: &str, client: &BrowserClient<'_>) -> Step<Option<String>> {
        let key = self.key("cors");
        let signed = self.sign_put(&key, &PutRequest::default()).await?;
        let mut settings = BTreeSet::new();
        for object in self.objects.values() {
            let request = PutRequest { object: object.clone(), ..PutRequest::default() };
            settings.extend(self.sign_put(&key, &request).await?.headers.into_keys());
        }
        for (method, headers) in client.requests {
            let settings = settings.iter().filter(|_| *method == "PUT").map(String::as_str);
            let headers: Vec<&str> = headers.iter().copied().chain(settings).collect();
            if let Some(what) = self.preflight(&signed.url, origin, method, &headers).await? {
                return Ok(Some(what));
            }
        }
        if client.exposed.is_empty() {
            return Ok(None);
        }
        let headers = signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers = headers.chain([("origin", origin)]);
        let put = self.http.request("PUT", &signed.url, headers, Bytes::new()).await?;
        let exposed = put.headers.get("access-control-expose-headers").map_or("", String::as_str);
        let readable = |name: &str| {
            exposed.split(',').any(|h| h.trim() == "*" || h.trim().eq_ignore_ascii_case(name))
        };
        let hidden = client.exposed.iter().find(|name| !readable(name));
        Ok(hidden.map(|name| match *name {
            "etag" => "scripts may not read the ETag, which multipart needs".to_owned(),
            name => format!("scripts may not read the header {name}"),
        }))
    }

    /// What a preflight refuses. `None` if it allows the request. Browsers send the names of
    /// headers in alphabetical order.
    async fn preflight(
        &self,
        url: &str,
        origin: &str,
        method: &str,
        headers: &[&str],
    ) -> Step<Option<String>> {
        let names = headers.join(",");
        let mut preflight = vec![("origin", origin), ("access-control-request-method", method)];
        if !names.is_empty() {
            preflight.push(("access-control-request-headers", &names));
        }
        let response = self.http.request("OPTIONS", url, preflight, Bytes::new()).await?;
        let allows = |name: &str, allowed: &str| {
            let value = response.headers.get(name).map_or("", String::as_str);
            value.split(',').any(|v| v.trim() == "*" || v.trim().eq_ignore_ascii_case(allowed))
        };
        if !response.is_success() {
            return Ok(Some(format!("a preflight for {method} returns {}", response.summary())));
        }
        if !allows("access-control-allow-origin", origin) {
            return Ok(Some("the origin is not allowed".into()));
        }
        if !allows("access-control-allow-methods", method) {
            return Ok(Some(format!("{method} is not allowed")));
        }
        let refused = headers.iter().find(|h| !allows("access-control-allow-headers", h));
        Ok(refused.map(|header| format!("the header {header} is not allowed")))
    }
}
