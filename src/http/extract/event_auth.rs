//! Authentication of the senders of bucket events.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::OwnedSemaphorePermit;

use super::bearer;
use crate::auth::sns::Sns;
use crate::http::problem::{ApiError, Code};
use crate::http::state::{EventAuth, SecurityConfig};

/// A header that every request from SNS has.
pub(super) const SNS_MESSAGE_TYPE: &str = "x-amz-sns-message-type";

/// A sender that presented the token in `events.token` of the configuration.
pub struct EventSender(EventAuth);

impl EventSender {
    /// Waits for a permit to process a message.
    pub async fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = Arc::clone(&self.0.permits);
        permits.acquire_owned().await.map_err(|_| ApiError::new(Code::Unavailable))
    }

    /// The verifier of messages from SNS.
    pub fn sns(&self) -> Result<&Sns, ApiError> {
        let sns = self.0.sns.as_deref();
        sns.ok_or_else(|| ApiError::saying(Code::Disabled, "Messages from SNS are not accepted"))
    }
}

impl FromRequest for EventSender {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(authenticate(request))
    }
}

fn authenticate(request: &HttpRequest) -> Result<EventSender, ApiError> {
    let security = request.app_data::<Data<SecurityConfig>>();
    let auth = security.map(|security| &security.event_auth);
    let Some((auth, token)) = auth.and_then(|auth| Some((auth, auth.token.as_ref()?))) else {
        let detail = "Bucket events are not accepted: events.token is not configured";
        return Err(ApiError::saying(Code::Disabled, detail));
    };
    let presented = presented(request.headers());
    if presented.is_some_and(|presented| equal(&presented, token.expose_secret().as_bytes())) {
        Ok(EventSender(auth.clone()))
    } else {
        Err(unauthorized(request))
    }
}

/// The token in `Authorization: Bearer TOKEN`, or the password in `Authorization: Basic`. Senders
/// that are configured only with a URL, such as SNS, send the credentials in the URL as `Basic`.
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    if let Some(token) = bearer(headers) {
        return Some(token.as_bytes().to_vec());
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    credentials.get(colon + 1..).map(<[u8]>::to_vec)
}

/// The 401 response. SNS sends the credentials in its URL only after a challenge for a scheme that
/// it supports. It supports only Basic.
fn unauthorized(request: &HttpRequest) -> ApiError {
    let challenges = if request.headers().contains_key(SNS_MESSAGE_TYPE) {
        "Basic realm=\"upload-coordinator\""
    } else if request.headers().contains_key(header::AUTHORIZATION) {
        "Bearer realm=\"upload-coordinator\", error=\"invalid_token\", \
         Basic realm=\"upload-coordinator\""
    } else {
        "Bearer realm=\"upload-coordinator\", Basic realm=\"upload-coordinator\""
    };
    let detail = "Send the token of events.token as Authorization: Bearer TOKEN, or as the password \
                  of HTTP Basic authentication";
    ApiError::saying(Code::Unauthorized, detail)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenges))
}

/// Compares the digests in constant time, so that the duration does not reveal the token.
fn equal(presented: &[u8], token: &[u8]) -> bool {
    Sha256::digest(presented).ct_eq(&Sha256::digest(token)).into()
}
