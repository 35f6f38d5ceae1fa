//! Webhook deliveries: which events are sent to which endpoints, and when a failed delivery is
//! repeated.

use std::str::FromStr;

use chrono::TimeDelta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::checksum::Checksum;
use super::clock::Timestamp;
use super::ids::UploadId;
use super::subject::Subject;
use super::upload::{State, Status, Upload};

/// How long a delivery is attempted.
pub const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);

/// The types of events.
pub const EVENTS: [&str; 7] = [
    "upload.inspecting",
    "upload.uploaded",
    "upload.rejected",
    "upload.expired",
    "upload.cancelled",
    "upload.missing",
    "upload.removed",
];

/// A subscriber: an endpoint and its events.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The name of the endpoint: `[webhooks.<name>]`.
    pub name: String,
    /// Only these events; an empty list means all.
    pub events: Vec<String>,
}

impl Subscriber {
    /// Whether the endpoint receives this event.
    pub fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|subscribed| subscribed == event)
    }
}

/// The status of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// Due, scheduled, or being sent.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// Given up. An administrator may send it again.
    Dead,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

impl FromStr for DeliveryStatus {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(())
    }
}

/// The delivery of one event to one endpoint.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The value of `webhook-id`. It is the same in every attempt.
    pub id: Uuid,
    /// The name of the endpoint.
    pub endpoint: String,
    /// The upload.
    pub upload: UploadId,
    /// The type of the event, such as `upload.uploaded`.
    pub event: String,
    /// The exact body.
    pub payload: String,
    /// The status.
    pub status: DeliveryStatus,
    /// The number of attempts.
    pub attempts: i32,
    /// The time of the next attempt, if it is pending.
    pub next_attempt_at: Timestamp,
    /// The time after which it is given up.
    pub give_up_at: Timestamp,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// When the upload changed.
    pub created_at: Timestamp,
    /// When the receiver accepted it.
    pub delivered_at: Option<Timestamp>,
}

/// The event for a status; `None` for `pending`.
pub fn event_of(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::Pending => return None,
        Status::Inspecting => "upload.inspecting",
        Status::Uploaded => "upload.uploaded",
        Status::Rejected => "upload.rejected",
        Status::Expired => "upload.expired",
        Status::Cancelled => "upload.cancelled",
        Status::Missing => "upload.missing",
        Status::Removed => "upload.removed",
    })
}

/// The id of the delivery of a change to an endpoint. The same change always has the same id.
pub fn delivery_id(endpoint: &str, upload: &Upload) -> Uuid {
    let text = format!("{endpoint}\n{}\n{}", upload.id, upload.version);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The JSON body: `type`, `timestamp` and `data`, the upload as in the API.
pub fn message(event: &str, upload: &Upload) -> String {
    json!({"type": event, "timestamp": upload.updated_at, "data": data(upload)}).to_string()
}

/// An upload as in the API.
pub fn data(upload: &Upload) -> Value {
    let arrived = upload.state.arrived();
    let verified = upload.state.verified();
    let facts = upload.state.facts();
    let declared = &upload.declared;
    let checksum = facts.map_or(declared.checksum.as_ref(), |facts| facts.checksum.as_ref());
    let reason = match &upload.state {
        State::Rejected { reason, .. } => Some(reason.name()),
        State::Removed { reason, .. } => Some(reason.name()),
        _ => None,
    };
    json!({
        "id": upload.id,
        "policy": upload.policy.as_str(),
        "track_id": upload.track(),
        "attach_to": upload.subject().map(Subject::as_str),
        "status": upload.status().name(),
        "key": upload.key.as_str(),
        "filename": declared.filename,
        "content_type": facts.map_or(declared.content_type.as_ref(), |f| f.content_type.as_ref()),
        "size": facts.map(|facts| facts.size).or(declared.size),
        "checksum": checksum.map(checksum_value),
        "metadata": upload.metadata,
        "etag": facts.map(|facts| &facts.etag),
        "version_id": facts.and_then(|facts| facts.version_id.as_ref()),
        "confirmed_by": arrived.map(|arrived| arrived.confirmed_by.name()),
        "late": arrived.is_some_and(|arrived| arrived.late),
        "reason": reason,
        "detail": upload.detail,
        "annotations": upload.annotations,
        "created_at": upload.created_at,
        "updated_at": upload.updated_at,
        "uploaded_at": verified.map(|verified| verified.at),
    })
}

fn checksum_value(checksum: &Checksum) -> Value {
    json!({"algorithm": checksum.algorithm().name(), "value": checksum.value()})
}

/// The pause after the n-th failure: 5 s, then three times as long after each failure, up to 4 h,
/// plus up to a fifth of that at random. `chance` is from 0 to 1.
pub fn retry_after(failures: i32, chance: f64) -> TimeDelta {
    let exponent = u32::try_from(failures.clamp(1, 10) - 1).unwrap_or(0);
    let seconds = (5 * 3_i64.pow(exponent)).min(4 * 3600);
    let fifth = TimeDelta::seconds(seconds).as_seconds_f64() / 5.0;
    TimeDelta::seconds(seconds)
        + TimeDelta::from_std(std::time::Duration::from_secs_f64(fifth * chance.clamp(0.0, 1.0)))
            .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_between_retries_grow_and_cover_a_day() {
        let seconds = |n| retry_after(n, 0.0).num_seconds();
        assert_eq!([1, 2, 3, 8, 9, 1000].map(seconds), [5, 15, 45, 10_935, 14_400, 14_400]);
        assert_eq!(retry_after(1, 1.0), TimeDelta::seconds(6));
        let all: i64 = (1..=13).map(seconds).sum();
        assert!(all > GIVE_UP_AFTER.num_seconds(), "{all}");
    }
}
