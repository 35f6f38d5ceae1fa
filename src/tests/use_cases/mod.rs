//! The use cases on a real database.

mod migrations;
mod reconciling;
mod tracks;
mod uploads;
