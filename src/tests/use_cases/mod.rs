//! The use cases on a real database.

mod aborts;
mod adopting;
mod bucket_identity;
mod cancelling;
mod contention;
mod copies;
mod creating;
mod damage_by_owner;
mod findings;
mod lists;
mod migrations;
mod multipart;
mod online_migrations;
mod planning;
mod purging;
mod real_files;
mod reconciling;
mod reconciling_trouble;
mod renewing;
mod safe_deletion;
mod safety_limits;
mod serving;
mod sharing;
mod tracks;
mod uploads;
mod verifying;
