//! The modules of `src/domain` that read files.

#![allow(dead_code, unused_imports, reason = "only the service uses all items")]

#[path = "../../src/domain/media/mod.rs"]
pub mod media;
#[path = "../../src/domain/sniff/mod.rs"]
pub mod sniff;
