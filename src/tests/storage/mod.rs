//! Object stores: the contract that all of them keep, and the probe that tells them apart.

mod probe;
mod servers;
mod store_contract;
mod trouble;
