//! The use cases on a real database.

mod aborts;
mod migrations;
mod multipart;
mod purging;
mod reconciling;
mod reconciling_trouble;
mod tracks;
mod uploads;
