//! The path prefix `/t/{token}`: an upload token as the credential of clients that cannot send
//! headers.
//!
//! The prefix is removed before routing, so that `/t/{token}/api/uploads` is the route
//! `/api/uploads`. The token in the path is the credential; an `Authorization` header is then
//! ignored. Only one prefix is removed. The token never reaches the log: the path that is logged is
//! [`LoggedPath`].

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse, Url};
use actix_web::guard::GuardContext;
use actix_web::http::Uri;
use actix_web::http::header::ORIGIN;
use actix_web::http::uri::PathAndQuery;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::{api_key, upload_token};
use crate::http::state::HttpState;

/// The beginning of paths with a token.
const PREFIX: &str = "/t/";

/// The text that replaces a secret in the log.
const REDACTED: &str = "[redacted]";

/// The upload token in the path of a request.
#[derive(Debug, Clone)]
pub(in crate::http) struct PathToken(SecretString);

/// The path of a request without secrets, for logs and traces.
#[derive(Debug, Clone)]
pub(in crate::http) struct LoggedPath(pub String);

/// Marks a request in its extensions: the token in the path allows the origin of the request.
struct AllowedOrigin;

impl PathToken {
    /// The token.
    pub(in crate::http) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The prefix of URLs in responses.
    pub(in crate::http) fn prefix(&self) -> String {
        format!("{PREFIX}{}", self.expose())
    }
}

/// Removes the prefix, and finds out whether the token allows the origin of the request.
pub(in crate::http) async fn strip_token_prefix<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let split = split(request.path());
    if let Some((token, remaining)) = split
        && let Some(uri) = with_path(request.uri(), &remaining)
    {
        let logged = format!("{PREFIX}{REDACTED}{}", redact(&remaining));
        request.match_info_mut().set(Url::new(uri.clone()));
        request.head_mut().uri = uri;
        let allowed = is_allowed_origin(&request, &token).await;
        let mut extensions = request.extensions_mut();
        extensions.insert(PathToken(token.into()));
        extensions.insert(LoggedPath(logged));
        if allowed {
            extensions.insert(AllowedOrigin);
        }
    } else if may_have_secret(request.path()) {
        let logged = LoggedPath(redact(request.path()));
        request.extensions_mut().insert(logged);
    }
    next.call(request).await
}

/// A guard that selects requests whose origin the token in the path allows. This works for
/// preflight requests too, whose only credential is the path.
pub(in crate::http) fn is_allowed_by_token(context: &GuardContext<'_>) -> bool {
    context.req_data().contains::<AllowedOrigin>()
}

/// Splits a path that begins with `/t/` into the token and the remaining path. The token may be
/// percent-encoded.
fn split(path: &str) -> Option<(String, String)> {
    let behind = path.strip_prefix(PREFIX)?;
    let (token, remaining) = behind.split_once('/').unwrap_or((behind, ""));
    let token = percent_decode_str(token).decode_utf8_lossy().into_owned();
    Some((token, format!("/{remaining}")))
}

/// The same URI with another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

async fn is_allowed_origin(request: &ServiceRequest, token: &str) -> bool {
    let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let state = request.app_data::<Data<HttpState>>();
    let (Some(origin), Some(state)) = (origin, state) else { return false };
    match state.app.token_verifier.allows_origin(token, origin).await {
        Ok(allowed) => allowed,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the origins of an upload token could not be read");
            false
        }
    }
}

/// Whether a path may contain a secret. A path with `%` may contain an encoded one.
fn may_have_secret(path: &str) -> bool {
    path.contains('%') || has_secret(path)
}

fn has_secret(text: &str) -> bool {
    [upload_token::PREFIX, api_key::PREFIX].iter().any(|prefix| text.contains(prefix))
}

/// The path without segments that contain tokens or API keys, even if they are encoded several
/// times.
fn redact(path: &str) -> String {
    let segment = |segment: &str| {
        let mut text = segment.to_owned();
        loop {
            if has_secret(&text) {
                return REDACTED.to_owned();
            }
            let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
            if decoded == text {
                return segment.to_owned();
            }
            text = decoded;
        }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_split_into_token_and_path() {
        let parts = |path| split(path).map(|(token, remaining)| format!("{token} {remaining}"));
        assert_eq!(parts("/t/upt_1/api/uploads").unwrap(), "upt_1 /api/uploads");
        assert_eq!(parts("/t/%75pt_1/api/uploads/a").unwrap(), "upt_1 /api/uploads/a");
        assert_eq!(parts("/t/upt_1").unwrap(), "upt_1 /");
        assert_eq!(parts("/t/upt_1/t/upt_2/api").unwrap(), "upt_1 /t/upt_2/api");
        assert_eq!(parts("/t/a%2fapi%2fuploads").unwrap(), "a/api/uploads /");
        for other in ["/t", "/T/upt_1/api", "/tracks/t/upt_1", "/api/uploads", "/%74/upt_1/api"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn a_logged_path_has_no_token_however_it_is_written() {
        for path in [
            "/t/upt_0123/api",
            "/api/uploads/upt_0123",
            "/%74/%75pt_0123/api",
            "/t/a/t/u%70t_0123",
            "/x/%2575pt_0123",
            "/x/%25%32%35%37%35pt_0123/y",
            "/uck_0123",
        ] {
            let logged = redact(path);
            assert!(logged.contains(REDACTED) && !logged.contains("0123"), "{path}: {logged}");
        }
        for path in ["/", "/api/uploads/0190a6f2", "/api/tracks/1/upload/a%20b.mp3", "/%ff%"] {
            assert_eq!(redact(path), path);
        }
    }

    #[test]
    fn a_path_is_replaced_and_the_query_stays() {
        let uri = Uri::from_static("/t/x/api/uploads?limit=1");
        assert_eq!(with_path(&uri, "/api/uploads").unwrap(), "/api/uploads?limit=1");
        let absolute = Uri::from_static("http://host:80/t/x/api");
        assert_eq!(with_path(&absolute, "/api").unwrap(), "http://host:80/api");
    }
}
