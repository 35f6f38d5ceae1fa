//! Who sends events of a bucket.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::access::{Protection, bearer};
use crate::http::problem::{ApiError, Code};

/// How many messages are worked on at once.
const CONCURRENCY: usize = 16;

/// What events of buckets are taken with.
#[derive(Clone)]
pub struct Intake {
    token: Option<SecretString>,
    places: Arc<Semaphore>,
}

impl Intake {
    /// Takes events from who shows this token; without one, from nobody.
    pub fn new(token: Option<SecretString>) -> Self {
        Self { token, places: Arc::new(Semaphore::new(CONCURRENCY)) }
    }
}

/// A sender that showed the token.
pub struct Sender(Arc<Semaphore>);

impl Sender {
    /// Waits for a place among the messages that are worked on.
    pub async fn place(self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.0.acquire_owned().await.map_err(|_| ApiError::new(Code::Unavailable))
    }
}

impl FromRequest for Sender {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(admit(request))
    }
}

fn admit(request: &HttpRequest) -> Result<Sender, ApiError> {
    let intake = request.app_data::<Data<Protection>>().map(|protection| &protection.intake);
    let Some((intake, token)) = intake.and_then(|i| Some((i, i.token.as_ref()?))) else {
        return Err(ApiError::saying(Code::Disabled, "Events are not taken: no events.token"));
    };
    let shown = bearer(request.headers());
    if shown.is_some_and(|shown| same(shown, token.expose_secret())) {
        Ok(Sender(Arc::clone(&intake.places)))
    } else {
        let sentence = "Authorization must be Bearer and the token of the events";
        Err(ApiError::unauthorized(sentence, shown.is_some()))
    }
}

/// Compares digests, so that the time it takes tells nothing of the token.
fn same(shown: &str, token: &str) -> bool {
    Sha256::digest(shown).ct_eq(&Sha256::digest(token)).into()
}
