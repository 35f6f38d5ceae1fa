//! The identity of the database.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::bucket_identity::instance::{InstanceReport, MarkerReport};
use crate::domain::marker::BucketIdentity;

/// The identity of the database, and the markers of its policies.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Instance)]
pub struct InstanceView {
    /// The id of the database, which its markers contain.
    pub id: Uuid,
    /// The previous id, if the id was reissued.
    #[schema(required)]
    pub former_id: Option<Uuid>,
    /// The markers, for each policy. A marker is an object in a policy's bucket that contains the
    /// id of the database that owns the objects.
    pub markers: Vec<MarkerView>,
}

/// The marker of a policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Marker)]
pub struct MarkerView {
    /// The policy.
    pub policy: String,
    /// The policy's store.
    pub store: String,
    /// The store's bucket.
    pub bucket: String,
    /// The marker's key.
    pub key: String,
    /// Whether the marker shows that the bucket belongs to this database.
    pub trusted: bool,
    /// Why the bucket is not trusted, and what to do.
    #[schema(required)]
    pub reason: Option<String>,
}

impl From<InstanceReport> for InstanceView {
    fn from(report: InstanceReport) -> Self {
        let InstanceReport { id, former, markers } = report;
        let markers = markers.into_iter().map(MarkerView::from).collect();
        Self { id, former_id: former, markers }
    }
}

impl From<MarkerReport> for MarkerView {
    fn from(report: MarkerReport) -> Self {
        let MarkerReport { policy, store, bucket, key, identity } = report;
        let trusted = identity == BucketIdentity::Match;
        let reason = (!trusted).then(|| identity.to_string());
        Self { policy: policy.as_str().to_owned(), store, bucket, key, trusted, reason }
    }
}
