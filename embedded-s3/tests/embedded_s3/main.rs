//! Tests of the embedded S3 server over the network: the AWS SDK is the client, and raw requests
//! are used for invalid behaviour.

#![allow(clippy::unwrap_used, reason = "helpers of tests are outside of test functions")]

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
