//! Object stores: the contract that all stores fulfil, and the probe that finds their differences.

mod azure;
mod keys_and_hosts;
mod probe;
pub mod servers;
mod store_contract;
mod transfers;
mod trouble;
