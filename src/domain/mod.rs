//! The pure core of the service: uploads, their states, and the rules.
//!
//! Nothing here is async, uses a database, a store or the network, or reads the clock. A rule about
//! declared values belongs to [`policy`], about received bytes to [`rules`], about states to
//! [`transition`], about rows compared with objects to [`reconcile`]. Each has a table test.

pub mod address;
pub mod api_key;
pub mod attachment;
pub mod backoff;
pub mod bearer_token;
pub mod checksum;
pub mod clock;
pub mod concurrency_limit;
pub mod damage;
pub mod detail;
pub mod envelope;
pub mod event;
pub mod history;
pub mod ids;
pub mod inspection;
pub mod key;
pub mod limits;
pub mod location;
pub mod marker;
pub mod media;
pub mod metadata;
pub mod object_copy;
pub mod object_settings;
pub mod origin;
pub mod parts;
pub mod policy;
pub mod principal;
pub mod reconcile;
pub mod reject_reason;
pub mod rules;
pub mod run;
pub mod scope;
pub mod sniff;
pub mod sns;
pub mod subject;
pub mod track;
pub mod transition;
pub mod tus;
pub mod upload;
pub mod upload_token;
pub mod webhook;

pub use attachment::Attachment;
pub use checksum::{Algorithm, Checksum};
pub use clock::{Clock, Timestamp};
pub use concurrency_limit::{ConcurrencyLimit, LimitReached, Permit};
pub use history::StatusChange;
pub use ids::{IdSource, Owner, RunId, TrackId, UploadId, UploadTokenId};
pub use key::{KeyRange, ObjectKey, Prefix, Shard};
pub use location::{Location, LocationNumber};
pub use object_copy::ObjectCopy;
pub use parts::PartPlan;
pub use policy::{Policy, PolicyName};
pub use principal::Principal;
pub use reject_reason::RejectReason;
pub use scope::{Scope, Scopes};
pub use subject::Subject;
pub use track::Track;
pub use upload::{Status, Upload};
pub use upload_token::UploadToken;
