//! The embedded S3 server, over the wire: the AWS SDK as the client, and raw requests
//! where a client must misbehave.

#![allow(clippy::unwrap_used, reason = "the helpers of tests stand outside of test functions")]

mod browser;
mod conditional;
mod durability;
mod integrity;
mod limits;
mod listing;
mod multipart;
mod objects;
mod recovery;
mod refusals;
mod signing;
mod streaming;
mod support;
