//! The use cases on a real database.

mod migrations;
mod multipart;
mod reconciling;
mod tracks;
mod uploads;
