//! End-to-end tests of the real binary over the network.

mod azure;
mod buckets;
mod copies;
#[cfg(feature = "embedded-s3")]
mod credentials;
mod dev;
#[cfg(feature = "embedded-s3")]
mod disk_full;
mod doctor;
#[cfg(feature = "embedded-s3")]
mod former_stores;
mod inspection;
mod inspection_backfill;
mod inspection_dialects;
mod kill;
mod main_job;
#[cfg(feature = "embedded-s3")]
mod moves;
mod multipart;
mod outage;
mod replicas;
mod shutdown;
mod start;
mod tls;
mod tus;
#[cfg(feature = "embedded-s3")]
mod unconditional;
mod upgrade;
