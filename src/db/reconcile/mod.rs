//! The tables of reconciliation: runs, their shards, findings and missing candidates, the marker,
//! and the reconciler's reads of uploads across owners.

pub mod damage;
pub mod findings;
pub(super) mod finish_shards;
pub mod marker;
pub mod missing_candidates;
mod run_row;
pub mod runs;
pub mod scan;
mod shard_row;
mod shard_writes;
pub mod shards;
