//! The pure heart of the service: what an upload is, which states it passes through and
//! what an observation of the bucket means for it.
//!
//! Nothing here is async, talks to a database, a store or the network, or reads the
//! clock. To add a rule: put it in [`policy`] when it judges a declaration, in [`verdict`]
//! when it judges bytes, in [`transition`] when it changes a state, in [`reconcile`] when it
//! compares a row with an object; then extend the table test beside it.

pub mod address;
pub mod api_key;
pub mod backoff;
pub mod checksum;
pub mod clock;
pub mod concurrency_limit;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod key;
pub mod limits;
pub mod parts;
pub mod policy;
pub mod reconcile;
pub mod run;
pub mod scope;
pub mod sniff;
pub mod track;
pub mod transition;
pub mod upload;
pub mod verdict;
pub mod webhook;

pub use checksum::{Algorithm, Checksum};
pub use clock::{Clock, Timestamp};
pub use concurrency_limit::{ConcurrencyLimit, LimitReached, Permit};
pub use ids::{IdSource, Owner, RunId, TrackId, UploadId};
pub use key::{KeyRange, ObjectKey, Prefix, Shard};
pub use parts::PartPlan;
pub use policy::{Policy, PolicyName};
pub use scope::{Scope, Scopes};
pub use track::Track;
pub use upload::{Status, Upload};
