//! Authentication of the senders of bucket events.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bearer;
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// A sender that presented the token of the configuration's `events.token`.
pub struct EventSender(Arc<Semaphore>);

impl EventSender {
    /// Waits for a permit to process a message.
    pub async fn permit(self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.0.acquire_owned().await.map_err(|_| ApiError::new(Code::Unavailable))
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
    let presented = bearer(request.headers());
    if presented.is_some_and(|presented| equal(presented, token.expose_secret())) {
        Ok(EventSender(Arc::clone(&auth.permits)))
    } else {
        let detail = "Send the token of events.token as Authorization: Bearer TOKEN";
        Err(ApiError::unauthorized(detail, presented.is_some()))
    }
}

/// Compares digests, so that the duration does not depend on the token.
fn equal(presented: &str, token: &str) -> bool {
    Sha256::digest(presented).ct_eq(&Sha256::digest(token)).into()
}
