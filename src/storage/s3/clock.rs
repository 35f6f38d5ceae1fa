//! The difference between the store's clock and this machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use chrono::{DateTime, TimeDelta};

use crate::domain::clock::{Clock as _, SystemClock};

/// The value before the first response.
const UNKNOWN: i64 = i64::MIN;

/// The difference in the newest response, in seconds.
#[derive(Debug, Clone)]
pub(in crate::storage) struct ClockOffset(Arc<AtomicI64>);

impl Default for ClockOffset {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl ClockOffset {
    /// The store's time minus this machine's time.
    pub(in crate::storage) fn get(&self) -> Option<TimeDelta> {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => None,
            seconds => TimeDelta::try_seconds(seconds),
        }
    }
}

/// The store's time minus this machine's time, according to the header `Date` of a response.
pub(super) fn offset(response: &HttpResponse) -> Option<TimeDelta> {
    offset_by(response.headers().get("date")?)
}

/// The store's time minus this machine's time, according to the value of a header `Date`.
pub(in crate::storage) fn offset_by(date: &str) -> Option<TimeDelta> {
    let date = DateTime::parse_from_rfc2822(date).ok()?;
    Some(date.to_utc() - SystemClock.now())
}

impl ClockOffset {
    /// Records the difference in a response.
    pub(in crate::storage) fn set(&self, offset: TimeDelta) {
        self.0.store(offset.num_seconds(), Ordering::Relaxed);
    }
}

impl Intercept for ClockOffset {
    fn name(&self) -> &'static str {
        "ClockOffset"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(offset) = offset(context.response()) {
            self.set(offset);
        }
        Ok(())
    }
}
