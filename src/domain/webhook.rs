//! What application backends are told of an upload, and when it is told again.

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

/// For how long a delivery is tried.
pub const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);

/// The events that there are.
pub const EVENTS: [&str; 6] = [
    "upload.uploaded",
    "upload.rejected",
    "upload.expired",
    "upload.cancelled",
    "upload.missing",
    "upload.removed",
];

/// Who is to be told of what.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// `[webhooks.<name>]`.
    pub name: String,
    /// These events only; none is all.
    pub events: Vec<String>,
}

impl Subscriber {
    /// Whether this event is for it.
    pub fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted == event)
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// To be sent, or being sent.
    Pending,
    /// The receiver took it.
    Delivered,
    /// Given up; an administrator may have it sent again.
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

/// One piece of news for one endpoint.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Sent as `webhook-id`: the same at every attempt.
    pub id: Uuid,
    /// To whom.
    pub endpoint: String,
    /// Of which upload.
    pub upload: UploadId,
    /// Such as `upload.uploaded`.
    pub event: String,
    /// The body, to the letter.
    pub payload: String,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// How often it was sent.
    pub attempts: i32,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: Timestamp,
    /// After this it is given up.
    pub give_up_at: Timestamp,
    /// What went wrong last.
    pub error: Option<String>,
    /// When the upload changed.
    pub created_at: Timestamp,
    /// When the receiver took it.
    pub delivered_at: Option<Timestamp>,
}

/// The event of a status; there is none for waiting.
pub fn event_of(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::Pending => return None,
        Status::Uploaded => "upload.uploaded",
        Status::Rejected => "upload.rejected",
        Status::Expired => "upload.expired",
        Status::Cancelled => "upload.cancelled",
        Status::Missing => "upload.missing",
        Status::Removed => "upload.removed",
    })
}

/// The id of a change's delivery to an endpoint: the same change gives the same id.
pub fn delivery_id(endpoint: &str, upload: &Upload) -> Uuid {
    let text = format!("{endpoint}\n{}\n{}", upload.id, upload.version);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The body: `type`, `timestamp` and `data`, the upload as the API shows it.
pub fn message(event: &str, upload: &Upload) -> String {
    let verified = upload.state.verified();
    let facts = upload.state.facts();
    let declared = &upload.declared;
    let checksum = facts.map_or(declared.checksum.as_ref(), |facts| facts.checksum.as_ref());
    let reason = match &upload.state {
        State::Rejected { reason, .. } => Some(reason.name()),
        State::Removed { reason, .. } => Some(reason.name()),
        _ => None,
    };
    let data = json!({
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
        "confirmed_by": verified.map(|verified| verified.confirmed_by.name()),
        "late": verified.is_some_and(|verified| verified.late),
        "reason": reason,
        "created_at": upload.created_at,
        "updated_at": upload.updated_at,
        "uploaded_at": verified.map(|verified| verified.at),
    });
    json!({"type": event, "timestamp": upload.updated_at, "data": data}).to_string()
}

fn checksum_value(checksum: &Checksum) -> Value {
    json!({"algorithm": checksum.algorithm().name(), "value": checksum.value()})
}

/// How long after its n-th failure a delivery is sent again: 5 s, then three times as
/// long each time up to 4 h, by up to a fifth more. `chance` is from 0 to 1.
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
    fn retries_begin_soon_and_thin_out_over_the_day() {
        let seconds = |n| retry_after(n, 0.0).num_seconds();
        assert_eq!([1, 2, 3, 8, 9, 1000].map(seconds), [5, 15, 45, 10_935, 14_400, 14_400]);
        assert_eq!(retry_after(1, 1.0), TimeDelta::seconds(6));
        let all: i64 = (1..=13).map(seconds).sum();
        assert!(all > GIVE_UP_AFTER.num_seconds(), "{all}");
    }
}
