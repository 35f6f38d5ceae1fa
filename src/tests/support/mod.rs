//! Helpers for the tests: a database for each test, stores, clocks, a running service.

use std::collections::BTreeMap;

use upload_coordinator::config::{Config, Sources};
use upload_coordinator::domain::{Policy, PolicyName};

pub mod app;
pub mod clamd;
pub mod database;
pub mod failing_proxy;
pub mod live;
pub mod log;
pub mod mutate;
pub mod proxy;
pub mod served;
pub mod wait;
pub mod world;

/// The first bytes of a real MP3: an `ID3v2` tag's header.
pub const ID3: &[u8] = b"ID3\x04\x00\x00\x00\x00\x00\x00";

/// The first bytes of a real PNG.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

/// The policies of the default configuration. A test changes the keys that matter to it.
pub fn policies() -> BTreeMap<PolicyName, Policy> {
    let config = Config::from_sources(&Sources::default());
    config.unwrap().domain_policies()
}

/// An MP3 of `len` bytes: MPEG frames filled with `seed`, so that different seeds make different
/// files.
pub fn mp3(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 417);
    while bytes.len() < len {
        // MPEG 1 layer III, 128 kbit/s, 44.1 kHz: frames of 417 bytes.
        bytes.extend_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        let n = bytes.len();
        bytes.resize(n + 413, seed);
    }
    bytes.truncate(len);
    bytes
}
