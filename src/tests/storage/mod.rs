//! Object stores: the contract that all of them keep, and the probe that tells them apart.

mod keys_and_hosts;
mod probe;
pub mod servers;
mod store_contract;
mod trouble;
